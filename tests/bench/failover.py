"""The leader killed: how long until a client's writes are taken again. The same run as scripts/chaos, fewer rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.bench.registry import Bench, Context
from tests.chaos import course, etcd
from tests.chaos.course import Plan
from tests.chaos.report import Report

if TYPE_CHECKING:
    from tests.bench.figures import Figures

NAME: Final = "failover"
ROUNDS: Final = 10
QUICK_ROUNDS: Final = 2
AGENTS: Final = 40
QUICK_AGENTS: Final = 10


async def measure(context: Context) -> None:
    """Whole replicas, agents at work, kill -9; then etcd in the same way."""
    rounds, agents = (QUICK_ROUNDS, QUICK_AGENTS) if context.quick else (ROUNDS, AGENTS)
    plan, report = Plan(("kill",), rounds, 1, agents), Report(1)
    directory = context.directory / "failover"
    await course.run(plan, directory, report, context.say)
    for violation in report.violations:
        raise AssertionError(f"a bench of something that loses writes: {violation}")
    for gap in report.failovers_ms:
        context.figures.add(NAME, "writes_taken_again", gap, "ms")
    for each in report.rounds:
        if each.slowest_ms is not None:
            context.figures.add(NAME, "slowest_call", each.slowest_ms, "ms")
    if context.peers and etcd.on_path():
        for setting in etcd.SETTINGS:
            found = await etcd.run(setting, plan, directory / f"etcd-{setting}", context.say)
            for each in found:
                if each.gap_ms is not None:
                    name = f"{NAME}, etcd {setting}"
                    context.figures.add(name, "writes_taken_again", each.gap_ms, "ms")


def relate(figures: Figures) -> None:
    """To etcd's."""
    for setting in etcd.SETTINGS:
        under = [(f"{NAME}, etcd {setting}", "writes_taken_again", 1.0)]
        figures.relate(f"failover / etcd {setting}", (NAME, "writes_taken_again"), under)


BENCH: Final = Bench(NAME, "leader killed under load: writes taken again", measure, relate)
