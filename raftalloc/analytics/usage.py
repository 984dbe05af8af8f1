"""How much of each kind was taken, over time: the mean, the peak and the course.

Shares are parts per million of what was registered at that moment, on nodes and providers of any
state. An instant is a whole entry: what one entry gives back and another takes is no dip.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from raftalloc.analytics.series import Series
from raftalloc.core.quantities import Vector

MILLION: Final = 1_000_000


class Usage:
    """Fed with `advance` to the time of the next change, then with the change."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.capacity: Counter[str] = Counter()
        self.course: Series | None = None
        self.course_capacity: Series | None = None
        self._rows: dict[str, Vector] = {}
        self._at_ms = 0
        self._mean_open = True
        self._used_sum: Counter[str] = Counter()
        self._capacity_sum: Counter[str] = Counter()
        self._peaks: dict[str, tuple[int, int]] = {}

    def advance(self, at_ms: int) -> None:
        """Nothing changed until now. The first call begins the course."""
        if self.course is None or self.course_capacity is None:
            self.course, self.course_capacity = Series(at_ms), Series(at_ms)
            self._at_ms = at_ms
        span_ms = at_ms - self._at_ms
        if span_ms <= 0:
            return
        self.course.add(at_ms, self.used)
        self.course_capacity.add(at_ms, self.capacity)
        if self._mean_open:
            for kind, total in self.capacity.items():
                self._capacity_sum[kind] += total * span_ms
                self._used_sum[kind] += self.used[kind] * span_ms
        self._at_ms = at_ms

    def close_mean(self) -> None:
        """What comes later is part of the course, not of the mean.

        Where no time has passed until now, the mean is what is taken at this moment.
        """
        self._mean_open = False
        if not self._capacity_sum.total():
            self._capacity_sum.update(self.capacity)
            self._used_sum.update(self.used)

    def register(self, row: str, capacity: Vector) -> None:
        """A node or provider has this capacity from now on; empty: it is gone."""
        self.capacity.subtract(dict(self._rows.get(row, ())))
        self.capacity.update(dict(capacity))
        self._rows[row] = capacity

    def take(self, demand: Vector, count: int = 1) -> None:
        """`count` allocations of this demand begin; negative: end."""
        for kind, amount in demand:
            self.used[kind] += amount * count

    def note_peaks(self) -> None:
        """The changes of this instant are complete."""
        for kind, used in self.used.items():
            capacity = self.capacity[kind]
            peak_used, peak_capacity = self._peaks.get(kind, (0, 1))
            if used * peak_capacity > peak_used * capacity and capacity > 0:
                self._peaks[kind] = (used, capacity)

    def kinds(self) -> list[str]:
        """Those with capacity, in order of registration."""
        return [kind for kind, total in self.capacity.items() if total > 0]

    def capacity_ms(self) -> dict[str, int]:
        """Kind -> capacity x ms, until `close_mean`."""
        return dict(self._capacity_sum)

    def mean_ppm(self, kind: str) -> int:
        """The share taken in the mean over time, until `close_mean`."""
        return _ppm(self._used_sum[kind], self._capacity_sum[kind])

    def peak_ppm(self, kind: str) -> int:
        """The highest share taken at once."""
        return _ppm(*self._peaks.get(kind, (0, 1)))

    def course_ppm(self, kind: str) -> list[int]:
        """The share taken in the mean of each step of `course`."""
        if self.course is None or self.course_capacity is None:
            return []
        pairs = zip(self.course.integrals(kind), self.course_capacity.integrals(kind), strict=True)
        return [_ppm(used, capacity) for used, capacity in pairs]


def _ppm(part: int, whole: int) -> int:
    """Rounded half up; 0 of nothing."""
    return (2 * part * MILLION + whole) // (2 * whole) if whole else 0
