"""Rows x kinds, int64: what each node and provider has, what of it is used, held and free.

Shapes: `capacity`, `used`, `held`, `free` are (rows, kinds), column-major, since a decision reads whole columns
of the few kinds it asks for. free = capacity - used - held, kept up to date, and negative where capacity was
lowered under use. `score` is (rows,): the sum over kinds of weight x free, by which best_fit ranks (design
9.18).

Cost of one charge: one row of `free` and its score, O(kinds). Sums over a whole fleet are Python ints: int64 does not
hold them. What is free counts as nothing in a score where it is negative: after capacity was lowered it can be as far
below zero as the fleet is small, and weight x free would not fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]

WEIGHT_UNIT = 1 << 48
"""Weight of a kind = WEIGHT_UNIT // the fleet's capacity of it.

A whole fleet then scores 2^48 a kind, and 64 kinds of it stay under 2^55.
"""
_ROWS_MIN = 64
_KINDS_MIN = 16


class Matrix:
    """The arrays. Rows are given out by the fleet; columns by the kinds."""

    __slots__ = ("capacity", "changed", "changes", "free", "held", "score", "used", "weights")

    def __init__(self) -> None:
        """Start with no capacity anywhere."""
        self.capacity = _zeros(_ROWS_MIN, _KINDS_MIN)
        self.used = _zeros(_ROWS_MIN, _KINDS_MIN)
        self.held = _zeros(_ROWS_MIN, _KINDS_MIN)
        self.free = _zeros(_ROWS_MIN, _KINDS_MIN)
        self.score = np.zeros(_ROWS_MIN, np.int64)
        self.weights = np.zeros(_KINDS_MIN, np.int64)
        # When each row last changed, counted in changes: for what is derived row by row. Not part of the state.
        self.changed = np.zeros(_ROWS_MIN, np.int64)
        self.changes = 0

    def make_room(self, rows: int, kinds: int) -> None:
        """Grow by doubling until (rows, kinds) fit."""
        have_rows, have_kinds = self.capacity.shape
        if rows <= have_rows and kinds <= have_kinds:
            return
        new_rows, new_kinds = have_rows, have_kinds
        while new_rows < rows:
            new_rows *= 2
        while new_kinds < kinds:
            new_kinds *= 2
        for name in ("capacity", "used", "held", "free"):
            grown = _zeros(new_rows, new_kinds)
            grown[:have_rows, :have_kinds] = getattr(self, name)
            setattr(self, name, grown)
        self.score = np.concatenate([self.score, np.zeros(new_rows - have_rows, np.int64)])
        self.changed = np.concatenate([self.changed, np.zeros(new_rows - have_rows, np.int64)])
        self.weights = np.concatenate([self.weights, np.zeros(new_kinds - have_kinds, np.int64)])

    def set_capacity(self, row: int, capacity: Mapping[int, int]) -> None:
        """Replace a row's capacity; `capacity` maps columns to amounts."""
        self.capacity[row] = 0
        for kind, amount in capacity.items():
            self.capacity[row, kind] = amount
        self._settle_row(row)

    def change(self, row: int, kind: int, *, used: int = 0, held: int = 0) -> None:
        """Add to what is used and held of one kind on one row. `settle_row` is done here: callers see free at once."""
        self.used[row, kind] += used
        self.held[row, kind] += held
        assert self.used[row, kind] >= 0, "more was given back than was used"
        assert self.held[row, kind] >= 0, "more was drawn than was held"
        self._settle_row(row)

    def set_weights(self, weights: Mapping[int, int]) -> None:
        """A new epoch: every score is computed again."""
        self.weights[:] = 0
        for kind, weight in weights.items():
            self.weights[kind] = weight
        self.score = score_of(self.free, self.weights)

    def settle_all(self) -> None:
        """Compute `free` and `score` from the rest, after a restore."""
        self.free = np.asfortranarray(self.capacity - self.used - self.held)
        self.score = score_of(self.free, self.weights)

    def _settle_row(self, row: int) -> None:
        self.free[row] = self.capacity[row] - self.used[row] - self.held[row]
        self.score[row] = score_of(self.free[row], self.weights)
        self.changes += 1
        self.changed[row] = self.changes


def score_of(free: Column, weights: Column) -> Column:
    """(..., kinds) free, (kinds,) weights -> (...): sum over kinds of weight x free, of what is free at all."""
    score: Column = (np.maximum(free, 0) * weights).sum(axis=-1)
    return score


def exact_sum(amounts: Column) -> int:
    """The sum of amounts that are not negative, exact where int64 would overflow: summed in two halves."""
    low = (1 << 25) - 1
    return (int((amounts >> 25).sum()) << 25) + int((amounts & low).sum())


def _zeros(rows: int, kinds: int) -> Column:
    return np.zeros((rows, kinds), np.int64, order="F")
