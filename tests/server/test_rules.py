"""Rules are switched by hand, once every replica knows them; who does not know them stops there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import admin_pb2
from raftalloc.client.client import Client
from raftalloc.core import evolve, operations, state
from raftalloc.core.commands import SwitchRules
from raftalloc.errors import DataDirectoryError, InvalidRequest, Rejected, ReplicaFailed
from raftalloc.server.servicers import admin
from raftalloc.service import gossip
from raftalloc.storage.memory import MemoryStore
from tests.server.test_group import group, until
from tests.service.fakes import Replica, entry_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Run


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that knows the next rules."""
    for module in (state, operations, evolve, admin, gossip):
        monkeypatch.setattr(module, "RULES_VERSION", state.GENESIS_RULES + 1)


def test_rules_are_raised_once_every_replica_has_said_that_it_knows_them(
    run: Run, tmp_path: Path, free_ports: Callable[[int], list[int]], newer: None
):
    async def story() -> None:
        async with group(tmp_path, free_ports) as members:
            leader = await members.leader()
            addresses = [member.address for member in members.members]
            async with Client(addresses) as client:
                status = await client.admin.status()
                assert (status.rules_version, status.rules_supported) == (1, 2)
                peers = leader.replica._gossip.peers
                await until(lambda: len(peers) == 2)
                name = next(iter(peers))
                told = peers[name]
                peers[name] = gossip.Peer(told.version, 1)
                with pytest.raises(Rejected, match=f"not known to {name}") as refused:
                    await client.admin.raise_rules(admin_pb2.RaiseRulesRequest(version=2))
                assert refused.value.code == "RULES_UNKNOWN"
                with pytest.raises(Rejected, match="rules version 3 is not known"):
                    await client.admin.raise_rules(admin_pb2.RaiseRulesRequest(version=3))
                with pytest.raises(InvalidRequest, match="version"):
                    await client.admin.raise_rules(admin_pb2.RaiseRulesRequest())

                def all_know() -> bool:
                    return all(peer.rules == 2 for peer in peers.values())

                await until(all_know)
                for _ in range(2):
                    raised = await client.admin.raise_rules(admin_pb2.RaiseRulesRequest(version=2))
                    assert raised.rules_version == 2
                with pytest.raises(Rejected, match="the group decides by 2"):
                    await client.admin.raise_rules(admin_pb2.RaiseRulesRequest(version=1))
            engines = [member.replica._engine for member in members.members]
            await until(lambda: {engine.state.rules_version for engine in engines} == {2})

    run(story(), timeout=60)


def test_a_build_that_does_not_know_the_rules_stops_at_their_entry_and_says_what_to_do(run: Run):
    async def story() -> None:
        replica = await Replica(MemoryStore()).open()
        with pytest.raises(ReplicaFailed, match=r"rules 2 from here on.*install the version"):
            replica.engine.apply(3, entry_of(SwitchRules(2)))
        await replica.close()

    run(story())


def test_a_build_that_does_not_know_the_rules_of_its_event_store_does_not_start(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    async def story() -> None:
        store = MemoryStore()
        with monkeypatch.context() as patched:
            for module in (state, operations, evolve):
                patched.setattr(module, "RULES_VERSION", state.GENESIS_RULES + 1)
            replica = await Replica(store).open()
            replica.engine.apply(3, entry_of(SwitchRules(2)))
            await replica.close()
        with pytest.raises(DataDirectoryError, match=r"rules 2 from here on.*install the version"):
            await Replica(store).open()

    run(story())


def test_an_entry_that_cannot_be_read_asks_for_another_version_and_not_to_be_skipped(run: Run):
    async def story() -> None:
        replica = await Replica(MemoryStore()).open()
        with pytest.raises(ReplicaFailed, match="cannot be read by this version") as failed:
            replica.engine.apply(
                3, b"\x96\x00\x01\xa1n\x90\x92\xc4\x01\xc8\x81\xcc\xc8\x91\x01\x90"
            )
        assert type(failed.value) is ReplicaFailed
        await replica.close()

    run(story())
