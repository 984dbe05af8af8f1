"""A backup of a live group, and a new group made of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import allocator_pb2
from raftalloc.cli.demo import collect
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.group import LocalGroup
from raftalloc.client.client import Client
from tests.cluster.test_group import more_than, register, worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
SHORT: dict[str, dict[str, int | str]] = {
    "storage": {"data_dir": "data", "snapshot_entries": 40},
    "raft": {"tail_entries": 20},
}
COMMAND = (sys.executable, "-c", "from raftalloc.cli.main import main; main()")
DONE = allocator_pb2.AllocateRequest(agent_id="last", workflow_id="w", resources={"cpu": 100})


async def raftalloc(group: LocalGroup, *arguments: object) -> tuple[int, dict[str, Any], str]:
    """The command line; its exit code, its report and what it told people."""
    words = [*COMMAND, *map(str, arguments), "--json"]
    environment = {**os.environ, "RAFTALLOC_TLS_DIRECTORY": group.config.tls.directory}
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        cwd=group.directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


async def written_to(group: LocalGroup, file: Path) -> tuple[dict[str, Any], int]:
    """A backup while others write; what it says, and the last fencing token of the group."""
    told, ended = Acknowledged(), asyncio.Event()
    group.start()
    await group.wait_leader()
    endpoints = ",".join(group.endpoints)
    async with Client(group.endpoints, tls=group.tls) as client:
        await register(client)
        work = [asyncio.create_task(worker(client, number, told, ended)) for number in range(3)]
        await more_than(told, 100)
        code, report, said = await raftalloc(group, "backup", file, "--endpoint", endpoints)
        ended.set()
        await asyncio.gather(*work)
        last = await client.allocator.allocate(DONE)
    assert code == 0, (report, said)
    again, refusal, _ = await raftalloc(group, "backup", file, "--endpoint", endpoints)
    assert again != 0
    assert "nothing is overwritten" in str(refusal)
    return report, last.granted.allocations[0].fencing_token


def test_a_new_group_goes_on_from_a_backup_of_a_live_one(tmp_path, run):
    async def story() -> None:
        file = tmp_path / "group.backup"
        async with LocalGroup.create(tmp_path / "a", any_ports=True, settings=SHORT) as old:
            report, token = await written_to(old, file)
            assert report["index"] > 100
            assert report["blocks"] > 90
        async with LocalGroup.create(
            tmp_path / "b", cluster_id="second", any_ports=True, settings=SHORT
        ) as new:
            code, made, said = await raftalloc(new, "restore", file, "--config", new.config.path)
            assert code == 0, (report, said)
            assert made["from_cluster_id"] == "local"
            assert made["index"] == report["index"]
            refused, refusal, _ = await raftalloc(new, "restore", file, "--config", new.config.path)
            assert refused != 0
            assert "is not empty" in str(refusal)
            new.start()
            await new.wait_leader()
            for name in new.replica_ids:
                await new.wait_answering(name)
            states = [await new.status(name, with_digest=True) for name in new.replica_ids]
            assert {each.invariants for each in states} == {"ok"}
            assert {each.lowest_index for each in states} == {made["first_event"]}
            async with Client(new.endpoints, tls=new.tls) as client:
                granted = await client.allocator.allocate(DONE)
                (first,) = granted.granted.allocations
                told, ended = Acknowledged(), asyncio.Event()
                work = asyncio.create_task(worker(client, 77, told, ended))
                await more_than(told, 60)
                ended.set()
                await work
            found = await collect.digests(new)
            assert found.equal
            assert found.sound == "ok"
            assert token > first.fencing_token > 100, "they go on from where the backup was"

    run(story(), timeout=170)
