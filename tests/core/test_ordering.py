"""The order of the queue at its edges: what counts when, and for how long."""

from __future__ import annotations

import pytest

from raftalloc.core import commands, fairness, views
from raftalloc.core.commands import LEAVE, SetQueue
from raftalloc.core.events import Aged, Granted, QueueSet
from raftalloc.core.machine import next_due_ms
from raftalloc.core.records import GRANTED
from tests.core.asking import Talk, allocate, node, provider, quota, reserve, there


@pytest.fixture
def talk() -> Talk:
    """One CPU, which x holds."""
    talk = Talk()
    talk.ask(1000, node("n1", cpu=1000), allocate("x", cpu=1000))
    return talk


def waiting(talk: Talk) -> list[str]:
    """Agents by their place."""
    return [row.request.agent_id for row in views.queue(talk.state)]


def test_under_fifo_neither_priority_nor_age_nor_share_counts(talk):
    talk.ask(1000, SetQueue(order=commands.FIFO, ageing_ms=10))
    talk.ask(1001, allocate("x", cpu=1000, wait_ms=9000, priority=commands.LOW))
    talk.ask(1002, allocate("b", cpu=1000, wait_ms=9000, priority=commands.CRITICAL))
    talk.ask(2000, commands.Tick())
    assert waiting(talk) == ["x", "b"]
    assert talk.happened(Aged) == []


def test_only_the_first_of_a_line_ages_and_the_next_has_its_age_at_once(talk):
    talk.ask(1000, SetQueue(order=commands.PRIORITY, ageing_ms=100))
    for at_ms in (1001, 1050, 1060):
        talk.ask(at_ms, allocate("a", cpu=1000, wait_ms=9000, priority=commands.LOW))
    talk.ask(1250, commands.Tick())
    assert talk.happened(Aged) == [Aged(2, 2)]
    talk.ask(1260, commands.Cancel(2, "a"))
    assert talk.happened(Aged) == [Aged(3, 2)]


def test_a_request_is_overdue_after_the_stated_time_and_never_sooner(talk):
    talk.ask(1000, SetQueue(order=commands.PRIORITY_WITH_FAIRSHARE, ageing_ms=100))
    talk.ask(1000, allocate("x", cpu=1000, wait_ms=9000, priority=commands.LOW))
    talk.ask(1399, allocate("b", cpu=1000, wait_ms=9000, priority=commands.CRITICAL))
    assert waiting(talk) == ["b", "x"]
    assert next_due_ms(talk.state) == 1400
    talk.ask(1400, commands.Tick())
    assert waiting(talk) == ["x", "b"]
    talk.ask(1401, commands.Release(1, 1, "x"))
    assert [grant.agent_id for grant in talk.happened(Granted)] == ["x"]


def test_a_held_window_counts_into_the_share_of_its_type(talk):
    talk.ask(1000, SetQueue(order=commands.FAIR_SHARE), node("n2", cpu=1000))
    talk.ask(1000, reserve("r", cpu=1000, start_ms=1000, duration_ms=5000))
    assert fairness.millionths(fairness.share_of(talk.state, "r")) == 500_000
    talk.ask(6000, commands.Tick())
    assert fairness.share_of(talk.state, "r") == fairness.NOTHING


def test_a_kind_that_the_fleet_has_lost_counts_as_taken_whole(talk):
    talk.ask(1001, provider("p", api_quota=1000), allocate("a", api_quota=1))
    talk.ask(1002, commands.Drain("p"), provider("p", db_connections=5))
    assert fairness.share_of(talk.state, "a") == (1000, 1000)


def test_a_weight_changes_the_order_at_once_and_stays_until_it_is_named_again(talk):
    talk.ask(1000, SetQueue(order=commands.FAIR_SHARE), node("n2", cpu=3000))
    talk.ask(1001, allocate("a", cpu=1000), allocate("b", cpu=2000))
    talk.ask(1002, allocate("b", cpu=1000, wait_ms=9000), allocate("a", cpu=1000, wait_ms=9000))
    assert waiting(talk) == ["a", "b"]
    talk.ask(1003, commands.SetQuota("b", "", (), 3000))
    assert waiting(talk) == ["b", "a"]
    talk.ask(1004, quota("b", cpu=9000))
    assert there(views.quota(talk.state, "b")).weight == 3000


def test_what_the_configuration_starts_with_counts_once(talk):
    start = SetQueue(initial=True, order=commands.FIFO, ageing_ms=5)
    talk.ask(1001, start)
    assert talk.happened(QueueSet) == [QueueSet(commands.FIFO, 5)]
    talk.ask(1002, SetQueue(initial=True, order=commands.PRIORITY))
    assert talk.happened(QueueSet) == []
    talk.ask(1003, SetQueue(order=LEAVE, ageing_ms=7))
    assert talk.happened(QueueSet) == [QueueSet(commands.FIFO, 7)]


def test_members_of_an_array_take_turns_with_other_types(talk):
    talk.ask(1000, SetQueue(order=commands.FAIR_SHARE), node("n2", cpu=3000))
    talk.ask(1000, allocate("y", cpu=3000))
    talk.ask(1001, allocate("a", cpu=1000, count=3, wait_ms=9000))
    talk.ask(1002, allocate("b", cpu=1000, wait_ms=9000))
    talk.ask(1003, commands.Release(2, 2, "y"))
    assert [grant.agent_id for grant in talk.happened(Granted)] == ["a", "b", "a"]


def test_a_queue_is_shown_by_page_in_its_order(talk):
    for name in ("a", "b", "c"):
        talk.ask(1001, allocate(name, cpu=1000, wait_ms=9000))
    assert [row.request.position for row in views.queue(talk.state, after=1, limit=1)] == [2]
    assert [row.standing for row in views.queue(talk.state)] == [2, 2, 2]
    assert talk.ask(1002, node("n9", cpu=9000), allocate("d", cpu=1)).status == GRANTED
