"""What a client does about a replica that keeps its connection and says nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import admin_pb2, allocator_pb2, types_pb2
from raftalloc.client.client import Client
from raftalloc.errors import OutcomeUnknown

if TYPE_CHECKING:
    from tests.conftest import Run

ALLOCATE = "Allocator/Allocate"
STATUS = "Admin/Status"
REQUEST = allocator_pb2.AllocateRequest(agent_id="a", resources={"cpu": 1000})
GRANTED = allocator_pb2.AllocateResponse(
    granted=allocator_pb2.Granted(allocations=[types_pb2.Allocation(id=5)]), index=9
)


async def granted(request: Any, context: Any) -> Any:
    return GRANTED


async def nothing(request: Any, context: Any) -> Any:
    await asyncio.Event().wait()


def leader_is(address: str) -> Any:
    async def status(request: Any, context: Any) -> Any:
        return admin_pb2.StatusResponse(leader_address=address)

    return status


def test_a_silent_leader_is_left_once_others_name_another(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with (
            replicas(3) as group,
            Client([each.address for each in group], attempt_timeout=25) as client,
        ):
            paused, follower, leader = group
            paused.answers[ALLOCATE] = nothing
            leader.answers[ALLOCATE] = granted
            follower.answers[STATUS] = leader.answers[STATUS] = leader_is(leader.address)
            calls = [client.allocator.allocate(REQUEST, timeout=25) for _ in range(3)]
            assert await asyncio.wait_for(asyncio.gather(*calls), 10) == [GRANTED] * 3
            first, second = paused.requests(ALLOCATE), leader.requests(ALLOCATE)
            stamps = [
                sorted(each.idempotency.sequence for each in each_of) for each_of in (first, second)
            ]
            assert stamps == [[1, 2, 3]] * 2, "the same attempts, each made once more"
            assert client.leader == leader.address
            await client.allocator.allocate(REQUEST)
            assert len(paused.requests(ALLOCATE)) == 3, "nobody goes there again"

    run(scene())


def test_a_busy_leader_is_waited_for(run: Run, replicas: Any) -> None:
    async def slowly(request: Any, context: Any) -> Any:
        await asyncio.sleep(1.2)
        return GRANTED

    async def scene() -> None:
        async with replicas(3) as group, Client([each.address for each in group]) as client:
            group[0].answers[ALLOCATE] = slowly
            for other in group[1:]:
                other.answers[STATUS] = leader_is(group[0].address)
            assert await client.allocator.allocate(REQUEST) == GRANTED
            assert len(group[0].requests(ALLOCATE)) == 1
            assert group[1].requests(STATUS), "the others were asked"

    run(scene())


def test_where_nobody_knows_a_leader_the_attempt_ends_as_it_would(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with (
            replicas(2) as group,
            Client([each.address for each in group], attempt_timeout=0.8) as client,
        ):
            for each in group:
                each.answers[ALLOCATE] = nothing
                each.answers[STATUS] = leader_is("")
            with pytest.raises(OutcomeUnknown):
                await client.allocator.allocate(REQUEST, timeout=1.2)

    run(scene())


def test_a_client_that_is_closed_asks_nobody(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(2) as group:
            client = Client([each.address for each in group])
            for each in group:
                each.answers[ALLOCATE] = nothing
                each.answers[STATUS] = nothing
            call = asyncio.create_task(client.allocator.allocate(REQUEST, timeout=20))
            await asyncio.sleep(0.6)
            call.cancel()
            await client.close()
            with pytest.raises(asyncio.CancelledError):
                await call

    run(scene())  # which fails where tasks are left


def test_a_lone_replica_is_nobody_to_ask_about(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client([group[0].address]) as client:

            async def slowly(request: Any, context: Any) -> Any:
                await asyncio.sleep(0.6)
                return GRANTED

            group[0].answers[ALLOCATE] = slowly
            assert await client.allocator.allocate(REQUEST) == GRANTED

    run(scene())
