"""Entries that no replica can apply, and how the group passes over one (docs/troubleshooting.md).

Somebody marks the entry as skipped in the Raft log of a majority of the replicas, while they are stopped (`raftalloc
log skip`). Each tells the others once a second which entries it skips. A replica that hears of an entry from a majority
skips it too, so that no replica applies what the others did not; and a replica that stopped at an entry before waits a
moment, before it tries again, for them to say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sized

    from raftalloc.ports import Clock

logger = get_logger(__name__)

HOLD_SECONDS: Final = 6.0
"""So long an entry at which this replica stopped is not tried again: the others speak once a second."""
SKIPS_MAX: Final = 64


class SkippingLog(Protocol):
    """What of `raft.member.Member` this stands on."""

    @property
    def skips(self) -> Mapping[int, str]:
        """Why entries are skipped, by index."""

    @property
    def members(self) -> Sized:
        """The group as this replica knows it."""

    def learn_skip(self, index: int, at_ms: int, reason: str) -> bool:
        """Skip this entry too."""


class Skips:
    """What this replica knows of entries to be skipped. Event loop only."""

    def __init__(self, *, clock: Clock, stopped_at: int) -> None:
        """`stopped_at`: index of the entry that this replica could not apply when it last ran; 0: none."""
        self._clock = clock
        self._held_index = stopped_at
        self._held_until: float | None = None
        self._log: SkippingLog | None = None
        self._heard: dict[int, dict[str, str]] = {}

    def attach(self, log: SkippingLog) -> None:
        """Whose log it is."""
        self._log = log

    def group_size(self) -> int:
        """How many members the group has, as far as is known here."""
        return 1 if self._log is None else len(self._log.members)

    def known(self) -> dict[int, str]:
        """Those of our log, the newest SKIPS_MAX."""
        skips = {} if self._log is None else self._log.skips
        return {index: skips[index] for index in sorted(skips)[-SKIPS_MAX:]}

    def skippers(self, index: int) -> list[str]:
        """Other replicas that are known to skip this entry."""
        return sorted(self._heard.get(index, ()))

    def hear(self, replica_id: str, skips: Mapping[int, str]) -> None:
        """Another replica skips these."""
        for index, reason in skips.items():
            if index not in self._heard and len(self._heard) >= SKIPS_MAX:
                del self._heard[min(self._heard)]
            self._heard.setdefault(index, {})[replica_id] = reason
        self.look()

    def look(self) -> None:
        """Learn what a majority skips, as soon as the entry is in our log."""
        log = self._log
        if log is None or not self._heard:
            return
        for index, reasons in self._heard.items():
            if 2 * len(reasons) > self.group_size() and index not in log.skips:
                name = min(reasons)
                if log.learn_skip(index, self._clock.wall_ms(), f"as {name}: {reasons[name]}"):
                    logger.warning(
                        "skip an entry as the others do", index=index, replicas=len(reasons)
                    )

    def may_apply(self, index: int) -> bool:
        """False while it is still worth waiting for the others' word on this entry."""
        if index != self._held_index or (self._log is not None and index in self._log.skips):
            return True
        now = self._clock.monotonic()
        if self._held_until is None:
            logger.warning(
                "this entry stopped this replica before; waiting for the others", index=index
            )
            self._held_until = now + HOLD_SECONDS
        if now < self._held_until:
            return False
        self._held_index = 0
        return True
