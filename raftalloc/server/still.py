"""The reads of the API over a state that stands still: the same servicers, and no way to change anything.

It runs in the process of a reader (server/reader.py). What a servicer refuses goes back as a name and bytes, and is the
same exception again on the other side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from raftalloc.api.v1 import admin_pb2, types_pb2
from raftalloc.core import views
from raftalloc.core.codec import CHAIN_START, encode_state
from raftalloc.core.state import State
from raftalloc.errors import InvalidRequest, RaftallocError, Rejected, ReplicaFailed
from raftalloc.server import checks, convert
from raftalloc.server.rpc import Call, dated_table
from raftalloc.server.servicers.allocator import AllocatorServicer
from raftalloc.server.servicers.fleet import FleetServicer
from raftalloc.server.servicers.queue import QueueServicer
from raftalloc.server.servicers.quotas import QuotasServicer
from raftalloc.server.servicers.reservations import ReservationsServicer
from raftalloc.server.servicers.usage import UsageServicer
from raftalloc.server.servicers.writes import Writer
from raftalloc.server.status import detail_of
from raftalloc.server.whatif import WhatIfServicer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raftalloc.core.commands import Asked
    from raftalloc.core.records import Allocation, Waiting
    from raftalloc.server.rpc import Rpc
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine
    from raftalloc.service.query import Queries
    from raftalloc.service.submit import Submitter
    from raftalloc.service.ticker import Ticker


STATE_PART_BYTES: Final = 1 << 20


class StillState:
    """A state in the place of an engine, a clock, queries and a submitter. It knows what the state knows."""

    def __init__(self) -> None:
        """The state before the first entry."""
        self.state = State.genesis()
        self.clock_ms = 0
        self.chain: bytes = CHAIN_START

    @property
    def index(self) -> int:
        """The last that is in the state."""
        return self.state.index

    def now_ms(self) -> int:
        """When that was, or what time it is by now where the state is that of now."""
        return max(self.state.now_ms, self.clock_ms)

    async def find(self, number: int) -> Allocation | Waiting | None:
        """What was live or waiting."""
        return views.allocation(self.state, number) or views.waiting(self.state, number)

    async def decision_of(self, number: int) -> None:
        """Here is a state, and no log."""

    async def submit(self, asked: Sequence[Asked]) -> None:
        """Nobody changes the past."""
        raise AssertionError(f"{len(asked)} commands for a state that stands still")


class StateServicer:
    """Admin/ReadState: the bytes of the state, in parts. Those of the last state asked for are kept."""

    def __init__(self, still: StillState) -> None:
        """Over this state."""
        self._still = still
        self._of: State | None = None
        self._index = -1
        self._data = b""

    async def ReadState(
        self, request: admin_pb2.ReadStateRequest, call: Call
    ) -> admin_pb2.ReadStateResponse:
        """A part that begins at `offset`."""
        convert.no_surplus(request)
        offset = checks.identifier("offset", request.offset)
        state = self._still.state
        if state is not self._of or state.index != self._index:
            self._of, self._index, self._data = state, state.index, encode_state(state)
        return admin_pb2.ReadStateResponse(
            index=state.index,
            total_bytes=len(self._data),
            part=self._data[offset : offset + STATE_PART_BYTES],
            chain_digest=self._still.chain.hex(),
        )


class StillReads:
    """Answers the calls that may name a moment, from the state that it is given."""

    def __init__(self, *, default_policy: int) -> None:
        """`default_policy`: of core.commands, for requests that name none."""
        self.still = StillState()
        self._rpcs: Mapping[str, Rpc] = dated_table(_servicers(self.still, default_policy))

    async def answer(self, path: str, data: bytes, principal: str, now_ms: int) -> bytes:
        """The answer to one call, as bytes. Raises what the servicer does. `now_ms` 0: what the state says."""
        self.still.clock_ms = now_ms
        rpc = self._rpcs[path]
        answer = await rpc.handler(rpc.request_type.FromString(data), Call(principal=principal))
        return bytes(answer.SerializeToString())


def _servicers(still: StillState, default_policy: int) -> Mapping[str, object]:
    # Servicers read `state` and `index` of an engine and nothing else; the rest is for calls that do not come here.
    engine = cast("Engine", still)
    writer = Writer(cast("Submitter", still))
    return {
        "Admin": StateServicer(still),
        "Allocator": AllocatorServicer(
            engine=engine,
            writer=writer,
            queries=cast("Queries", still),
            default_policy=default_policy,
        ),
        "Usage": UsageServicer(engine=engine, clock=cast("ClusterClock", still)),
        "Reservations": ReservationsServicer(engine=engine, writer=writer),
        "Fleet": FleetServicer(
            engine=engine, writer=writer, ticker=cast("Ticker", still), heartbeat_timeout_ms=0
        ),
        "Quotas": QuotasServicer(engine=engine, writer=writer),
        "Queue": QueueServicer(engine=engine, writer=writer),
        "Simulation": WhatIfServicer(still, default_policy=default_policy),
    }


def refusal_of(error: Exception) -> tuple[str, tuple[str, bytes]]:
    """An exception as a name, its text, and a Rejection in bytes where it says more."""
    detail = detail_of(error)
    return type(error).__name__, (str(error), detail.SerializeToString() if detail else b"")


def error_of(name: str, detail: Any) -> RaftallocError:
    """The exception again."""
    text, data = detail
    said = types_pb2.Rejection.FromString(data)
    if name == "Rejected":
        numbers = dict(said.numbers)
        return Rejected(
            said.code, said.message, field=said.field, remedy=said.remedy, numbers=numbers
        )
    if name == "InvalidRequest":
        return InvalidRequest(said.field, said.message, said.remedy)
    return ReplicaFailed(f"the reader of past states failed: {name}: {text}")
