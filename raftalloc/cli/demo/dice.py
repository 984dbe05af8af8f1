"""Numbers that look random and follow from a seed alone, so that a run's workload can be asked for again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class Dice:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a counter, well mixed."""

    def __init__(self, seed: int) -> None:
        """Two seeds that differ give streams that look unrelated."""
        self._state = seed & _MASK

    def roll(self) -> int:
        """In 0 .. 2^64 - 1."""
        self._state = (self._state + _GOLDEN) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def between(self, low: int, high: int) -> int:
        """In low .. high, both included."""
        return low + self.roll() % (high - low + 1)

    def pick(self, items: Sequence[Item]) -> Item:
        """One of them."""
        return items[self.roll() % len(items)]

    def percent(self, chance: int) -> bool:
        """True in `chance` of 100 cases."""
        return self.roll() % 100 < chance
