"""Usage: what is used, of what, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.core import views
from raftalloc.server import convert, render

if TYPE_CHECKING:
    from raftalloc.api.v1 import usage_pb2
    from raftalloc.server.rpc import Call
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine


class UsageServicer:
    """See protos/raftalloc/api/v1/usage.proto."""

    def __init__(self, *, engine: Engine, clock: ClusterClock) -> None:
        """Reads the state, and what time it is in the group."""
        self._engine = engine
        self._clock = clock

    async def Utilization(
        self, request: usage_pb2.UtilizationRequest, call: Call
    ) -> usage_pb2.UtilizationResponse:
        """The whole fleet, per kind."""
        convert.no_surplus(request)
        state = self._engine.state
        # An idle group writes no entries; those who count back from "now" mean the time of this answer.
        at_ms = max(self._clock.now_ms(), state.now_ms)
        return render.utilization(views.utilization(state), self._engine.index, at_ms)
