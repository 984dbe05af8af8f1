"""The directed schedules against pysyncobj's own message handler, as it comes: which of its defects each shows."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pysyncobj import SyncObj

from tests.simulation import directed
from tests.simulation.bench import Bench, MemoryLog

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFECTS = {
    "a_snapshot_on_its_way_commits_nothing": "S1",
    "cut_only_at_a_conflict": "S2",
    "never_cut_what_is_committed": "S2",
    "answers_of_another_term_do_not_count": "S3",
    "votes_are_collected_by_voter": "S12",
    "a_higher_term_deposes": "A1",
    "whoever_hears_a_leader_supports_nobody": "A2",
    "a_conflicting_term_is_stepped_over_at_once": "A3",
}
"""Schedule -> what it shows of the library."""
_BORROWED = ("getEntries", "sendNextNodeIdx", "getCurrentLogIndex", "getCurrentLogTerm")


class StockLog(MemoryLog):
    """As the library's journal."""

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 - pysyncobj's name
        del self[position:]


class StockBench(Bench):
    """Replica a with the library's handler, and the library's methods that it calls."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._SyncObj__raftLog = StockLog(self._SyncObj__raftLog)
        self._SyncObj__conf = SimpleNamespace(dynamicMembershipChange=False)
        self._SyncObj__votesCount = 1
        self._SyncObj__serializer = SimpleNamespace(setTransmissionData=lambda _part: False)
        for name in _BORROWED:
            method = getattr(SyncObj, f"_SyncObj__{name}")
            setattr(self, f"_SyncObj__{name}", method.__get__(self))

    def handle(self, node: Any, message: Any) -> None:
        SyncObj._SyncObj__onMessageReceived(self, node, message)

    def _SyncObj__onLeaderChanged(self) -> None:  # noqa: N802
        """Nobody waits for an answer here."""


@contextlib.contextmanager
def handlers() -> Iterator[None]:
    """With the library's handler in the place of ours."""
    schedules = vars(directed)
    ours, schedules["Bench"] = schedules["Bench"], StockBench
    try:
        yield
    finally:
        schedules["Bench"] = ours
