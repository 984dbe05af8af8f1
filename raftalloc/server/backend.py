"""Every call of the API, however it arrives: from a socket as bytes, or from this process as a message.

gate (limits, deadline, logs, counts) -> route (here, or the leader) -> parse -> servicer
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError, Message

from raftalloc.errors import InvalidRequest, NoLeader, NotLeader, ReplicaFailed, Unavailable
from raftalloc.server.rpc import HOP, READ, Call, Route, Rpc
from raftalloc.server.status import LEADER
from raftalloc.server.streams import ordered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from raftalloc.server.forward import Forwarder
    from raftalloc.server.interceptors import Gate
    from raftalloc.server.leadership import Leadership
    from raftalloc.server.past import PastReads

STREAM_CALLS_MAX: Final = 1_024
_ALLOCATE: Final = "/raftalloc.api.v1.Allocator/Allocate"
_STATUS: Final = "Admin/Status"


class Backend:
    """Answers calls. Raises exceptions of `raftalloc.errors`, PassedOn and TimeoutError; whoever calls maps them."""

    def __init__(
        self,
        *,
        rpcs: Mapping[str, Rpc],
        gate: Gate,
        leadership: Leadership,
        forwarder: Forwarder,
        past: PastReads,
        closed: Callable[[], str] = str,
    ) -> None:
        """`rpcs`: by path. `closed`: why nothing may be answered any more; empty while all is well."""
        self.rpcs = rpcs
        self._gate = gate
        self._leadership = leadership
        self._forwarder = forwarder
        self._past = past
        self._closed = closed
        self._closing = False

    def close(self) -> None:
        """From here on streams that end do so because this replica goes down in peace."""
        self._closing = True

    async def unary(self, rpc: Rpc, data: bytes, call: Call) -> bytes:
        """Answer bytes with bytes; unless this replica may answer, the leader does."""
        return await self._gate.unary(rpc, call, lambda: self._routed(rpc, data, call))

    async def unary_here(self, rpc: Rpc, request: Message, call: Call) -> Message:
        """Answer a message of this process with a message; there is nobody else to ask."""
        return await self._gate.unary(rpc, call, lambda: self._here(rpc, request, call))

    def stream(
        self, rpc: Rpc, request: bytes | Message, call: Call
    ) -> AsyncGenerator[Message, None]:
        """Answers to one request, as the servicer gives them."""
        self._refuse_closed(rpc)
        message = request if isinstance(request, Message) else parse(rpc, request)
        call.trailing[LEADER] = self._leadership.leader_address
        return self._gate.stream(rpc, call, self._in_peace(rpc.handler(message, call)))

    def duplex(self, requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        """AllocateStream: each request is an Allocate of its own; the answers keep the order of the requests."""
        rpc = self.rpcs[_ALLOCATE]

        async def answer(data: bytes) -> bytes:
            each = Call(call.principal, metadata=call.metadata, trailing=call.trailing)
            return await self.unary(rpc, data, each)

        return ordered(requests, answer, STREAM_CALLS_MAX)

    async def _routed(self, rpc: Rpc, data: bytes, call: Call) -> bytes:
        """Here where that is right, else one hop on."""
        self._refuse_closed(rpc)
        request = parse(rpc, data) if rpc.is_dated else None
        is_past = request is not None and self._past.asks(rpc, request)
        if not is_past and not self._is_ours(rpc, call):
            leader = self._leadership.leader_address
            if not leader:
                raise NoLeader("no replica leads at the moment; try again")
            if leader == self._leadership.own_address:
                raise NoLeader("this replica is about to take the lead; try again")
            if HOP in call.metadata:
                raise NotLeader(leader)
            self._gate.forwarded(rpc)
            return await self._forwarder.unary(leader, rpc, data, call)
        if request is None:
            request = parse(rpc, data)
        answer = await self._here(rpc, request, call)
        return answer.SerializeToString()

    async def _here(self, rpc: Rpc, request: Message, call: Call) -> Message:
        self._refuse_closed(rpc)
        try:
            if self._past.asks(rpc, request):
                return await self._past.answer(rpc, request, call)
            if rpc.route is Route.READ and call.metadata.get(READ) != "any":
                await self._leadership.confirm()
            answer: Message = await rpc.handler(request, call)
        except NotLeader as error:
            # Below here replicas are known by their ids; outside, by their addresses.
            raise NotLeader(self._leadership.address_of(error.leader)) from error
        finally:
            call.trailing[LEADER] = self._leadership.leader_address
        return answer

    async def _in_peace(
        self, answers: AsyncGenerator[Message, None]
    ) -> AsyncGenerator[Message, None]:
        """A stream that this replica ends since it goes down may be taken up again at another."""
        try:
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except ReplicaFailed as error:
            if not self._closing and not self._closed():
                raise
            raise Unavailable("this replica goes down; go on at another") from error

    def _refuse_closed(self, rpc: Rpc) -> None:
        """Another replica may answer; this one says only how it is."""
        reason = self._closed()
        if reason and rpc.name != _STATUS:
            raise Unavailable(f"{reason}; ask another")

    def _is_ours(self, rpc: Rpc, call: Call) -> bool:
        if rpc.route is Route.LOCAL or self._leadership.has_lead:
            return True
        return rpc.route is Route.READ and call.metadata.get(READ) == "any"


def parse(rpc: Rpc, data: bytes) -> Message:
    """The request that the bytes are."""
    try:
        return rpc.request_type.FromString(data)
    except DecodeError as error:
        expected = rpc.request_type.DESCRIPTOR.full_name
        raise InvalidRequest("request", f"is no {expected}", "send what the protos say") from error
