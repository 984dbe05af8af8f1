"""The client of the Simulation service: what would happen if."""

from __future__ import annotations

from raftalloc.api.v1 import simulation_pb2
from raftalloc.client.service import PAST_TIMEOUT_S, Service


class SimulationService(Service):
    """Commands tried on a copy of the state. Changes nothing."""

    path = "Simulation"

    async def what_if(
        self, request: simulation_pb2.WhatIfRequest, *, timeout: float | None = None
    ) -> simulation_pb2.WhatIfResponse:
        """What would come of these steps. Raises InvalidRequest, which names the step; Compacted."""
        seconds = PAST_TIMEOUT_S if timeout is None else timeout
        return await self._caller.aimed(
            "",
            self._method("WhatIf"),
            request,
            simulation_pb2.WhatIfResponse,
            timeout=seconds,
        )
