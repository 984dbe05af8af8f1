"""Reads that need more than a view of the state: ended allocations and history, from the event store.

What lives is read from `engine.state` through `core.views`, synchronously; nothing here does that again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, views
from raftalloc.core.events import Ended, Granted, Preempting, Queued, Spared, Withdrawn
from raftalloc.errors import InvalidRequest
from raftalloc.service.indexing import agent_key, allocation_key, workflow_key

if TYPE_CHECKING:
    from raftalloc.core.records import Allocation, Waiting
    from raftalloc.ports import EventReader
    from raftalloc.service.engine import Engine

INDEX_MAX: Final = (1 << 63) - 1
PAGE_BLOCKS: Final = 64
BLOCKS_MAX: Final = 4096
"""Blocks that one history page looks at: beyond, it answers what it has and where to go on."""


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

    def __init__(self, *, engine: Engine, store: EventReader) -> None:
        """Reads only."""
        self._engine = engine
        self._store = store

    async def find(self, number: int) -> Allocation | Waiting | Past | None:
        """An allocation or request by any of its ids; None if it was never given or its end has left the store."""
        state = self._engine.state
        live = views.allocation(state, number) or views.waiting(state, number)
        if live is not None or number <= 0:
            return live
        await self._engine.stored(self._engine.index)
        return await self._past(number)

    async def decision_of(self, number: int) -> tuple[int, int] | None:
        """Index and number within the entry of the event that decided last about an allocation or request.

        That is Preempting, unless it was spared; else Granted; else Queued. None: it has left the store, or never was.
        """
        await self._engine.stored(self._engine.index)
        queued, spared, position = None, False, INDEX_MAX
        while blocks := await self._store.find(allocation_key(number), position, PAGE_BLOCKS):
            for index, data in blocks:
                position = index
                happened = codec.decode_events(codec.decode_block(data).events)
                for sequence, item in reversed(list(enumerate(happened))):
                    match item.event:
                        case Spared(allocation_id=found) if found == number:
                            spared = True
                        case Preempting(allocation_id=found) if found == number and not spared:
                            return index, sequence
                        case Granted(allocation_id=found) if found == number:
                            return index, sequence
                        case Queued(request_id=found) if found == number:
                            queued = (index, sequence)
                        case _:
                            continue
        return queued

    async def block_at(self, index: int) -> bytes | None:
        """The block of an index; None where there is none."""
        await self._engine.stored(self._engine.index)
        found = await self._store.read(index, 1)
        return found[0][1] if found and found[0][0] == index else None

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

        `to_ms` 0: now. `before`: `next_before` of the page before. A page holds whole entries, so it may have a few
        more rows than `limit`. Raises InvalidRequest where neither is named.
        """
        if not agent_id and not workflow_id:
            raise InvalidRequest(
                "agent_id", "neither agent nor workflow is named", "name one of them"
            )
        await self._engine.stored(self._engine.index)
        scan = _Scan(agent_id, workflow_id, from_ms, to_ms or INDEX_MAX)
        key = agent_key(agent_id) if agent_id else workflow_key(workflow_id)
        position = before or INDEX_MAX
        looked_at = 0
        while len(scan.grants) < limit and looked_at < BLOCKS_MAX:
            blocks = await self._store.find(key, position, PAGE_BLOCKS)
            for index, data in blocks:
                block = codec.decode_block(data)
                if block.at_ms < from_ms:
                    return await self._page(scan, 0)
                scan.take(block)
                position = index
                if len(scan.grants) >= limit:
                    break
            if not blocks:
                return await self._page(scan, 0)
            looked_at += len(blocks)
        return await self._page(scan, position)

    async def _page(self, scan: _Scan, next_before: int) -> HistoryPage:
        rows = [await self._row(scan, grant) for grant in scan.grants]
        return HistoryPage(tuple(rows), next_before)

    async def _row(self, scan: _Scan, grant: _Grant) -> HistoryRow:
        """Its end is in the blocks that were scanned, or in the state, or in a block newer than the page."""
        number = grant.event.allocation_id
        reason, ended_ms = scan.ends.get(number, ("", 0))
        state = self._engine.state
        if not reason and views.allocation(state, number) is None:
            ended = views.ended(state, number)
            if ended is not None:
                reason, ended_ms = ended.reason, ended.ended_ms
            else:
                past = await self._past(number)
                reason, ended_ms = (past.reason, past.ended_ms) if past else ("", 0)
        return HistoryRow(grant.event, grant.at_ms, grant.index, ended_ms, reason)

    async def _past(self, number: int) -> Past | None:
        """Look through the blocks of one id, newest first: its end comes before its beginning."""
        reason, ended_ms, position = "", 0, INDEX_MAX
        while blocks := await self._store.find(allocation_key(number), position, PAGE_BLOCKS):
            for index, data in blocks:
                position = index
                block = codec.decode_block(data)
                for item in reversed(codec.decode_events(block.events)):
                    match item.event:
                        case Ended(allocation_id=found) if found == number:
                            reason, ended_ms = item.event.reason, block.at_ms
                        case Withdrawn(request_id=found) if found == number:
                            reason, ended_ms = item.event.reason, block.at_ms
                        case Granted(allocation_id=found) if found == number:
                            return Past(item.event, None, block.at_ms, index, reason, ended_ms)
                        case Queued(request_id=found) if found == number and reason:
                            return Past(None, item.event, 0, index, reason, ended_ms)
                        case _:
                            continue
        return None


@dataclass(frozen=True, slots=True)
class _Grant:
    event: Granted
    at_ms: int
    index: int


class _Scan:
    """What a walk back through the blocks of one agent or workflow has found."""

    def __init__(self, agent_id: str, workflow_id: str, from_ms: int, to_ms: int) -> None:
        """Both ids must match where both are given."""
        self._agent_id = agent_id
        self._workflow_id = workflow_id
        self._from_ms = from_ms
        self._to_ms = to_ms
        self.grants: list[_Grant] = []
        self.ends: dict[int, tuple[str, int]] = {}

    def take(self, block: codec.Block) -> None:
        """Its events, last first."""
        for item in reversed(codec.decode_events(block.events)):
            event = item.event
            if isinstance(event, Ended):
                self.ends[event.allocation_id] = (event.reason, block.at_ms)
            elif isinstance(event, Granted) and self._wants(event, block.at_ms):
                self.grants.append(_Grant(event, block.at_ms, block.index))

    def _wants(self, event: Granted, at_ms: int) -> bool:
        return (
            self._from_ms <= at_ms <= self._to_ms
            and self._agent_id in ("", event.agent_id)
            and self._workflow_id in ("", event.workflow_id)
        )
