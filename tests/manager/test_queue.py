"""The queue from an agent's side: settings, preemption with notice, resizing; embedded and against a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc import InvalidRequest, Priority, Rejected, ResourceRequest
from raftalloc.api.v1 import allocator_pb2, queue_pb2, types_pb2

if TYPE_CHECKING:
    from tests.conftest import Run
    from tests.manager.conftest import Make


def test_settings_are_set_for_all_and_what_is_left_out_stays(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            before = await manager.get_queue()
            assert (before.order, before.ageing) == ("priority_with_fairshare", 3600)
            assert (before.backfill, before.preemption) == ("conservative", "none")
            await manager.set_queue(order="fifo", grace="5s", preemption="lower_priority")
            after = await manager.get_queue()
            assert (after.order, after.ageing, after.grace) == ("fifo", 3600, 5)
            with pytest.raises(InvalidRequest, match="is not known"):
                await manager.set_queue(order="lifo")

    run(scene())


def test_a_live_allocation_is_resized_where_it_is(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            await manager.register_node("n1", {"cpu": 4, "memory": 8})
            request = ResourceRequest(agent_id="a", resources={"cpu": 1, "memory": 2})
            allocation = await manager.allocate_resources(request)
            token = allocation.fencing_token
            await allocation.resize({"cpu": 3, "memory": 1})
            assert allocation.allocated_resources == {"cpu": 3, "memory": 1}
            assert allocation.fencing_token == token
            with pytest.raises(Rejected, match="no feasible node"):
                await allocation.resize({"cpu": 5, "memory": 1})
            assert (await manager.get_quota_usage("a")).cpu.used == 3
            await allocation.release()

    run(scene())


def test_a_victim_is_told_and_the_preemptor_follows(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            await manager.register_node("n1", {"cpu": 4})
            await manager.set_queue(preemption="lower_priority", grace="60s", min_run=0)
            low = await manager.allocate_resources(
                ResourceRequest(agent_id="low", resources={"cpu": 4}, priority=Priority.LOW)
            )
            urgent = allocator_pb2.AllocateRequest(
                agent_id="urgent",
                priority=types_pb2.PRIORITY_CRITICAL,
                resources={"cpu": 4000},
                wait_ms=600_000,
            )
            answer = await manager.client.allocator.allocate(urgent)
            victim = (
                await manager.client.allocator.get(allocator_pb2.GetRequest(id=low.id))
            ).allocation
            assert victim.state == types_pb2.Allocation.STATE_PREEMPTING
            assert victim.preempt_ms > 0
            assert victim.preemptor_id == answer.queued.request_id
            listed = await manager.client.queue.list_queue(queue_pb2.ListQueueRequest())
            assert [(row.claim, row.promised_start_ms) for row in listed.rows] == [
                (True, victim.preempt_ms)
            ]
            await low.release()
            (granted,) = await manager.allocations_of("urgent", keep_alive=False)
            assert granted.id == answer.queued.request_id

    run(scene())
