"""Replicas over TCP on the loopback interface, all in this process."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import ConfigError
from tests.raft.replicas import CLOCK, Group

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Run


def test_three_replicas_replicate_fail_over_and_catch_up(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.start()
        first = await group.leader()
        await asyncio.gather(*(first.propose(b"%d" % number) for number in range(100)))
        await first.propose(b"z" * (3 << 20))
        await group.agree()
        await group.stop(first.replica_id)
        second = await group.leader()
        await second.propose(b"after")
        await group.start(first.replica_id)
        log = await group.agree()
        await group.stop()
        expected = [b"%d" % number for number in range(100)] + [b"z" * (3 << 20), b"after"]
        assert [entry for _, entry in log] == expected
        assert group.fatal == []

    run(story())


def test_a_taken_port_is_named(tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]):
    ports = free_ports(3)

    async def story() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", ports[0]))
            other.listen(1)
            group = Group(tmp_path, 3, ports)
            with pytest.raises(ConfigError, match=f"port {ports[0]} on 127.0.0.1 is in use"):
                await group.make("a").start()

    run(story())


def test_it_listens_on_the_loopback_interface_only(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    ports = free_ports(1)

    async def story() -> None:
        group = Group(tmp_path, 1, ports)
        await group.start()
        # If it were bound to every interface, another loopback address would answer too.
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", ports[0]), timeout=1)
        await group.stop()

    run(story())


def test_a_link_that_is_replaced_does_not_stop_the_group(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.start()
        for round_number in range(3):
            leader = await group.leader()
            await leader.propose(b"%d" % round_number)
            await group.agree()
            other = next(name for name in group.ids if name != leader.replica_id)
            await group.stop(other)
            await group.start(other)
            await group.agree()
        await CLOCK.sleep(0.05)
        assert len(await group.agree()) == 3
        await group.stop()
        assert group.fatal == []

    run(story())
