"""Calls that name a moment (`at_index`, `at_time_ms`): a reader of past states answers them, on any replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raftalloc.errors import InvalidRequest
from raftalloc.server import checks
from raftalloc.server.still import error_of
from raftalloc.service.past import At, ReaderError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from raftalloc.server.rpc import Call, Rpc
    from raftalloc.service.past import PastStates


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

    def __init__(self, states: PastStates) -> None:
        """The states of this replica."""
        self._states = states

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
        data = await self.ask(at, "read", rpc.path, undated.SerializeToString(), call.principal)
        return rpc.response_type.FromString(data)

    async def ask(self, at: At, question: str, *arguments: object) -> bytes:
        """The reader's answer; what it refuses is an exception of ours again."""
        try:
            return await self._states.ask(at, question, *arguments)
        except ReaderError as error:
            raise error_of(error.name, error.detail) from error
