"""A replica whose state is not the others' any more: it is found out, serves nobody, and can be made anew."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import allocator_pb2, fleet_pb2
from raftalloc.cli.demo import collect
from raftalloc.cli.group import GroupError, LocalGroup
from raftalloc.client.client import Client
from raftalloc.core import codec
from raftalloc.core.events import Granted
from raftalloc.errors import Unavailable
from raftalloc.storage.directory import DIVERGED
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemDisk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


async def allocate(client: Client, agent_id: str) -> None:
    request = allocator_pb2.AllocateRequest(agent_id=agent_id, resources={"cpu": 10})
    assert (await client.allocator.allocate(request, timeout=20.0)).granted.allocations


async def falsify(events: Path) -> int:
    """Another grant than there was, and a chain that fits it: checksums and chain are right, only it is not so."""
    store = RocksStore(SystemDisk(), str(events))
    chain, falsified = codec.CHAIN_START, 0
    for index, data in await store.read(1, 10_000):
        block = codec.decode_block(data)
        happened = codec.decode_events(block.events)
        if not falsified and any(isinstance(item.event, Granted) for item in happened):
            falsified = index
            happened = tuple(
                dataclasses.replace(item, event=dataclasses.replace(item.event, agent_id="mallory"))
                if isinstance(item.event, Granted)
                else item
                for item in happened
            )
        packed = codec.encode_events(happened)
        chain = codec.next_chain(chain, index, block.entry, packed)
        block = dataclasses.replace(block, events=packed, chain=chain)
        await store.append(index, codec.encode_block(block), [])
    await store.close()
    return falsified


def page(group: LocalGroup, replica_id: str, path: str) -> tuple[int, str]:
    address = group.config.replica(replica_id).http
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def found_out(group: LocalGroup, client: Client, replica_id: str) -> str:
    """Go on until the replica says that it differs."""
    for number in range(100):
        await allocate(client, f"go-on-{number}")
        status = await group.status(replica_id)
        if status.divergence:
            return status.divergence
        await asyncio.sleep(0.2)
    raise AssertionError("nobody noticed")


def test_a_replica_whose_store_was_falsified_is_found_out_and_made_anew(tmp_path, run):
    async def story() -> None:
        async with LocalGroup.create(tmp_path, replicas=3, any_ports=True) as group:
            group.start()
            leader = await group.wait_leader()
            victim = next(each for each in group.replica_ids if each != leader)
            data = tmp_path / "data" / victim
            async with Client(group.endpoints, tls=group.tls) as client:
                node = fleet_pb2.RegisterNodeRequest(
                    node_id="n", capacity={"cpu": 100_000}, static=True
                )
                await client.fleet.register_node(node)
                for number in range(5):
                    await allocate(client, f"a{number}")
                await collect.digests(group)
                group.signal(victim, signal.SIGTERM)
                await group.wait_ended(victim)
                assert await falsify(data / "events") > 0
                group.start(victim)
                await group.wait_answering(victim)

                why = await found_out(group, client, victim)
                assert "chain digest" in why
                assert "majority" in why
                assert page(group, victim, "/readyz")[0] == 503
                assert "differs from the others" in page(group, victim, "/readyz")[1]
                metrics = page(group, victim, "/metrics")[1]
                assert "raftalloc_divergence_index 0.0" not in metrics
                assert "raftalloc_divergence_index" in metrics
                transport = group.transport(victim)
                with pytest.raises(Unavailable, match="differs from the others"):
                    await transport.unary(
                        "/raftalloc.api.v1.Allocator/List",
                        allocator_pb2.ListRequest(),
                        allocator_pb2.ListResponse,
                        timeout=5.0,
                        metadata=(("raftalloc-read", "any"),),
                    )
                await allocate(client, "the others go on")

                await group.kill(victim)
                group.start(victim)
                with pytest.raises(GroupError, match="must be made anew"):
                    await group.wait_answering(victim, seconds=30)

                (data / DIVERGED).unlink()
                (data / "events").rename(tmp_path / "events-of-old")
                group.start(victim)
                await group.wait_answering(victim)
                await allocate(client, "back")
            found = await collect.digests(group)
            assert found.equal
            assert found.sound == "ok"

    run(story(), timeout=150)
