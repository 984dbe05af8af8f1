"""Sequences made to hold up what waits, or to let it pass where it must not: run by every way, and judged."""

from __future__ import annotations

import pytest

from raftalloc.core import (
    commands,
    events,
    queues,
    rejections,
    views,
)
from raftalloc.core.commands import Constraint
from raftalloc.core.events import Granted, ReservationMoved
from raftalloc.core.records import DONE, GRANTED, QUEUED
from tests.core.asking import Talk, allocate, code_of, node, quota, reserve, there

ON_N1 = (Constraint("is", commands.IN, ("n1",)),)
N1 = (("is", "n1"),)


@pytest.fixture
def talk():
    return Talk()


def test_a_refusal_does_not_depend_on_what_a_line_remembers(talk):
    """Blocked for room first, and under its quota later: a restored replica knows only the latter."""
    talk.ask(1000, node("n1", cpu=4000), quota("a", cpu=3000), allocate("b", cpu=3000))
    talk.ask(1000, allocate("a", cpu=2000, wait_ms=100_000))
    talk.ask(1003, allocate("a", cpu=1000))
    talk.rig.restore()
    assert code_of(talk.ask(1004, allocate("a", cpu=3000))) == rejections.QUOTA_EXCEEDED
    assert code_of(talk.ask(1005, allocate("a", cpu=2500))) == rejections.QUOTA_EXCEEDED


def test_a_waiting_array_outlives_its_quota(talk):
    """Started in part, released, its quota deleted: the rest is charged to a new implicit one."""
    talk.ask(1000, node("n1", cpu=8000), quota("a", cpu=1000))
    talk.ask(1000, allocate("a", cpu=1000, count=3, wait_ms=100_000))
    talk.ask(1001, commands.Cordon("n1"), commands.Release(1, 1, "a"))
    assert talk.ask(1003, commands.DeleteQuota("a")).status == DONE
    talk.ask(1004, commands.Uncordon("n1"))
    assert [g.allocation_id for g in talk.happened(Granted)] == [2, 3]
    assert there(views.quota(talk.state, "a")).implicit
    assert dict(there(views.quota(talk.state, "a")).used) == {"cpu": 2000}


def test_a_deleted_quota_blocks_nobody(talk):
    talk.ask(1000, node("n1", cpu=8000), quota("a", cpu=1000))
    talk.ask(1000, allocate("a", cpu=1000), allocate("a", cpu=1000, wait_ms=100_000))
    talk.ask(1001, quota("a", cpu=500), commands.Release(1, 1, "a"))
    talk.ask(1003, commands.DeleteQuota("a"))
    assert [g.allocation_id for g in talk.happened(Granted)] == [2]


def test_a_quota_that_is_made_again_under_the_same_row_is_another(talk):
    talk.ask(1000, node("n1", cpu=8000), quota("a", cpu=1000), quota("b", cpu=500))
    talk.ask(1000, allocate("b", cpu=1000, wait_ms=100_000))
    assert (
        code_of(talk.applied.outcomes and talk.ask(1001, allocate("b", cpu=600)))
        == "QUOTA_EXCEEDED"
    )
    talk.ask(1002, commands.DeleteQuota("a"), quota("c", cpu=100))
    assert code_of(talk.ask(1003, allocate("c", cpu=200))) == rejections.QUOTA_EXCEEDED
    assert talk.ask(1004, allocate("a", cpu=4000)).status == GRANTED


def test_an_implicit_quota_moves_with_all_that_is_charged_to_it(talk):
    talk.ask(1000, node("n1", cpu=8000), quota("team", cpu=3000), quota("default", cpu=4000))
    talk.ask(1001, allocate("a", cpu=2000), allocate("b", cpu=2000))
    assert code_of(talk.ask(1001, allocate("a", cpu=1))) == rejections.QUOTA_EXCEEDED
    talk.ask(1002, commands.SetQuota("a", "team", ()))
    assert dict(there(views.quota(talk.state, "default")).used) == {"cpu": 2000}
    assert dict(there(views.quota(talk.state, "team")).used) == {"cpu": 2000}
    assert talk.ask(1003, allocate("a", cpu=1000)).status == GRANTED
    assert code_of(talk.ask(1003, allocate("a", cpu=1))) == rejections.QUOTA_EXCEEDED
    assert talk.ask(1003, allocate("b", cpu=2000)).status == GRANTED
    talk.ask(1004, commands.SetQuota("team", "default", ()))
    assert dict(there(views.quota(talk.state, "default")).used) == {"cpu": 7000}
    assert code_of(talk.ask(1005, commands.SetQuota("default", "a", ()))) == rejections.QUOTA_CYCLE


