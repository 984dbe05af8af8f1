"""Seeded randomness: one stream for each purpose, so that a change in one place leaves the others as they were."""

from __future__ import annotations

import random  # noqa: TID251 - the seeded source behind every port of the simulation


class Dice(random.Random):
    """A stream of its own for `purpose`. Also a `ports.Rng`."""

    def __init__(self, seed: int, purpose: str) -> None:
        super().__init__(f"{seed}/{purpose}")

    def __new__(cls, *_arguments: object) -> Dice:
        return super().__new__(cls)

    def token(self, bytes_count: int) -> bytes:
        return self.randbytes(bytes_count)

    def happens(self, chance: float) -> bool:
        return self.random() < chance
