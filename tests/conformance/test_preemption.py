"""Preemption against its sources.

CT-58: Slurm, doc/html/preempt.shtml, "Future Ideas": the fewest victims, which Slurm itself does not find.
CT-65: Kubernetes, pkg/scheduler/framework/preemption/preemption.go, pickOneNodeForPreemption: each rule alone, in its
order; its first rule speaks of PodDisruptionBudgets, which have no counterpart here.
Kubernetes' sum of (priority + MaxInt32 + 1) puts fewer victims before lower ones; here that is said as two rules.
CT-62 (Nomad's distance) is another rule for choosing, which we do not follow: Nomad adds victims greedily.
"""

from __future__ import annotations

import pytest

from raftalloc.core import commands
from raftalloc.core.commands import CRITICAL, HIGH, LOW, MEDIUM, Constraint, SetQueue
from raftalloc.core.events import Ended, Granted, Preempting
from tests.core.asking import Talk, allocate, node

NOW = SetQueue(
    preemption=commands.LOWER_PRIORITY, grace_ms=0, min_run_ms=0, order=commands.PRIORITY
)


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.ask(1000, NOW)
    return talk


def on(name: str) -> tuple[Constraint, ...]:
    return (Constraint("name", commands.IN, (name,)),)


def nodes(talk: Talk, *names: str, cpu: int = 1000) -> None:
    for name in names:
        talk.ask(1000, node(name, cpu=cpu, attributes=(("name", name),)))


def test_ct_58_one_victim_and_the_youngest(talk):
    """n[1-5], one-node jobs 17, 18, 19 on n1, n2, n3; a job of high priority wants three nodes: only 19 need go."""
    nodes(talk, "n1", "n2", "n3", "n4", "n5")
    for at_ms, job in enumerate(("17", "18", "19"), 1001):
        talk.ask(at_ms, allocate(job, cpu=1000, constraints=on(f"n{int(job) - 16}")))
    talk.ask(2000, allocate("high", cpu=1000, count=3, gang=True, priority=HIGH, wait_ms=9000))
    assert [e.agent_id for e in talk.happened(Ended)] == ["19"]
    assert sorted(g.node_id for g in talk.happened(Granted)) == ["n3", "n4", "n5"]


CASES = {
    # rule: what runs on n1, then on n2, as (priority, cpu, granted at); always n2 is to be chosen
    "lowest highest priority": (((HIGH, 1000, 1),), ((MEDIUM, 500, 1), (MEDIUM, 500, 2))),
    "fewest": (((MEDIUM, 500, 1), (MEDIUM, 500, 2)), ((MEDIUM, 1000, 1),)),
    "lowest sum": (((HIGH, 500, 1), (MEDIUM, 500, 2)), ((HIGH, 500, 1), (LOW, 500, 2))),
    "latest start": (((HIGH, 500, 1), (LOW, 500, 5)), ((HIGH, 500, 3), (LOW, 500, 4))),
}


@pytest.mark.parametrize("rule", CASES)
def test_ct_65_each_rule_alone(talk, rule):
    nodes(talk, "n1", "n2")
    held = [
        (*each, name) for name, some in zip(("n1", "n2"), CASES[rule], strict=True) for each in some
    ]
    for priority, cpu, at_ms, name in sorted(held, key=lambda each: each[2]):
        ask = allocate("v", cpu=cpu, priority=priority, constraints=on(name))
        talk.ask(1000 + at_ms, ask)
    talk.ask(2000, allocate("x", cpu=1000, priority=CRITICAL, wait_ms=9000))
    assert {e.node_id for e in talk.happened(Preempting)} == {"n2"}
    assert [g.node_id for g in talk.happened(Granted)] == ["n2"]


def test_ct_65_the_last_rule_is_the_first_node(talk):
    nodes(talk, "n1", "n2")
    talk.ask(1001, allocate("v", cpu=1000, count=2, gang=True))
    talk.ask(2000, allocate("x", cpu=1000, priority=HIGH, wait_ms=9000))
    assert [e.node_id for e in talk.happened(Preempting)] == ["n1"]


def test_kubernetes_reprieves_what_need_not_go(talk):
    """Of the lower ones on a node as many stay as can, those of higher priority first."""
    nodes(talk, "n1", cpu=4000)
    for priority in (LOW, MEDIUM, LOW, MEDIUM):
        talk.ask(1001, allocate("v", cpu=1000, priority=priority))
    talk.ask(2000, allocate("x", cpu=2000, priority=HIGH, wait_ms=9000))
    assert [e.allocation_id for e in talk.happened(Preempting)] == [1, 3]
