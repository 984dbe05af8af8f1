"""The course of amounts over time, in a bounded number of equal steps.

How long a run will be is not known while it is recorded: the step begins at a millisecond, and when
the steps run out, neighbours are joined and the step doubles. Amounts are held as integrals
(amount x ms), so joining loses nothing but the detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STEPS_MAX: Final = 512
"""Steps kept; half as many at least, once the run is as many milliseconds long."""


class Series:
    """Integrals of piecewise constant amounts from `origin_ms` on, by name."""

    def __init__(self, origin_ms: int) -> None:
        self.origin_ms = origin_ms
        self.step_ms = 1
        self.end_ms = origin_ms
        self._columns: dict[str, list[int]] = {}

    def add(self, end_ms: int, amounts: Mapping[str, int]) -> None:
        """From the end so far to `end_ms` the amounts were these; names left out were 0."""
        assert end_ms >= self.end_ms
        while end_ms - self.origin_ms > self.step_ms * STEPS_MAX:
            self._join()
        columns = [(self._column(name), amount) for name, amount in amounts.items() if amount]
        at_ms = self.end_ms
        while at_ms < end_ms:
            step = (at_ms - self.origin_ms) // self.step_ms
            until_ms = min(end_ms, self.origin_ms + (step + 1) * self.step_ms)
            for column, amount in columns:
                column[step] += amount * (until_ms - at_ms)
            at_ms = until_ms
        self.end_ms = end_ms

    def length(self) -> int:
        """Steps that have begun."""
        return -(-(self.end_ms - self.origin_ms) // self.step_ms)

    def integrals(self, name: str) -> list[int]:
        """Amount x ms in each step that has begun."""
        return self._columns.get(name, [0] * STEPS_MAX)[: self.length()]

    def _column(self, name: str) -> list[int]:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = [0] * STEPS_MAX
        return column

    def _join(self) -> None:
        self.step_ms *= 2
        rest = [0] * (STEPS_MAX // 2)
        for column in self._columns.values():
            column[:] = [a + b for a, b in zip(column[::2], column[1::2], strict=True)] + rest
