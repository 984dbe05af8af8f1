"""What callers are told is true, though links break at every moment: their own account against the log."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from raftalloc.api.v1 import allocator_pb2, fleet_pb2
from raftalloc.client.client import Client
from raftalloc.core import codec
from raftalloc.core.events import Granted
from raftalloc.errors import OutcomeUnknown, Unavailable
from raftalloc.raft.local import LocalNetwork
from raftalloc.server.composition import open_replica
from raftalloc.server.grpc_server import GrpcServer
from raftalloc.server.parts import system_ports
from raftalloc.system import SystemClock, SystemRng
from tests.server.lossy import LossyProxy
from tests.server.test_group import configured, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raftalloc.server.composition import RunningReplica
    from tests.conftest import Run

CALLERS = 8
CALLS = 30


class Account:
    """What one caller asked for, and what it was told: done (the ids), not done, or unknown."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[int, ...]] = {}
        self.not_done: list[str] = []
        self.unknown: list[str] = []

    async def ask(self, client: Client, name: str, timeout: float) -> None:
        request = allocator_pb2.AllocateRequest(
            agent_id="a", workflow_id=name, resources={"cpu": 1}, count=2
        )
        try:
            answer = await client.allocator.allocate(request, timeout=timeout)
        except OutcomeUnknown:
            self.unknown.append(name)
        except Unavailable:
            self.not_done.append(name)
        else:
            self.done[name] = tuple(each.id for each in answer.granted.allocations)


async def granted(replica: RunningReplica) -> dict[str, list[int]]:
    """By workflow, every grant there ever was."""
    found: dict[str, list[int]] = {}
    await replica._engine.stored(replica._engine.index)
    position = 1
    while blocks := await replica._engine._store.read(position, 256):
        for _, data in blocks:
            for item in codec.decode_events(codec.decode_block(data).events):
                if isinstance(item.event, Granted):
                    found.setdefault(item.event.workflow_id, []).append(item.event.allocation_id)
        position = blocks[-1][0] + 1
    return found


def test_what_callers_are_told_over_links_that_break_is_what_the_log_says(
    run: Run, tmp_path: Path, free_ports: Callable[[int], list[int]]
):
    async def story() -> None:
        ports = free_ports(12)
        config, hidden = configured(tmp_path, ports), ports[9:]
        clock = SystemClock()
        account, dice = Account(), SystemRng()
        async with AsyncExitStack() as opened:
            replicas, proxies = [], []
            outside = system_ports(clock=clock, net=LocalNetwork(clock))
            for replica, port in zip(config.replicas, hidden, strict=True):
                running = await open_replica(
                    config,
                    replica.replica_id,
                    ports=outside,
                    directory=config.data_directory(replica.replica_id),
                    on_fatal=lambda _error: None,
                )
                opened.push_async_callback(running.close)
                server = GrpcServer(running.backend, message_bytes=1 << 20)
                await server.start(type(replica.grpc)("127.0.0.1", port))
                opened.push_async_callback(server.stop, 0)
                # All that calls this replica, the other replicas too, comes over the proxy.
                proxy = LossyProxy(dice, port)
                proxy.losses, losses = None, proxy.losses
                await proxy.start(replica.grpc.port)
                opened.push_async_callback(proxy.close)
                replicas.append(running)
                proxies.append((proxy, losses))
            client = Client([str(replica.grpc) for replica in config.replicas], attempt_timeout=1.0)
            opened.push_async_callback(client.close)
            await until(lambda: any(each.sample().is_leader for each in replicas))
            node = fleet_pb2.RegisterNodeRequest(
                node_id="n", capacity={"cpu": 1_000_000}, static=True
            )
            await client.fleet.register_node(node)
            for proxy, losses in proxies:
                proxy.losses = losses

            async def caller(number: int) -> None:
                for turn in range(CALLS):
                    # Some have so little time that they may not come to know.
                    timeout = 0.03 if turn % 8 == 7 else 30.0
                    await account.ask(client, f"w-{number}-{turn}", timeout)

            await asyncio.gather(*map(caller, range(CALLERS)))
            for proxy, _ in proxies:
                proxy.losses = None
            await account.ask(client, "last", 30.0)
            await until(lambda: len({each._engine.index for each in replicas}) == 1)
            log = await granted(replicas[0])
        _compare(account, log)
        lost = {what: sum(proxy.cuts[what] for proxy, _ in proxies) for what in proxies[0][0].cuts}
        assert min(lost["requests"], lost["answers"]) > 0, lost
        assert client.faults > 10

    run(story(), timeout=110)


def _compare(account: Account, log: dict[str, list[int]]) -> None:
    asked = CALLERS * CALLS + 1
    assert len(account.done) + len(account.not_done) + len(account.unknown) == asked
    assert len(account.done) > asked * 0.8, "who has time comes to know"
    for name, ids in account.done.items():
        assert log.pop(name) == list(ids), f"{name}: told {ids}"
    assert [name for name in account.not_done if name in log] == [], "not done, and yet it was"
    for name in account.unknown:
        assert len(log.pop(name, [])) in (0, 2), f"{name} was done more than once"
    assert log == {}, "nobody asked for these"
