"""Simulation: commands tried on a copy of the state, which a reader carries out (server/whatif.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import simulation_pb2
from raftalloc.server import convert, steps
from raftalloc.service.past import At

if TYPE_CHECKING:
    from raftalloc.server.past import PastReads
    from raftalloc.server.rpc import Call

PATH: Final = "/raftalloc.api.v1.Simulation/WhatIf"


class SimulationServicer:
    """See protos/raftalloc/api/v1/simulation.proto."""

    def __init__(self, *, past: PastReads) -> None:
        """The past states of this replica; the newest of them is now."""
        self._past = past

    async def WhatIf(
        self, request: simulation_pb2.WhatIfRequest, call: Call
    ) -> simulation_pb2.WhatIfResponse:
        """What would come of these steps now; of those at another moment the past takes care by itself."""
        convert.no_surplus(request)
        steps.check_count(request.steps)
        return await self._past.read(At(), PATH, request, simulation_pb2.WhatIfResponse, call)