def test_room_that_a_moved_window_leaves_is_offered_to_what_waits(talk):
    talk.ask(1000, node("n1", cpu=8000, attributes=N1), node("n2", cpu=8000))
    talk.ask(1000, reserve("r", cpu=6000, start_ms=10_000, duration_ms=5000))
    talk.ask(1000, commands.Cordon("n2"), allocate("x", cpu=2000, duration_ms=500))
    talk.ask(2000, node("n1", cpu=4000, attributes=N1), commands.Tick())
    waits = allocate("w", cpu=4000, wait_ms=100_000, constraints=ON_N1)
    assert talk.ask(2001, waits).status == QUEUED
    talk.ask(2500, commands.Uncordon("n2"))
    talk.ask(10_000, commands.Tick())
    assert [m.node_id for m in talk.happened(ReservationMoved)] == ["n2"]
    assert [g.node_id for g in talk.happened(Granted)] == ["n1"]


def test_a_shorter_run_is_not_held_up_by_a_longer_one_of_its_line(talk):
    """Both wait in one line; the window ahead stops the first only."""
    talk.ask(1000, commands.SetQueue(order=commands.PRIORITY))
    talk.ask(1000, node("n1", cpu=4000), allocate("x", cpu=4000, duration_ms=1000))
    talk.ask(1000, reserve("r", cpu=4000, start_ms=5000, duration_ms=1000))
    talk.ask(1001, allocate("a", cpu=2000, duration_ms=9000, wait_ms=90_000))
    talk.ask(1001, allocate("a", cpu=2000, duration_ms=500, wait_ms=90_000))
    talk.ask(1001, allocate("a", cpu=2000, duration_ms=700, wait_ms=90_000))
    talk.ask(1001, allocate("b", cpu=2000, duration_ms=700, wait_ms=90_000))
    talk.ask(2000, commands.Tick())
    assert [g.ends_ms for g in talk.happened(Granted)] == [2500, 2700]
    talk.ask(2500, commands.Tick())
    assert [g.agent_id for g in talk.happened(Granted)] == ["b"]
    talk.ask(6000, commands.Tick())
    assert [g.ends_ms for g in talk.happened(Granted)] == [15_000]


def test_a_row_below_zero_in_one_kind_helps_who_asks_for_another(talk):
    talk.ask(1000, node("n1", ("T4",), cpu=8000), allocate("x", cpu=8000))
    talk.ask(1001, allocate("y", gpu=1000), allocate("a", gpu=1000, wait_ms=90_000))
    talk.ask(1001, allocate("b", cpu=500, wait_ms=90_000))
    talk.ask(1002, node("n1", ("T4", "T4"), cpu=1000))
    assert [g.agent_id for g in talk.happened(Granted)] == ["a"]


def test_a_full_queue_refuses_nothing_that_was_granted(talk, monkeypatch):
    talk.ask(1000, node("n1", cpu=2000))
    talk.ask(1000, allocate("w", cpu=2000, count=2, gang=False, wait_ms=90_000, priority=1))
    monkeypatch.setattr(queues, "WAITING_MAX", 1)
    talk.ask(1001, commands.Release(1, 1, "w"), commands.Cancel(1, "w"))
    talk.ask(1002, commands.Tick())
    monkeypatch.setattr(queues, "WAITING_MAX", 0)
    holds = talk.ask(1003, commands.RegisterNode("n2", provider=False, capacity=(("cpu", 1000),)))
    assert holds.status == DONE
    granted = talk.ask(1004, allocate("a", cpu=1000, count=5, wait_ms=90_000))
    assert (granted.status, granted.count) == (GRANTED, 1)
    assert code_of(talk.ask(1005, allocate("a", cpu=1000, wait_ms=90_000))) == "LIMIT_REACHED"


def test_how_the_first_member_ended_is_not_forgotten_when_the_rest_is_withdrawn(talk):
    talk.ask(1000, node("n1", cpu=1000))
    talk.ask(1000, allocate("a", cpu=1000, count=2, lease_ttl_ms=1000, wait_ms=5000))
    talk.ask(1001, commands.Cordon("n1"))
    talk.ask(2000, commands.Tick())
    talk.ask(6000, commands.Tick())
    assert len(talk.happened(events.Withdrawn)) == 1
    assert code_of(talk.ask(6001, commands.Renew(1, 1, "a"))) == rejections.LEASE_EXPIRED
