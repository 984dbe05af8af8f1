"""What a whole group costs while nobody asks for anything: CPU of each replica, its store process included."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftalloc.cli.group import LocalGroup
from tests.bench.machine import cpu_seconds
from tests.bench.registry import Bench, Context
from tests.chaos import etcd

if TYPE_CHECKING:
    from tests.bench.figures import Figures

NAME: Final = "idle"
SECONDS: Final = 10.0
CALM_SECONDS: Final = 2.0


async def measure(context: Context) -> None:
    """A group that has just been started, and is left alone."""
    seconds = 1.0 if context.quick else SECONDS
    async with LocalGroup.create(context.directory / "idle", any_ports=True) as group:
        group.start()
        await group.wait_answering()
        leader = await group.wait_leader()
        for _ in range(context.runs):
            context.say(f"{seconds:g} s of nothing")
            await asyncio.sleep(CALM_SECONDS)
            before = {name: cpu_seconds(group.pid(name)) for name in group.replica_ids}
            await asyncio.sleep(seconds)
            for name in group.replica_ids:
                spent = (cpu_seconds(group.pid(name)) - before[name]) / seconds * 100
                role = "leader" if name == leader else "follower"
                context.figures.add(NAME, role, spent, "percent")
    if context.peers and etcd.on_path():
        await _etcd(context, seconds)


async def _etcd(context: Context, seconds: float) -> None:
    members = etcd.Members(context.directory / "etcd-idle", etcd.SETTINGS["default"])
    try:
        await members.start(*range(3))
        leader = await members.wait_leader()
        await asyncio.sleep(CALM_SECONDS)
        before = [cpu_seconds(pid) for pid in members.pids()]
        await asyncio.sleep(seconds)
        for row, pid in enumerate(members.pids()):
            spent = (cpu_seconds(pid) - before[row]) / seconds * 100
            role = "leader" if row == leader else "follower"
            context.figures.add(f"{NAME}, etcd", role, spent, "percent")
    finally:
        await members.stop()


def relate(_figures: Figures) -> None:
    """A percentage says enough."""


BENCH: Final = Bench(NAME, "CPU of a whole replica while nobody asks", measure, relate)
