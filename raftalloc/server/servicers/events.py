"""Events: the append-only allocation event log, as this replica has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import events_pb2
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert
from raftalloc.server.render_events import EVENT_TYPES, event_message, history_row
from raftalloc.service.watch import EventFilter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from raftalloc.server.rpc import Call
    from raftalloc.service.query import Queries
    from raftalloc.service.watch import Watches


class EventsServicer:
    """See protos/raftalloc/api/v1/events.proto."""

    def __init__(self, *, watches: Watches, queries: Queries) -> None:
        """Reads only."""
        self._watches = watches
        self._queries = queries

    async def Watch(
        self, request: events_pb2.WatchRequest, call: Call
    ) -> AsyncGenerator[events_pb2.WatchResponse, None]:
        """Events from an index on, and then as they happen."""
        convert.no_surplus(request)
        from_index = checks.identifier("from_index", request.from_index)
        stream = self._watches.watch(from_index, _filter(request.filter))
        try:
            async for seen in stream:
                yield events_pb2.WatchResponse(
                    events=[event_message(each) for each in seen.events], index=seen.index
                )
        finally:
            await stream.aclose()

    async def Read(self, request: events_pb2.ReadRequest, call: Call) -> events_pb2.ReadResponse:
        """A page of events by index."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        from_index = checks.identifier("from_index", request.from_index)
        page = await self._watches.read(from_index, limit, _filter(request.filter))
        return events_pb2.ReadResponse(
            events=[event_message(each) for each in page.events],
            next_index=page.next_index,
            head_index=page.head_index,
            lowest_index=page.lowest_index,
        )

    async def ReadBlocks(
        self, request: events_pb2.ReadBlocksRequest, call: Call
    ) -> events_pb2.ReadBlocksResponse:
        """A page of blocks, as they are stored."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        page = await self._watches.blocks(
            checks.identifier("from_index", request.from_index), limit
        )
        return events_pb2.ReadBlocksResponse(
            blocks=[events_pb2.Block(index=index, block=data) for index, data in page.blocks],
            next_index=page.next_index,
            head_index=page.head_index,
            lowest_index=page.lowest_index,
            from_the_first=page.from_the_first,
        )

    async def History(
        self, request: events_pb2.HistoryRequest, call: Call
    ) -> events_pb2.HistoryResponse:
        """Allocations of an agent or workflow, newest first."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        if not (request.agent_id or request.workflow_id):
            raise InvalidRequest("agent_id", "is missing", "name an agent_id or a workflow_id")
        page = await self._queries.history(
            agent_id=checks.name("agent_id", request.agent_id),
            workflow_id=checks.name("workflow_id", request.workflow_id),
            from_ms=checks.time_ms("from_ms", request.from_ms),
            to_ms=checks.time_ms("to_ms", request.to_ms),
            limit=limit,
            before=checks.identifier("page_before", request.page_before),
        )
        return events_pb2.HistoryResponse(
            rows=[history_row(row) for row in page.rows], next_page_before=page.next_before
        )


def _filter(wanted: events_pb2.EventFilter) -> EventFilter:
    """Which events are wanted; types must be known."""
    convert.no_surplus(wanted)
    checks.at_most("filter.types", wanted.types, len(EVENT_TYPES))
    return EventFilter(
        types=tuple(checks.one_of("filter.types", each, EVENT_TYPES) for each in wanted.types),
        agent_id=checks.name("filter.agent_id", wanted.agent_id),
        workflow_id=checks.name("filter.workflow_id", wanted.workflow_id),
        subject=checks.identifier("filter.subject", wanted.subject),
    )
