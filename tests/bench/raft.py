"""The engine alone: opaque commands through three replicas, beside the floor, stock pysyncobj and etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.bench import floor
from tests.bench.children import ChildFailed
from tests.bench.engines import Engines
from tests.bench.machine import cpu_seconds
from tests.bench.proposing import CASES, load, record
from tests.bench.registry import Bench, Context
from tests.chaos import etcd

if TYPE_CHECKING:
    from tests.bench.figures import Figures

NAME: Final = "raft"
STOCK: Final = ("default", "best")
ETCD_CASES: Final = ("100B_1", "100B_64", "64KB_1")
IDLE_SECONDS: Final = 10.0
FAILOVERS: Final = 10


async def measure(context: Context) -> None:
    """Run after run everything in turn, so that a busy minute of the machine falls on all."""
    for run in range(context.runs):
        context.say(f"run {run + 1} of {context.runs}: floor")
        await floor.measure_once(context)
        context.say(f"run {run + 1} of {context.runs}: three replicas of ours")
        async with Engines("tests.bench.engine_node", context.directory / f"ours-{run}") as ours:
            await ours.measure(context, NAME)
            idle = await ours.idle_percent(1.0 if context.quick else IDLE_SECONDS)
            context.figures.add(NAME, "idle_cpu", idle, "percent")
        await _failovers(context, run)
        if context.peers:
            await _peers(context, run)


async def _failovers(context: Context, run: int) -> None:
    """The engine's part of a failover: no client, no state machine, no start."""
    for number in range(1 if context.quick else FAILOVERS // context.runs + 1):
        directory = context.directory / f"failover-{run}-{number}"
        async with Engines("tests.bench.engine_node", directory) as ours:
            context.figures.add(NAME, "failover", await ours.failover_ms(), "ms")


async def _peers(context: Context, run: int) -> None:
    for setting in STOCK:
        context.say(f"run {run + 1} of {context.runs}: stock pysyncobj, {setting} settings")
        directory = context.directory / f"stock-{setting}-{run}"
        async with Engines("tests.bench.stock_node", directory, setting=setting) as stock:
            try:
                await stock.measure(context, f"{NAME}, stock {setting}")
            except ChildFailed as error:
                context.say(f"stock pysyncobj, {setting} settings, is stuck: {error}")
    if etcd.on_path():
        context.say(f"run {run + 1} of {context.runs}: etcd")
        await _etcd(context, run)


async def _etcd(context: Context, run: int) -> None:
    """Puts through its gRPC API to the leader: what a caller of etcd sees, and what its members cost."""
    members = etcd.Members(context.directory / f"etcd-{run}", etcd.SETTINGS["default"])
    try:
        await members.start(*range(3))
        leader = await members.wait_leader()
        for case in (each for each in CASES if each.name in ETCD_CASES):
            number = 0

            async def put(payload: bytes) -> None:
                nonlocal number
                number += 1
                await members.write(f"{number % 10_000}".encode(), payload, leader)

            await load(put, case.size, case.outstanding, min(0.3, context.seconds))
            before = sum(cpu_seconds(pid) for pid in members.pids())
            found = await load(put, case.size, case.outstanding, context.seconds)
            spent = sum(cpu_seconds(pid) for pid in members.pids()) - before
            record(context.figures, f"{NAME}, etcd", case, found, spent)
    finally:
        await members.stop()


def relate(figures: Figures) -> None:
    """To the floor, and to the others."""
    figures.relate(
        "one at a time / (3 fdatasync + 2 round trips in TLS)",
        (NAME, "100B_1_p50"),
        [(floor.NAME, "fdatasync_200B_p50", 3), (floor.NAME, "round_trip_tls_p50", 2)],
    )
    for other in (*(f"stock {setting}" for setting in STOCK), "etcd"):
        for name in ("100B_1_entries", "100B_64_entries", "64KB_1_entries", "16x100_requests"):
            under = [(f"{NAME}, {other}", name, 1.0)]
            figures.relate(f"{name} / {other}", (NAME, name), under)


BENCH: Final = Bench(
    NAME, "the Raft engine alone, beside stock pysyncobj and etcd", measure, relate
)
