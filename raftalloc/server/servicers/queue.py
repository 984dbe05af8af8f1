"""Queue: how requests that wait are served, and who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import queue_pb2
from raftalloc.core import views
from raftalloc.server import checks, convert, render

if TYPE_CHECKING:
    from raftalloc.server.rpc import Call
    from raftalloc.server.servicers.writes import Writer
    from raftalloc.service.engine import Engine


class QueueServicer:
    """See protos/raftalloc/api/v1/queue.proto."""

    def __init__(self, *, engine: Engine, writer: Writer) -> None:
        """Reads the state, writes through `writer`."""
        self._engine = engine
        self._writer = writer

    async def SetQueue(
        self, request: queue_pb2.SetQueueRequest, call: Call
    ) -> queue_pb2.SetQueueResponse:
        """Serve the queue otherwise."""
        outcome = await self._writer.done(convert.set_queue(request), request.idempotency, call)
        settings = render.queue_settings(self._engine.state.queue.settings)
        return queue_pb2.SetQueueResponse(settings=settings, index=outcome.index)

    async def GetQueue(
        self, request: queue_pb2.GetQueueRequest, call: Call
    ) -> queue_pb2.GetQueueResponse:
        """The settings."""
        convert.no_surplus(request)
        state = self._engine.state
        return queue_pb2.GetQueueResponse(
            settings=render.queue_settings(state.queue.settings),
            waiting_count=state.waiting_count(),
            index=self._engine.index,
        )

    async def ListQueue(
        self, request: queue_pb2.ListQueueRequest, call: Call
    ) -> queue_pb2.ListQueueResponse:
        """Who waits, next first."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        after = checks.identifier("page_after", request.page_after)
        rows = views.queue(self._engine.state, after=after, limit=limit + 1)
        return queue_pb2.ListQueueResponse(
            rows=[render.queue_row(row) for row in rows[:limit]],
            next_page_after=after + limit if len(rows) > limit else 0,
            index=self._engine.index,
        )
