"""The manager looks back, and asks what if."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc import ResourceManager, ResourceRequest, SyncResourceManager
from raftalloc.api.v1.simulation_pb2 import WhatIfStep
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run


def test_figures_of_then_are_those_that_were_given_then(run: Run, tmp_path: Path):
    async def story() -> None:
        async with ResourceManager(data_dir=str(tmp_path)) as manager:
            await manager.register_node("n1", {"cpu": 8})
            await manager.set_quota("a", {"cpu": 4})
            before = await manager.get_utilization_metrics()
            quota = await manager.get_quota_usage("a")
            allocation = await manager.allocate_resources(
                ResourceRequest(agent_id="a_1", resources={"cpu": 2})
            )
            assert allocation.success
            then = await manager.get_utilization_metrics(at=before.index)
            assert (then.cpu.used, before.cpu.used) == (0, 0)
            assert (await manager.get_quota_usage("a", at=before.index)).cpu == quota.cpu
            assert (await manager.get_quota_usage("a")).cpu.used == 2
            for wrong in (0, -1, "yesterday"):
                with pytest.raises(InvalidRequest):
                    await manager.get_utilization_metrics(at=wrong)

    run(story())


def test_what_if_tries_and_does_nothing(run: Run, tmp_path: Path):
    async def story() -> None:
        async with ResourceManager(data_dir=str(tmp_path)) as manager:
            await manager.register_node("n1", {"cpu": 8})
            request = ResourceRequest(agent_id="a_1", resources={"cpu": 6}, duration="1h")
            answer = await manager.what_if(
                request, WhatIfStep(lose_node="n1"), request, WhatIfStep(advance_ms=3_600_000)
            )
            assert answer.outcomes[0].allocated.granted.allocations[0].node_id == "n1"
            assert answer.outcomes[2].allocated.rejected.code == "NO_CAPACITY"
            assert (answer.before.active_allocations, answer.after.active_allocations) == (0, 0)
            assert (await manager.get_utilization_metrics()).active_allocations == 0

    run(story())


def test_the_synchronous_manager_asks_the_same(tmp_path: Path):
    with SyncResourceManager(data_dir=str(tmp_path)) as manager:
        manager.register_node("n1", {"cpu": 8})
        answer = manager.what_if(ResourceRequest(agent_id="a_1", resources={"cpu": 9}))
        assert answer.outcomes[0].allocated.rejected.code == "UNSATISFIABLE"
