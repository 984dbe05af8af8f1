"""Three real processes: what they acknowledge survives the death of their leader."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from raftalloc.api.v1 import allocator_pb2, fleet_pb2
from raftalloc.cli.demo import collect, oracle
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.group import GroupError, LocalGroup
from raftalloc.client.client import Client
from raftalloc.errors import DataDirectoryError, OutcomeUnknown, Unavailable

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


async def register(client: Client) -> None:
    for number in range(4):
        node = fleet_pb2.RegisterNodeRequest(
            node_id=f"n-{number}", capacity={"cpu": 8000, "memory": 16_384}, static=True
        )
        await client.fleet.register_node(node)
    provider = fleet_pb2.RegisterNodeRequest(
        node_id="llm", provider=True, capacity={"api_quota": 100_000}, static=True
    )
    await client.fleet.register_node(provider)


async def worker(client: Client, number: int, told: Acknowledged, ended: asyncio.Event) -> None:
    """Asks and gives back until the end; every third allocation is left to its lease, so that room comes back."""
    for turn in range(100_000):
        if ended.is_set():
            return
        workflow = f"job-{number}-{turn}"
        told.asked[workflow] = 1
        request = allocator_pb2.AllocateRequest(
            agent_id=f"auditor_{number}",
            workflow_id=workflow,
            resources={"cpu": 100, "api_quota": 1000},
            lease_ttl_ms=0 if turn % 3 else 500,
        )
        try:
            answer = await client.allocator.allocate(request, timeout=20.0)
        except (Unavailable, OutcomeUnknown):
            continue
        if answer.WhichOneof("outcome") != "granted":
            await asyncio.sleep(0.05)
            continue
        (allocation,) = answer.granted.allocations
        told.grants[allocation.id] = (allocation.fencing_token, workflow)
        if turn % 3:
            release = allocator_pb2.ReleaseRequest(
                allocation_id=allocation.id,
                fencing_token=allocation.fencing_token,
                agent_id=request.agent_id,
            )
            await client.allocator.release(release, timeout=20.0)
            told.released.add(allocation.id)


async def more_than(told: Acknowledged, count: int) -> int:
    """Wait for so many grants; answers how many there are."""
    async with asyncio.timeout(30):
        while told.count() <= count:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.05)
    return told.count()


def test_nothing_is_lost_or_doubled_when_the_leader_is_killed_under_load(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, any_ports=True) as group:
            group.start()
            leader = await group.wait_leader()
            told, ended = Acknowledged(), asyncio.Event()
            async with Client(group.endpoints, tls=group.tls) as client:
                await register(client)
                work = [
                    asyncio.create_task(worker(client, number, told, ended)) for number in range(6)
                ]
                before = await more_than(told, 50)
                await group.kill(leader)
                new_leader = await group.wait_leader(other_than=leader)
                between = await more_than(told, before + 20)
                group.start(leader)
                await group.wait_answering(leader)
                await more_than(told, between + 20)
                ended.set()
                await asyncio.gather(*work)
            assert new_leader != leader
            found = await collect.digests(group)
            logs = await collect.logs(group, found.index)
            assert oracle.lost(told, logs) == []
            assert oracle.duplicated(told, logs) == []
            assert oracle.over_capacity(logs) == []
            assert oracle.disagreements(logs) == []
            assert found.equal
            assert found.sound == "ok"
            assert all(log for log in logs.values())

    run(story(), timeout=150)


def test_a_group_is_found_again_by_its_directory_and_ended_from_there(tmp_path, run):
    async def story() -> None:
        started = LocalGroup.create(tmp_path, replicas=1, any_ports=True)
        assert started.start() == ["n1"]
        try:
            await started.wait_leader()
            found = LocalGroup.find(tmp_path)
            assert found is not None
            assert found.endpoints == started.endpoints
            assert found.running() == ["n1"]
            assert found.start() == [], "what runs is left as it is"
            assert await found.stop() == [], "it ended by itself on SIGTERM"
            assert started.running() == []
            assert LocalGroup.find(tmp_path) is None
        finally:
            await started.stop()

    run(story(), timeout=90)


def test_state_is_there_again_after_a_clean_restart_and_after_a_kill(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, replicas=1, any_ports=True) as group:
            for number, end in enumerate((signal.SIGTERM, signal.SIGKILL, None)):
                group.start()
                await group.wait_leader()
                async with Client(group.endpoints, tls=group.tls) as client:
                    nodes = (await client.fleet.list_nodes()).nodes
                    assert [node.node_id for node in nodes] == [
                        f"n-{each}" for each in range(number)
                    ]
                    node = fleet_pb2.RegisterNodeRequest(
                        node_id=f"n-{number}", capacity={"cpu": 1000}, static=True
                    )
                    await client.fleet.register_node(node)
                if end is not None:
                    assert group.signal("n1", end)
                    assert await group.wait_ended("n1") == []

    run(story(), timeout=120)


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path / "a", replicas=1, any_ports=True) as group:
            taken = group.config.replica("n1").grpc
            assert taken is not None
            server = await asyncio.start_server(lambda *_: None, taken.host, taken.port)
            async with server:
                with pytest.raises(GroupError, match=f"{taken}, the grpc address of n1, is in use"):
                    group.start()
            assert group.running() == []

    run(story())


def test_a_replica_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, replicas=1, any_ports=True) as group:
            # A file stands where the data directory is to be made.
            (tmp_path / "data").write_text("in the way")
            group.start()
            with pytest.raises(GroupError, match="replica n1 ended with exit code"):
                await group.wait_leader(seconds=30)

    run(story(), timeout=60)


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(tmp_path, run):
    group = LocalGroup.create(tmp_path, replicas=1, any_ports=True)
    # Process 1 runs on every machine, and was not started when this record says.
    record = {
        "config": group.config.path,
        "replicas": {"n1": {"pid": 1, "started_ticks": 12345678}},
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = LocalGroup.find(tmp_path)
    assert found is not None
    assert found.running() == []
    assert not found.signal("n1", signal.SIGTERM)


def test_a_damaged_record_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataDirectoryError, match="remove it if no replica"):
        LocalGroup.find(tmp_path)
