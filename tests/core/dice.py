"""Choices, drawn by hypothesis (so that a failure shrinks) or from a seed (so that a log can be had again, quickly)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Dice(Protocol):
    """What a walk asks for."""

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""


class DrawnDice:
    """Lets hypothesis choose."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def pick(self, choices: Sequence[T]) -> T:
        place: int = self._data.draw(st.integers(0, len(choices) - 1))
        return choices[place]


class SeededDice:
    """The same choices for the same seed, in every process and release."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rolls = 0

    def pick(self, choices: Sequence[T]) -> T:
        self._rolls += 1
        roll = blake2b(b"%d %d" % (self._seed, self._rolls), digest_size=8).digest()
        return choices[int.from_bytes(roll, "big") % len(choices)]
