"""Reads that need more than a view of the state: ended allocations and history, from the event store.

What lives is read from `engine.state` through `core.views`, synchronously; nothing here does that again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.core.events import Granted, Queued
    from raftalloc.core.records import Allocation, Waiting
    from raftalloc.ports import EventStore
    from raftalloc.service.engine import Engine


@dataclass(frozen=True, slots=True)
class Past:
    """An allocation that ended (`granted` set), or a request withdrawn before it started (`queued` set)."""

    granted: Granted | None
    queued: Queued | None
    granted_ms: int
    index: int
    reason: str
    ended_ms: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One grant, and its end where it has ended (`ended_ms` 0: live)."""

    granted: Granted
    granted_ms: int
    index: int
    ended_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Rows, newest grant first. next_before: what to ask for next; 0: there is no more."""

    rows: tuple[HistoryRow, ...]
    next_before: int


class Queries:
    """Asks state and store."""

    def __init__(self, *, engine: Engine, store: EventStore) -> None:
        """Reads only."""
        raise NotImplementedError

    async def find(self, number: int) -> Allocation | Waiting | Past | None:
        """An allocation or request by any of its ids; None if it was never given or its end has left the store."""
        raise NotImplementedError

    async def history(
        self,
        *,
        agent_id: str = "",
        workflow_id: str = "",
        from_ms: int = 0,
        to_ms: int = 0,
        limit: int = 100,
        before: int = 0,
    ) -> HistoryPage:
        """Grants of an agent or workflow (one of them is required) within [from_ms, to_ms], newest first.

        `to_ms` 0: now. `before`: `next_before` of the page before. A page holds whole entries, so it may have a few more rows than
        `limit`. Raises InvalidRequest where neither is named.
        """
        raise NotImplementedError
