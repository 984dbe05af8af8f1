"""Streams that survive the loss of a replica: each goes on where it was, at another one.

`watch` resumes behind the last event that was handed out. `allocate_stream` sends again what was not answered, with the
same idempotency, so that each request is still carried out once. Either gives up once it has been without an answer for
its whole timeout, however often the stream broke meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final, TypeVar

from raftalloc.api.v1 import allocator_pb2, events_pb2
from raftalloc.client.calls import check_timeout, loop_time
from raftalloc.errors import OutcomeUnknown, RaftallocError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from raftalloc.client.calls import Caller
    from raftalloc.client.sessions import Stamp

Response = TypeVar("Response")

UNDER_WAY_MAX: Final = 1024

_log = logging.getLogger(__name__)


async def watch(
    caller: Caller, method: str, request: events_pb2.WatchRequest, *, timeout: float | None = None
) -> AsyncGenerator[events_pb2.WatchResponse, None]:
    """Every response with what is new in it. Ends only by an exception, or when the caller closes it.

    `timeout`: seconds over which every stream broke before anything came; None: that of the client's calls.
    """
    asked = events_pb2.WatchRequest()
    asked.CopyFrom(request)
    seen = (0, -1)
    patience = _Patience(caller, timeout)
    while True:
        address = caller.router.pick()
        responses = caller.router.transport(address).stream(method, asked, events_pb2.WatchResponse)
        try:
            async with _closing(responses) as stream:
                async for response in stream:
                    patience.answered()
                    fresh = _fresh(response, seen)
                    if fresh.events:
                        seen = (fresh.events[-1].index, fresh.events[-1].sequence)
                    # All up to response.index has come, so the next index is enough; else the last event's, once more.
                    asked.from_index = max(asked.from_index, response.index + 1, seen[0])
                    yield fresh
                raise Unavailable(f"{address} ended the stream")
        except (Unavailable, OutcomeUnknown) as error:
            await patience.broken(address, error)


def _fresh(response: events_pb2.WatchResponse, seen: tuple[int, int]) -> events_pb2.WatchResponse:
    """The response without events that were handed out before."""
    if not response.events or (response.events[0].index, response.events[0].sequence) > seen:
        return response
    fresh = [each for each in response.events if (each.index, each.sequence) > seen]
    return events_pb2.WatchResponse(events=fresh, index=response.index)


async def allocate_stream(
    caller: Caller,
    method: str,
    requests: AsyncIterable[allocator_pb2.AllocateRequest],
    *,
    timeout: float | None = None,
) -> AsyncGenerator[allocator_pb2.AllocateResponse, None]:
    """One response per request, in their order; at most UNDER_WAY_MAX requests are taken ahead of their answers.

    Raises OutcomeUnknown where requests that have no answer yet may have been carried out.
    """
    under_way = _UnderWay(caller)
    pump = asyncio.create_task(under_way.fill(requests))
    patience = _Patience(caller, timeout)
    try:
        while not under_way.finished:
            address = caller.router.pick()
            responses = caller.router.transport(address).duplex(
                method, under_way.feed(), allocator_pb2.AllocateResponse
            )
            try:
                async with _closing(responses) as stream:
                    async for response in stream:
                        patience.answered()
                        under_way.answered()
                        yield response
                    if not under_way.finished:
                        raise OutcomeUnknown(f"{address} ended the stream")
            except (Unavailable, OutcomeUnknown) as error:
                await patience.broken(address, error, maybe_done=under_way.maybe_done(error))
        await pump  # raises what the requests raised
    finally:
        pump.cancel()
        await asyncio.wait([pump])
        under_way.close()


class _UnderWay:
    """The requests that have no answer yet, oldest first; `_sent` of them have gone out on the present stream."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._waiting: deque[tuple[allocator_pb2.AllocateRequest, list[Stamp]]] = deque()
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self._changed = asyncio.Event()
        self._sent = 0
        self._streams = 0
        self._unknown: set[int] = set()
        self._complete = False

    @property
    def finished(self) -> bool:
        """Whether no request is left to answer or to come."""
        return self._complete and not self._waiting

    def maybe_done(self, error: RaftallocError) -> bool:
        """After a break: whether one of those without an answer may have been carried out."""
        if isinstance(error, OutcomeUnknown):
            sent = list(self._waiting)[: self._sent]
            self._unknown.update(id(request) for request, _ in sent)
        return any(id(request) in self._unknown for request, _ in self._waiting)

    async def fill(self, requests: AsyncIterable[allocator_pb2.AllocateRequest]) -> None:
        """Take requests in, stamped, while there is room. Apart from the stream, which may break in between."""
        try:
            async for request in requests:
                await self._room.acquire()
                stamped = allocator_pb2.AllocateRequest()
                stamped.CopyFrom(request)
                own = stamped.idempotency.session or stamped.idempotency.key
                stamps = [] if own else await self._caller.stamp([stamped.idempotency])
                self._waiting.append((stamped, stamps))
                self._changed.set()
        finally:
            self._complete = True
            self._changed.set()

    async def feed(self) -> AsyncIterator[allocator_pb2.AllocateRequest]:
        """What a new stream must send: first what the last one left unanswered."""
        self._sent = 0
        self._streams += 1
        mine = self._streams
        while mine == self._streams:  # a stream that broke may still ask for a moment
            if self._sent < len(self._waiting):
                self._sent += 1
                yield self._waiting[self._sent - 1][0]
            elif self._complete:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def answered(self) -> None:
        """The oldest has its answer."""
        request, stamps = self._waiting.popleft()
        self._unknown.discard(id(request))
        self._sent -= 1
        for stamp in stamps:
            self._caller.sessions.done(stamp)
        self._room.release()

    def close(self) -> None:
        """Nobody waits for the rest."""
        for _, stamps in self._waiting:
            for stamp in stamps:
                self._caller.sessions.done(stamp)
        self._waiting.clear()


@contextlib.asynccontextmanager
async def _closing(
    responses: AsyncIterator[Response],
) -> AsyncGenerator[AsyncIterator[Response], None]:
    """End the call when the block is left, and not when the garbage is collected."""
    try:
        yield responses
    finally:
        if isinstance(responses, AsyncGenerator):
            await responses.aclose()


class _Patience:
    """How long a stream has been without an answer, and the pauses between its attempts."""

    def __init__(self, caller: Caller, timeout: float | None) -> None:
        self._caller = caller
        self._seconds = caller.timeout if timeout is None else check_timeout(timeout)
        self._heard_at = loop_time()
        self._breaks = 0

    def answered(self) -> None:
        """Something came; it counts anew from the next break."""
        self._breaks = 0

    async def broken(
        self, address: str, error: RaftallocError, *, maybe_done: bool = False
    ) -> None:
        """Look elsewhere after a pause. Raises once the time is over; OutcomeUnknown if something may be done."""
        _log.debug("stream from %s broke: %s", address, error)
        if not self._breaks:
            self._heard_at = loop_time()
        self._breaks += 1
        self._caller.failed(address, error)
        if loop_time() - self._heard_at >= self._seconds:
            if maybe_done and not isinstance(error, OutcomeUnknown):
                raise OutcomeUnknown(
                    f"what was sent may have been carried out; now: {error}"
                ) from error
            raise error
        await self._caller.pause(self._breaks - 1)
