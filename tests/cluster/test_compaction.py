"""Three real processes whose logs are short: who was away for too long comes back by a snapshot."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.cli.demo import collect, oracle
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.group import LocalGroup
from raftalloc.client.client import Client
from raftalloc.raft.inspection import log_directory, overview
from tests.cluster.test_group import more_than, register, worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
SHORT: dict[str, dict[str, int | str]] = {
    "storage": {"data_dir": "data", "snapshot_entries": 40},
    "raft": {"tail_entries": 20, "segment_bytes": 65_536},
}


def log_bytes(directory: Path) -> int:
    return sum(each.stat().st_size for each in (directory / "raft").glob("*.wal"))


async def lowest(group: LocalGroup, replica_id: str, wanted: int) -> None:
    """Wait until its history is whole again."""
    async with asyncio.timeout(30):
        while (await group.status(replica_id)).lowest_index > wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def play(group: LocalGroup, told: Acknowledged, directory: Path) -> None:
    """Load, while one is away, the leader is killed again and again, and one loses its events."""
    group.start()
    leader = await group.wait_leader()
    ended = asyncio.Event()
    async with Client(group.endpoints, tls=group.tls) as client:
        await register(client)
        work = [asyncio.create_task(worker(client, number, told, ended)) for number in range(6)]
        away = next(name for name in group.replica_ids if name != leader)
        await group.kill(away)
        count = await more_than(told, 300)
        group.start(away)
        await group.wait_answering(away)
        for _ in range(3):
            leader = await group.wait_leader()
            await group.kill(leader)
            await group.wait_leader(other_than=leader)
            count = await more_than(told, count + 60)
            group.start(leader)
            await group.wait_answering(leader)
        leader = await group.wait_leader()
        robbed = next(name for name in group.replica_ids if name != leader)
        await group.kill(robbed)
        (directory / "data" / robbed / "events").rename(directory / "moved away")
        group.start(robbed)
        await group.wait_answering(robbed)
        await more_than(told, count + 60)
        ended.set()
        await asyncio.gather(*work)


def test_who_was_away_for_too_long_comes_back_by_a_snapshot_and_nothing_is_lost(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, any_ports=True, settings=SHORT) as group:
            told = Acknowledged()
            await play(group, told, tmp_path)
            found = await collect.digests(group)
            for replica_id in group.replica_ids:
                await lowest(group, replica_id, 3)
            logs = await collect.logs(group, found.index)
            assert oracle.lost(told, logs) == []
            assert oracle.duplicated(told, logs) == []
            assert oracle.over_capacity(logs) == []
            assert oracle.disagreements(logs) == []
            assert found.equal
            assert found.sound == "ok"
            assert len({len(log) for log in logs.values()}) == 1
            for replica_id in group.replica_ids:
                assert log_bytes(tmp_path / "data" / replica_id) < 10 * 65_536
            assert "took the state of another replica" in "".join(
                group.log(name).read_text() for name in group.replica_ids
            )
            await group.stop()
            for replica_id in group.replica_ids:
                seen = overview(log_directory(str(tmp_path / "data" / replica_id)))
                assert seen.last_index > 300
                assert seen.last_index - seen.first_index < 300

    run(story(), timeout=220)
