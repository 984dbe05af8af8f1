"""Calls that name a moment (`at_index`, `at_time_ms`): a reader of past states answers them, on any replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from raftalloc.api.v1.allocator_pb2 import ExplainResponse
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks
from raftalloc.server.still import error_of
from raftalloc.service.past import At, ReaderError

if TYPE_CHECKING:
    from raftalloc.server.rpc import Call, Rpc
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.past import PastStates

Answer = TypeVar("Answer", bound=Message)


def moment_of(request: Any) -> At:
    """The moment that a request names. Raises InvalidRequest."""
    at = At(
        checks.identifier("at_index", request.at_index),
        checks.time_ms("at_time_ms", request.at_time_ms),
    )
    if at.index and at.time_ms:
        raise InvalidRequest("at_time_ms", "is given beside at_index", "give one of them")
    return at


class PastReads:
    """Hands such calls to past states."""

    def __init__(self, states: PastStates, clock: ClusterClock) -> None:
        """The states of this replica, and what time it is."""
        self._states = states
        self._clock = clock

    def asks(self, rpc: Rpc, request: Any) -> bool:
        """Whether this call is about another moment than now."""
        return rpc.is_dated and bool(request.at_index or request.at_time_ms)

    async def answer(self, rpc: Rpc, request: Any, call: Call) -> Message:
        """As the servicer would have answered then. Raises Compacted, InvalidRequest, Rejected, Unavailable."""
        at = moment_of(request)
        undated = rpc.request_type()
        undated.CopyFrom(request)
        undated.ClearField("at_index")
        undated.ClearField("at_time_ms")
        return await self.read(at, rpc.path, undated, rpc.response_type, call)

    async def decision(self, index: int, block: bytes, sequence: int) -> ExplainResponse:
        """What the decision about an event of that block saw. Raises InvalidRequest, Compacted."""
        at = At(index - 1) if index > 1 else At(time_ms=1)
        return ExplainResponse.FromString(await self._asked(at, "decision", block, sequence))

    async def read(
        self, at: At, path: str, request: Message, response_type: type[Answer], call: Call
    ) -> Answer:
        """The reader's answer to a call at a moment, which may be now; what it refuses is raised as by a servicer."""
        now_ms = self._clock.now_ms() if at.is_now else 0
        data = request.SerializeToString()
        answer = await self._asked(at, "read", path, data, call.principal, now_ms)
        return response_type.FromString(answer)

    async def _asked(self, at: At, question: str, *arguments: object) -> bytes:
        try:
            return await self._states.ask(at, question, *arguments)
        except ReaderError as error:
            raise error_of(error.name, error.detail) from error
