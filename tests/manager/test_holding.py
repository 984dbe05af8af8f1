"""What a holder does with its grant, and what becomes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from raftalloc import (
    Priority,
    Rejected,
    ResourceManager,
    ResourceRequest,
)
from raftalloc.api.v1 import fleet_pb2
from tests.manager.fleet import START, asks, furnish

if TYPE_CHECKING:
    from raftalloc.cli.group import LocalGroup
    from tests.conftest import Run
    from tests.manager.conftest import Make


def test_a_grant_is_renewed_and_released_and_then_gone(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            allocation = await manager.allocate_resources(
                asks("renewer", duration=60, lease_ttl=30)
            )
            assert allocation.expires_at is not None
            assert allocation.ends_at is not None
            expires_at, ends_at = allocation.expires_at, allocation.ends_at
            await asyncio.sleep(0.02)
            await allocation.renew(extension=60)
            assert allocation.expires_at > expires_at
            assert allocation.ends_at >= ends_at + timedelta(seconds=60)
            await allocation.release()
            await allocation.release()
            assert await manager.allocations_of("renewer") == []

    run(scene())


def test_async_with_releases_and_a_refusal_has_nothing_to_release(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(asks("visitor")) as allocation:
                assert allocation.success
                assert len(await manager.allocations_of("visitor")) == 1
            assert await manager.allocations_of("visitor") == []
            too_much = ResourceRequest(agent_id="visitor", resources={"gpu": 60})
            async with await manager.allocate_resources(too_much) as allocation:
                assert not allocation.success

    run(scene())


def test_async_with_bears_that_the_group_ended_it_first(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(asks("short", duration=0.1)) as allocation:
                assert allocation.success
                await asyncio.sleep(1.3)
            explicit = await manager.allocate_resources(asks("short", duration=0.1))
            await asyncio.sleep(1.3)
            with pytest.raises(Rejected, match="ended"):
                await explicit.release()

    run(scene())


def test_a_restarted_agent_takes_its_grants_up_again(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            before = await manager.allocate_resources(asks("phoenix", lease_ttl=5))
        async with make() as manager:
            (after,) = await manager.allocations_of("phoenix")
            assert (after.id, after.fencing_token) == (before.id, before.fencing_token)
            assert after.allocated_resources == {"gpu": 1}
            await after.release()

    run(scene())


def test_a_lease_lives_on_while_the_manager_does_and_no_longer(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            held = await manager.allocate_resources(asks("alive", lease_ttl=0.9))
            await asyncio.sleep(2.5)
            assert held.lost is None
            assert len(await manager.allocations_of("alive", keep_alive=False)) == 1
        async with make() as manager:
            # A group that starts cold gives its leases a grace.
            async with asyncio.timeout(20):
                while await manager.allocations_of("alive", keep_alive=False):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

    run(scene())


def test_a_holder_hears_that_its_lease_is_lost(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            await furnish(manager)
            held = await manager.allocate_resources(asks("evicted", lease_ttl=0.3))
            remove = fleet_pb2.RemoveNodeRequest(node_id="gpu-1", force=True)
            await manager.client.fleet.remove_node(remove)
            lost = await asyncio.wait_for(held.wait_lost(), 5)
            assert isinstance(lost, Rejected)
            assert held.lost is lost

    run(scene())


def test_an_array_is_one_allocation_with_members(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            array = await manager.allocate_resources(asks("array", count=3))
            assert array.success
            assert [member.allocated_resources for member in array.members] == [{"gpu": 1}] * 3
            assert len({member.id for member in array.members}) == 3
            await array.release()
            assert await manager.allocations_of("array") == []
            gang = await manager.allocate_resources(asks("array", count=5, gang=True))
            assert not gang.success

    run(scene())


def test_a_reservation_is_drawn_from_by_its_id(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            await furnish(manager)
            now_ms = (await manager.client.usage.utilization()).at_ms
            soon = datetime.fromtimestamp(now_ms / 1000, UTC) + timedelta(seconds=1)
            window = await manager.reserve_resources(
                "check", soon, 60, {"gpu": 4}, Priority.CRITICAL
            )
            assert window.success, window.reason
            assert window.state == "BOOKED"
            await asyncio.sleep(2.2)
            assert not (await manager.allocate_resources(asks("other"))).success
            drawn = await manager.allocate_resources(asks("check_1", reservation_id=window.id))
            assert drawn.success, drawn.reason
            await window.cancel()
            assert await manager.allocations_of("check_1") == []

    run(scene())


def test_the_same_idempotency_key_is_the_same_grant(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            key = f"once-{START.timestamp()}"
            first = await manager.allocate_resources(asks("again", idempotency_key=key))
            second = await manager.allocate_resources(asks("again", idempotency_key=key))
            assert first.id == second.id
            await first.release()

    run(scene())


@pytest.mark.cluster
def test_when_the_leader_is_killed_the_manager_goes_on_and_leases_with_it(
    run: Run, group: LocalGroup
) -> None:
    async def scene() -> None:
        async with ResourceManager(endpoints=group.endpoints, tls=group.tls, timeout=20) as manager:
            await furnish(manager)
            held = await manager.allocate_resources(asks("survivor_1", lease_ttl=3))
            leader = await group.wait_leader()
            await group.kill(leader)
            more = await manager.allocate_resources(asks("survivor_2"))
            assert more.success
            assert more.fencing_token > held.fencing_token
            await asyncio.sleep(3.5)
            assert held.lost is None
            assert [each.id for each in await manager.allocations_of("survivor_1")] == [held.id]
            for allocation in (held, more):
                await allocation.release()
            group.start(leader)
            await group.wait_answering(leader)
        await group.close()

    run(scene(), timeout=90)
