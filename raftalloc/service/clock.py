"""The group's clock, as this replica knows it (docs/architecture.md, "Time is data").

A leader stamps `T_last + (monotonic now - monotonic at receipt of T_last)`, where T_last is the latest time heard from
a living leader: from its heartbeats, so within tens of milliseconds. A jump of one machine's wall clock therefore
changes nothing. Wall time is read only where nobody has been heard of since this process started - the whole group
starts cold - and neither takes the group's clock back nor forward by more than OUTAGE_MS_MAX. The gap that a new leader
finds is given back to leases and sessions; after a cold start GRACE_MS beside, since nobody knows how much earlier the
group went down than its last entry says, and how far the wall clock is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftalloc.ports import Clock

OUTAGE_MS_MAX: Final = 30 * 86_400_000
"""A cold start later than this after the last entry is taken for a wall clock that is wrong."""
GRACE_MS: Final = 5_000


class ClusterClock:
    """Milliseconds of the group's clock; see the module. All methods are called on the event loop."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is heard yet."""
        self._clock = clock
        self._heard_ms = 0
        self._heard_at: float | None = None
        self._floor_ms = 0

    @property
    def is_cold(self) -> bool:
        """Whether no leader has been heard of since this process started."""
        return self._heard_at is None

    def hear(self, at_ms: int) -> None:
        """A living leader says that it is `at_ms` now."""
        self._heard_ms = at_ms
        self._heard_at = self._clock.monotonic()

    def take_lead(self, applied_ms: int) -> int:
        """Begin to stamp, behind a state whose time is `applied_ms`. Answers the gap without a leader, in ms."""
        last_ms = max(applied_ms, self._heard_ms)
        grace_ms = 0
        if self.is_cold:
            now_ms, grace_ms = self._clock.wall_ms(), GRACE_MS
            if last_ms:
                now_ms = min(now_ms, last_ms + OUTAGE_MS_MAX)
            self.hear(max(now_ms, last_ms))
        gap_ms = self._estimate_ms() - last_ms + grace_ms
        # A state at time 0 has no leases, and all of history is no gap.
        return max(gap_ms, 0) if last_ms else 0

    def stamp(self, applied_ms: int) -> int:
        """The time of the entry that is about to be proposed: never below `applied_ms`, nor an earlier stamp."""
        self._floor_ms = max(self._estimate_ms(), applied_ms, self._floor_ms)
        return self._floor_ms

    def now_ms(self) -> int:
        """What time it is in the group, for reading and for heartbeats. 0: not known yet."""
        return max(self._estimate_ms(), self._floor_ms)

    def _estimate_ms(self) -> int:
        if self._heard_at is None:
            return 0
        return self._heard_ms + int((self._clock.monotonic() - self._heard_at) * 1000)
