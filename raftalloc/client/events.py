"""The client of the Events service: the append-only allocation event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import events_pb2
from raftalloc.client.service import PAGE_SIZE, Service
from raftalloc.client.streams import watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class EventsService(Service):
    """The append-only allocation event log."""

    path = "Events"

    async def read(
        self, request: events_pb2.ReadRequest, *, timeout: float | None = None, stale: bool = False
    ) -> events_pb2.ReadResponse:
        """A page of events by index. Raises Compacted."""
        return await self._caller.read(
            self._method("Read"), request, events_pb2.ReadResponse, timeout=timeout, stale=stale
        )

    async def read_blocks(
        self, request: events_pb2.ReadBlocksRequest, *, timeout: float | None = None
    ) -> events_pb2.ReadBlocksResponse:
        """A page of blocks, as they are stored. Raises Compacted."""
        return await self._caller.read(
            self._method("ReadBlocks"), request, events_pb2.ReadBlocksResponse, timeout=timeout
        )

    async def history(
        self,
        request: events_pb2.HistoryRequest,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> events_pb2.HistoryResponse:
        """A page of an agent's or workflow's allocations, newest first."""
        return await self._caller.read(
            self._method("History"),
            request,
            events_pb2.HistoryResponse,
            timeout=timeout,
            stale=stale,
        )

    def watch(
        self, request: events_pb2.WatchRequest | None = None, *, timeout: float | None = None
    ) -> AsyncGenerator[events_pb2.WatchResponse, None]:
        """Events from an index on, each once and in order; resumes where a replica is lost. Raises Compacted.

        `timeout`: seconds without any answer after which it gives up and raises.
        """
        wanted = request or events_pb2.WatchRequest()
        return watch(self._caller, self._method("Watch"), wanted, timeout=timeout)

    async def history_all(
        self, request: events_pb2.HistoryRequest, *, stale: bool = False
    ) -> AsyncGenerator[events_pb2.HistoryResponse.Row, None]:
        """Every page of `history`, newest first."""
        page = events_pb2.HistoryRequest()
        page.CopyFrom(request)
        page.page_size = request.page_size or PAGE_SIZE
        while True:
            answer = await self.history(page, stale=stale)
            for row in answer.rows:
                yield row
            if not answer.next_page_before:
                return
            page.page_before = answer.next_page_before
