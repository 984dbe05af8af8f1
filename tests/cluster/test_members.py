"""Replicas are added, removed and replaced on a live group of real processes, under load; nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli.demo import collect, oracle
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.group import LocalGroup
from raftalloc.cli.loopback import HOST, free_ports
from raftalloc.client.client import Client
from raftalloc.errors import Rejected, Unavailable
from tests.cluster.test_group import more_than, register, worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

Members = dict[str, admin_pb2.Member]


def joined(group: LocalGroup, directory: Path) -> LocalGroup:
    """The same group as a fourth replica's file has it."""
    path = directory / "with-n4.toml"
    ports = free_ports(3)
    rows = zip(("grpc", "raft", "http"), ports, strict=True)
    text = (directory / "group.toml").read_text()
    text += "\n[replicas.n4]\n" + "".join(f'{name} = "{HOST}:{port}"\n' for name, port in rows)
    path.write_text(text)
    return LocalGroup.configured(directory, path)


async def until(client: Client, so: Callable[[Members], bool]) -> Members:
    async with asyncio.timeout(60):
        while True:
            answer = await client.admin.list_replicas(timeout=20.0)
            members = {each.replica_id: each for each in answer.members}
            if so(members):
                return members
            await asyncio.sleep(0.1)


async def patiently(ask: Callable[[], object]) -> None:
    """Again while no leader is there, or another change is under way."""
    async with asyncio.timeout(60):
        while True:
            try:
                await ask()  # type: ignore[misc]
            except (Unavailable, Rejected) as error:
                if isinstance(error, Rejected) and error.code != "CHANGE_UNDER_WAY":
                    raise
                await asyncio.sleep(0.2)
            else:
                return


def test_members_come_go_and_lose_their_disks_under_load(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, any_ports=True) as group:
            group.start()
            await group.wait_leader()
            told, ended = Acknowledged(), asyncio.Event()
            async with Client(group.endpoints, tls=group.tls) as client:
                await register(client)
                work = [
                    asyncio.create_task(worker(client, number, told, ended)) for number in range(4)
                ]
                before = await more_than(told, 30)

                # A disk is lost.
                await group.kill("n3")
                (tmp_path / "data" / "n3").rename(tmp_path / "lost")
                group.start("n3")
                await patiently(
                    lambda: client.admin.replace_replica(
                        admin_pb2.ReplaceReplicaRequest(replica_id="n3"), timeout=20.0
                    )
                )
                await until(client, lambda members: members["n3"].voter)
                between = await more_than(told, before + 10)

                # A fourth comes.
                four = joined(group, tmp_path)
                replica = next(each for each in four.config.replicas if each.replica_id == "n4")
                request = admin_pb2.AddReplicaRequest(
                    replica_id="n4",
                    raft_address=str(replica.raft),
                    address=str(replica.grpc),
                    http_address=str(replica.http),
                )
                four.start("n4")
                try:
                    await patiently(lambda: client.admin.add_replica(request, timeout=20.0))
                    await until(client, lambda members: members["n4"].voter)
                    between = await more_than(told, between + 10)

                    # The first goes, whoever leads.
                    await patiently(
                        lambda: client.admin.remove_replica(
                            admin_pb2.RemoveReplicaRequest(replica_id="n1"), timeout=20.0
                        )
                    )
                    await group.kill("n1")
                    members = await until(client, lambda members: "n1" not in members)
                    assert sorted(members) == ["n2", "n3", "n4"]
                    assert all(member.voter for member in members.values())
                    await more_than(told, between + 10)
                    ended.set()
                    await asyncio.gather(*work)
                    logs = await collect.logs(group, (await group.status("n2")).applied_index, "n2")
                    assert oracle.lost(told, logs) == []
                    assert oracle.duplicated(told, logs) == []
                    assert oracle.over_capacity(logs) == []
                finally:
                    await four.stop()
                    await four.close()

    run(story(), timeout=200)


def test_leaders_that_are_stopped_in_peace_hand_over_and_nothing_is_lost(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, any_ports=True) as group:
            group.start()
            await group.wait_leader()
            told, ended = Acknowledged(), asyncio.Event()
            async with Client(group.endpoints, tls=group.tls) as client:
                await register(client)
                work = [
                    asyncio.create_task(worker(client, number, told, ended)) for number in range(4)
                ]
                count = await more_than(told, 20)
                for _ in range(2):
                    leader = await group.wait_leader()
                    term = (await group.status(leader)).term
                    assert group.signal(leader, signal.SIGTERM)
                    assert await group.wait_ended(leader) == []
                    after = await group.wait_leader(other_than=leader)
                    assert (await group.status(after)).term == term + 1, "one election, at once"
                    group.start(leader)
                    await group.wait_answering(leader)
                    count = await more_than(told, count + 10)
                ended.set()
                await asyncio.gather(*work)
            found = await collect.digests(group)
            logs = await collect.logs(group, found.index)
            assert oracle.lost(told, logs) == []
            assert oracle.duplicated(told, logs) == []
            assert found.equal

    run(story(), timeout=150)
