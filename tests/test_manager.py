"""The Python surface as users see it: the lines of the design as they stand there, embedded and against a group."""

from __future__ import annotations

import asyncio
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from raftalloc import (
    DataDirectoryError,
    InvalidRequest,
    Priority,
    Rejected,
    ResourceManager,
    ResourceRequest,
    SyncResourceManager,
    Unavailable,
)
from raftalloc.api.v1 import allocator_pb2, fleet_pb2, types_pb2
from raftalloc.cli.group import LocalGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Run

    Make = Callable[[], ResourceManager]

START = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)  # noqa: TID251 - a date ahead of any clock that runs this


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGroup]:
    """Three real replicas on free ports of loopback, shared by the tests of this session."""
    group = LocalGroup.create(tmp_path_factory.mktemp("group"), any_ports=True)
    group.start()

    async def ready() -> None:
        await group.wait_leader()
        await group.close()

    asyncio.run(ready())
    yield group
    asyncio.run(group.stop())


@pytest.fixture(params=["embedded", pytest.param("group", marks=pytest.mark.cluster)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes managers of one and the same service: a data directory, or the group."""
    if request.param == "embedded":
        return lambda: ResourceManager(data_dir=str(tmp_path / "data"))
    group: LocalGroup = request.getfixturevalue("group")
    return lambda: ResourceManager(endpoints=group.endpoints)


@pytest.fixture
def embedded(tmp_path: Path) -> Make:
    return lambda: ResourceManager(data_dir=str(tmp_path / "data"))


async def furnish(manager: ResourceManager) -> None:
    """The fixture fleet: a node with GPUs, and a provider of api_quota."""
    await manager.register_node(
        "gpu-1", {"cpu": 64, "memory": 256, "disk": 1000}, devices=["A100"] * 4
    )
    await manager.register_node("gateway", {"api_quota": 100_000}, provider=True)


def asks(agent_id: str, **more: object) -> ResourceRequest:
    return ResourceRequest(agent_id=agent_id, resources={"gpu": 1}, **more)  # type: ignore[arg-type]  # fields by name


def test_the_lines_of_the_design_run_as_they_are_written(run: Run, make: Make) -> None:
    async def scene() -> None:
        manager = make()
        await manager.initialize()
        await furnish(manager)
        await manager.start_resource_tracking()

        allocation = await manager.allocate_resources(ResourceRequest(
            agent_id="policy_analyzer_01", workflow_id="compliance_audit_2024", priority=Priority.HIGH,
            resources={"cpu": 4, "memory": 8, "disk": 50, "api_quota": 1000}, duration=3600))  # fmt: skip
        assert allocation.success, allocation.reason
        assert allocation.allocated_resources == {
            "cpu": 4,
            "memory": 8,
            "disk": 50,
            "api_quota": 1000,
        }
        assert allocation.node_id in ("gpu-1", *await nodes(manager))
        assert allocation.reason == ""

        await manager.set_quota(
            agent_type="policy_analyzer", resources={"cpu": 16, "memory": 32, "api_quota": 10000}
        )
        usage = await manager.get_quota_usage("policy_analyzer")
        assert (usage.cpu.used, usage.cpu.limit) == (4, 16)
        assert (usage.api_quota.used, usage.api_quota.limit) == (1000, 10000)
        assert usage.gpu.limit is None

        r = await manager.reserve_resources(workflow_id="critical_compliance_check", start_time=START.isoformat(),
            duration=7200, resources={"cpu": 8, "memory": 16, "gpu": 1}, priority=Priority.CRITICAL)  # fmt: skip
        assert r.id > 0
        assert r.end_time == START + timedelta(hours=2)

        m = await manager.get_utilization_metrics()
        assert 0 < m.cpu.utilization < 1
        assert 0 < m.memory.available < m.memory.capacity
        assert m.active_allocations >= 1
        assert m["api_quota"].used == 1000

        assert (
            await manager.get_allocation_history(time_range="24h", agent_id="gap_assessment_agent")
            == []
        )
        (past,) = await manager.get_allocation_history(
            time_range="24h", agent_id="policy_analyzer_01"
        )
        assert (past.allocation_id, past.ended_at) == (allocation.id, None)

        await r.cancel()
        await allocation.release()
        await manager.close()

    run(scene(), timeout=60)


async def nodes(manager: ResourceManager) -> list[str]:
    return [node.node_id async for node in manager.client.fleet.list_all_nodes()]


def test_a_bare_laptop_says_no_with_the_numbers(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        manager = embedded()
        await manager.initialize()
        own = await manager.start_resource_tracking()

        allocation = await manager.allocate_resources(ResourceRequest(
            agent_id="policy_analyzer_01", workflow_id="compliance_audit_2024", priority=Priority.HIGH,
            resources={"cpu": 4, "memory": 8, "disk": 50, "api_quota": 1000}, duration=3600))  # fmt: skip
        assert allocation.success is False
        assert (allocation.allocated_resources, allocation.node_id, allocation.id) == ({}, "", 0)
        assert allocation.refusal is not None
        assert allocation.refusal.code in ("UNKNOWN_KIND", "UNSATISFIABLE")
        assert allocation.refusal.remedy in allocation.reason

        more = await manager.allocate_resources(
            ResourceRequest(agent_id="a", resources={"cpu": 1_000_000})
        )
        assert not more.success
        assert "1000000 of cpu" in more.reason
        assert more.refusal is not None
        numbers = more.refusal.numbers
        assert numbers["asked.cpu"] == 1_000_000_000
        (node,) = (await manager.client.fleet.list_nodes()).nodes
        assert (node.node_id, node.capacity["cpu"]) == (own, numbers["largest.cpu"])

        r = await manager.reserve_resources(workflow_id="critical_compliance_check", start_time=START.isoformat(),
            duration=7200, resources={"cpu": 8, "memory": 16, "gpu": 1}, priority=Priority.CRITICAL)  # fmt: skip
        assert (r.success, r.id, r.end_time) == (False, 0, None)
        assert r.reason

        m = await manager.get_utilization_metrics()
        assert (m.cpu.used, m.cpu.utilization, m.gpu.capacity) == (0, 0.0, 0)
        assert m.memory.available > 0
        await manager.close()

    run(scene())


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
            await asyncio.sleep(2.5)
            assert await manager.allocations_of("alive", keep_alive=False) == []

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


def test_a_request_waits_for_its_grant(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            first = await manager.allocate_resources(
                ResourceRequest(agent_id="w_1", resources={"gpu": 4})
            )
            waits = asyncio.create_task(manager.allocate_resources(asks("w_2", wait=20)))
            await until_waiting(manager, "w_2")
            await first.release()
            second = await waits
            assert second.success, second.reason
            assert second.waited > 0
            assert second.node_id == "gpu-1"
            await second.release()

    run(scene())


async def until_waiting(manager: ResourceManager, agent_id: str) -> types_pb2.Allocation:
    """Until the group says that the agent's request waits."""
    wanted = allocator_pb2.ListRequest(agent_id=agent_id, state=types_pb2.Allocation.STATE_WAITING)
    for _ in range(200):
        found = (await manager.client.allocator.list(wanted)).allocations
        if found:
            return found[0]
        await asyncio.sleep(0.02)
    raise AssertionError(f"{agent_id} does not wait")


def test_after_the_wait_the_answer_is_no_and_nothing_waits(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(
                ResourceRequest(agent_id="n_1", resources={"gpu": 4})
            ):
                late = await manager.allocate_resources(asks("n_2", wait=0.3))
                assert not late.success
                assert late.refusal is not None
                assert late.refusal.code == "NO_CAPACITY"
                assert "waited" in late.reason
                assert await waiting(manager, "n_2") == []

    run(scene())


async def waiting(manager: ResourceManager, agent_id: str) -> list[types_pb2.Allocation]:
    request = allocator_pb2.ListRequest(agent_id=agent_id)
    return list((await manager.client.allocator.list(request)).allocations)


def test_who_is_cancelled_while_waiting_leaves_nothing_behind(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(
                ResourceRequest(agent_id="c_1", resources={"gpu": 4})
            ):
                task = asyncio.create_task(manager.allocate_resources(asks("c_2", wait=60)))
                await until_waiting(manager, "c_2")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await waiting(manager, "c_2") == []

    run(scene())


def test_who_is_cancelled_before_the_answer_gives_the_grant_back(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            task = asyncio.create_task(manager.allocate_resources(asks("hasty")))
            await asyncio.sleep(0)  # it has been sent, or is about to be
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await waiting(manager, "hasty") == []

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


def test_without_initialize_the_error_says_what_to_do(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        with pytest.raises(InvalidRequest, match=r"await manager\.initialize"):
            await embedded().allocate_resources(asks("early"))

    run(scene())


def test_a_malformed_request_is_refused_before_it_is_sent(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            index = (await manager.get_utilization_metrics()).index
            with pytest.raises(InvalidRequest, match=r"resources\.cpu: nan is not finite"):
                await manager.allocate_resources(
                    ResourceRequest(agent_id="a", resources={"cpu": float("nan")})
                )
            with pytest.raises(InvalidRequest, match=r"resources\.cpus"):
                await manager.set_quota("a", {"cpus": 1})
            with pytest.raises(InvalidRequest, match="time zone"):
                await manager.reserve_resources("w", "2030-01-01T00:00:00", 60, {"cpu": 1})
            with pytest.raises(InvalidRequest, match="time_range"):
                await manager.get_allocation_history("a while", agent_id="a")
            with pytest.raises(InvalidRequest, match="agent_id"):
                await manager.get_allocation_history("1h")
            assert (await manager.get_utilization_metrics()).index == index

    run(scene())


def test_a_manager_goes_to_one_place() -> None:
    with pytest.raises(InvalidRequest, match="two places"):
        ResourceManager("cluster.toml", endpoints=["127.0.0.1:7001"])


def test_a_second_manager_on_a_directory_hears_who_has_it(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded():
            with pytest.raises(DataDirectoryError, match="in use"):
                await embedded().initialize()

    run(scene())


def test_where_nobody_answers_initialize_says_so(
    run: Run, free_ports: Callable[[int], list[int]]
) -> None:
    async def scene() -> None:
        endpoints = [f"127.0.0.1:{port}" for port in free_ports(3)]
        manager = ResourceManager(endpoints=endpoints, timeout=0.5)
        with pytest.raises(Unavailable, match="no answer"):
            await manager.initialize()

    run(scene())


@pytest.mark.cluster
def test_a_configuration_names_the_group(run: Run, group: LocalGroup) -> None:
    async def scene() -> None:
        async with ResourceManager(config_path=group.config.path) as manager:
            assert list(manager.client.endpoints) == group.endpoints

    run(scene())


@pytest.mark.cluster
def test_when_the_leader_is_killed_the_manager_goes_on_and_leases_with_it(
    run: Run, group: LocalGroup
) -> None:
    async def scene() -> None:
        async with ResourceManager(endpoints=group.endpoints, timeout=20) as manager:
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


def test_the_synchronous_face_does_the_same_without_a_loop(make: Make) -> None:
    with make().sync as manager:
        manager.run(furnish(manager.asynchronous))
        with manager.allocate_resources(asks("plain", lease_ttl=5)) as allocation:
            assert allocation.success, allocation.reason
            allocation.renew()
            assert [each.id for each in manager.allocations_of("plain")] == [allocation.id]
            assert manager.get_utilization_metrics().gpu.used >= 1
        assert manager.allocations_of("plain") == []
        manager.set_quota("plain", {"gpu": 2})
        assert manager.get_quota_usage("plain").gpu.limit == 2
        window = manager.reserve_resources("w", START, 60, {"gpu": 1})
        assert window.success, window.reason
        window.cancel()
        assert len(manager.get_allocation_history("1h", agent_id="plain")) >= 1


def test_ctrl_c_during_a_synchronous_wait_withdraws_the_request(tmp_path: Path) -> None:
    with SyncResourceManager(data_dir=str(tmp_path / "data")) as manager:
        manager.run(furnish(manager.asynchronous))
        manager.allocate_resources(ResourceRequest(agent_id="s_1", resources={"gpu": 4}))

        def press_when_waiting() -> None:
            manager.run(until_waiting(manager.asynchronous, "s_2"))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        presser = threading.Thread(target=press_when_waiting)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            manager.allocate_resources(asks("s_2", wait=60))
        presser.join()
        assert manager.run(waiting(manager.asynchronous, "s_2")) == []


def test_a_manager_in_use_by_a_loop_has_no_synchronous_face(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            with pytest.raises(InvalidRequest, match="in use by an event loop"):
                _ = manager.sync

    run(scene())
