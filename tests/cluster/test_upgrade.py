"""Three replicas of the previous wheel become three of this one, one after the other, under load."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli.demo import collect, oracle
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.group import GroupError, LocalGroup
from raftalloc.client.client import Client
from raftalloc.errors import Rejected
from tests.cluster import wheels
from tests.cluster.test_group import more_than, register, worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

OLD, NEW = "0.0.1", "9.9.9"


def built(path: Path) -> dict[str, Path]:
    """Interpreters by version. The new one knows rules that the old one does not: there must be some to raise."""
    commit = wheels.pinned()
    if not wheels.has_commit(commit):
        missing = f"the repository does not hold {commit}, the previous version"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    old = wheels.source_of(commit, path / "old-source", version=OLD)
    new = wheels.source_of("", path / "new-source", version=NEW)
    state = new / "raftalloc" / "core" / "state.py"
    text = state.read_text()
    assert "\nRULES_VERSION = 1\n" in text
    state.write_text(text.replace("\nRULES_VERSION = 1\n", "\nRULES_VERSION = 2\n"))
    return {
        OLD: wheels.installed(old, path / "old"),
        NEW: wheels.installed(new, path / "new"),
    }


class Mixed:
    """A group whose replicas run the version that each is told."""

    def __init__(self, group: LocalGroup, pythons: dict[str, Path], patch: pytest.MonkeyPatch):
        self.group = group
        self._pythons = pythons
        self._patch = patch

    def start(self, version: str, *replica_ids: str) -> None:
        with self._patch.context() as patched:
            patched.setattr(sys, "executable", str(self._pythons[version]))
            patched.delenv("PYTHONPATH", raising=False)
            self.group.start(*replica_ids)

    async def upgrade(self, replica_id: str) -> None:
        assert self.group.signal(replica_id, signal.SIGTERM)
        await self.group.wait_ended(replica_id)
        self.start(NEW, replica_id)
        await self.group.wait_answering(replica_id)

    async def versions(self) -> dict[str, tuple[str, int]]:
        """Version and rules version by replica."""
        found = {}
        for replica_id in self.group.replica_ids:
            status = await self.group.status(replica_id)
            found[replica_id] = (status.version, status.rules_version)
        return found


def test_a_group_is_upgraded_one_replica_at_a_time_and_its_rules_by_hand(
    tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
):
    pythons = built(tmp_path / "wheels")
    # Not the repository: `python -m` looks there first.
    monkeypatch.chdir(tmp_path)

    async def story() -> None:
        async with LocalGroup.create(tmp_path / "group", any_ports=True) as group:
            mixed = Mixed(group, pythons, monkeypatch)
            mixed.start(OLD)
            leader = await group.wait_leader()
            followers = [each for each in group.replica_ids if each != leader]
            told, ended = Acknowledged(), asyncio.Event()
            two = admin_pb2.RaiseRulesRequest(version=2)
            async with Client(group.endpoints, tls=group.tls) as client:
                await register(client)
                work = [
                    asyncio.create_task(worker(client, number, told, ended)) for number in range(4)
                ]
                count = await more_than(told, 50)
                for replica_id in (*followers, leader):
                    assert set((await mixed.versions()).values()) <= {(OLD, 1), (NEW, 1)}
                    with pytest.raises(Rejected, match="rules version 2 is not known to"):
                        await client.admin.raise_rules(two, timeout=20.0)
                    await mixed.upgrade(replica_id)
                    count = await more_than(told, count + 20)
                assert set((await mixed.versions()).values()) == {(NEW, 1)}
                async with asyncio.timeout(20):
                    while not await _raised(client, two):  # noqa: ASYNC110 - gossip has no event
                        await asyncio.sleep(0.2)
                await more_than(told, count + 20)
                ended.set()
                await asyncio.gather(*work)
            found = await collect.digests(group)
            logs = await collect.logs(group, found.index)
            assert found.equal
            assert found.sound == "ok"
            assert oracle.lost(told, logs) == []
            assert oracle.duplicated(told, logs) == []
            assert oracle.disagreements(logs) == []
            assert set((await mixed.versions()).values()) == {(NEW, 2)}

            # There is no way back to a version that does not know the rules: it says so, and the others go on.
            assert group.signal(leader, signal.SIGTERM)
            await group.wait_ended(leader)
            mixed.start(OLD, leader)
            with pytest.raises(GroupError, match="rules 2"):
                await group.wait_answering(leader, seconds=30)
            assert await group.wait_leader(other_than=leader)

    run(story(), timeout=280)


async def _raised(client: Client, request: admin_pb2.RaiseRulesRequest) -> bool:
    """Once every replica has said what it knows."""
    try:
        return (await client.admin.raise_rules(request)).rules_version == 2
    except Rejected:
        return False
