"""Backfill against Slurm.

CT-57: slurm, src/plugins/sched/backfill/backfill.c, the example in the header: nodes lx[01-08], a job runs on
lx[01-04]; the top pending job needs five nodes including lx05, so it is reserved on lx05 and four others; the next job,
which would run past that, wants any three nodes and may start now on lx[06-08] only.
"""

from __future__ import annotations

import pytest

from raftalloc.core import commands, views
from raftalloc.core.commands import Constraint, SetQueue
from raftalloc.core.events import Granted, Promised
from raftalloc.core.records import GRANTED, QUEUED
from tests.core.asking import Talk, allocate, node

HOUR = 3_600_000
LX = tuple(f"lx0{number}" for number in range(1, 9))
TOP = (Constraint("name", commands.IN, ("lx01", "lx02", "lx03", "lx04", "lx05")),)


def fleet(talk: Talk) -> None:
    for name in LX:
        talk.ask(1000, node(name, cpu=1000, attributes=(("name", name),)))


@pytest.mark.parametrize("backfill", [commands.CONSERVATIVE, commands.EASY])
def test_ct_57_only_the_nodes_that_the_top_job_does_not_need(backfill):
    talk = Talk()
    fleet(talk)
    talk.ask(1000, SetQueue(order=commands.PRIORITY, backfill=backfill))
    first_four = (Constraint("name", commands.IN, LX[:4]),)
    running = allocate(
        "run", cpu=1000, count=4, gang=True, duration_ms=HOUR, constraints=first_four
    )
    assert talk.ask(1000, running).count == 4
    top = allocate(
        "top", cpu=1000, count=5, gang=True, duration_ms=HOUR, wait_ms=9 * HOUR, priority=commands.HIGH,
        constraints=TOP,
    )  # fmt: skip
    assert talk.ask(1001, top).status == QUEUED
    later = allocate("next", cpu=1000, count=3, gang=True, duration_ms=2 * HOUR, wait_ms=HOUR)
    assert talk.ask(1002, later).status == GRANTED
    assert sorted(g.node_id for g in talk.happened(Granted)) == ["lx06", "lx07", "lx08"]
    (promised,) = talk.happened(Promised)
    assert (promised.request_id, promised.start_ms) == (5, 1000 + HOUR)
    assert "lx05" in promised.nodes
    assert talk.ask(1003, allocate("more", cpu=1000, duration_ms=2 * HOUR)).status != GRANTED
    assert talk.ask(1004, allocate("short", cpu=1000, duration_ms=HOUR // 2)).status == GRANTED
    talk.ask(1000 + HOUR, commands.Tick())
    assert {a.agent_id for a in views.allocations(talk.state)} == {"top", "next"}


def test_without_backfill_the_later_job_takes_what_the_top_job_waits_for():
    talk = Talk()
    fleet(talk)
    talk.ask(1000, SetQueue(order=commands.PRIORITY, backfill=commands.GREEDY))
    talk.ask(1000, allocate("run", cpu=1000, count=4, gang=True, duration_ms=HOUR))
    talk.ask(1001, allocate("top", cpu=1000, count=8, gang=True, wait_ms=9 * HOUR))
    assert talk.ask(1002, allocate("next", cpu=1000, duration_ms=2 * HOUR)).status == GRANTED
    assert talk.happened(Promised) == []


def test_easy_protects_the_first_and_conservative_the_second_too():
    """Flux and Slurm: EASY is "only the first blocked job is protected"."""
    for backfill, may_pass in ((commands.EASY, True), (commands.CONSERVATIVE, False)):
        talk = Talk()
        talk.ask(1000, SetQueue(order=commands.PRIORITY, backfill=backfill))
        talk.ask(1000, node("n1", cpu=2000), node("n2", cpu=2000, memory=1024))
        on_n2 = allocate("b", memory=1024, cpu=1000, duration_ms=HOUR)
        talk.ask(1000, on_n2, allocate("a", cpu=2000, duration_ms=HOUR))
        talk.ask(1001, allocate("first", cpu=2000, wait_ms=9 * HOUR, priority=commands.HIGH))
        talk.ask(1001, allocate("second", cpu=2000, memory=1024, wait_ms=9 * HOUR))
        asks = allocate("third", cpu=1000, duration_ms=2 * HOUR, priority=commands.LOW)
        assert (talk.ask(1002, asks).status == GRANTED) == may_pass
