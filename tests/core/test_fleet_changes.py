"""Rows that shrink, go and come back under what runs on them; amounts as large as there may be; all bounds."""

from __future__ import annotations

import pytest

from raftalloc.core import (
    codec,
    commands,
    events,
    rejections,
    requests,
    views,
)
from raftalloc.core.admission import ADMITTED_MAX
from raftalloc.core.commands import Asked, Constraint, Entry
from raftalloc.core.events import Granted, ReservationEnded
from raftalloc.core.invariants import check
from raftalloc.core.machine import apply, fold, next_due_ms
from raftalloc.core.quantities import AMOUNT_MAX, FLEET_AMOUNT_MAX
from raftalloc.core.records import DONE, GRANTED, REJECTED
from raftalloc.core.rejections import describe
from raftalloc.core.state import State
from tests.core.asking import Talk, allocate, code_of, node, provider, quota, reserve

ON_N1 = (Constraint("is", commands.IN, ("n1",)),)
N1 = (("is", "n1"),)


@pytest.fixture
def talk():
    return Talk()


# -- the fleet ------------------------------------------------------------------------------------


def test_a_node_with_fewer_devices_than_are_in_use_survives_a_restart(talk):
    talk.ask(1000, node("n1", ("T4",) * 16, cpu=8000))
    talk.ask(1000, *[allocate("a", gpu=1000) for _ in range(12)])
    talk.ask(1000, reserve("r", gpu=3000, start_ms=9000, duration_ms=1000))
    talk.ask(2000, node("n1", ("T4",) * 2, cpu=8000))
    talk.rig.restore()
    assert code_of(talk.ask(2001, allocate("a", gpu=100))) == rejections.NO_CAPACITY
    for ident in range(1, 13):
        talk.ask(2002, commands.Release(ident, ident, "a"))
    assert talk.ask(2003, allocate("a", gpu=1000, duration_ms=500)).status == GRANTED
    talk.ask(9000, commands.Tick())
    assert [e.reason for e in talk.happened(ReservationEnded)] == [events.BROKEN]


def test_a_name_used_again_is_a_new_node(talk):
    talk.ask(1000, node("n1", cpu=4000), node("n2", cpu=4000), allocate("a", cpu=1000))
    talk.ask(1001, commands.Drain("n1", 5000))
    talk.ask(1002, commands.RemoveNode("n1", force=True), node("n1", cpu=4000))
    talk.rig.restore()
    assert talk.ask(1003, allocate("a", cpu=1000, policy=commands.FIRST_FIT)).status == GRANTED
    assert [g.node_id for g in talk.happened(Granted)] == ["n2"]  # n1 has come after it by now
    talk.ask(5000, commands.Tick())
    assert talk.happened(object) == []
    assert talk.ask(5001, commands.Renew(1, 1, "a")).rejection.code == rejections.ALREADY_ENDED


def test_a_row_may_become_a_provider_once_the_node_is_gone(talk):
    talk.ask(1000, node("x", ("T4",), cpu=4000), allocate("a", gpu=500))
    assert code_of(talk.ask(1001, provider("x", api_quota=5))) == rejections.WRONG_SCOPE
    talk.ask(1002, commands.RemoveNode("x", force=True), provider("x", api_quota=1000))
    talk.rig.restore()
    assert talk.ask(1003, allocate("a", api_quota=1000)).status == GRANTED


def test_ten_thousand_members_start_and_wait():
    """By two ways only, deciding and folding: they are many."""
    state, folded = State.genesis(), State.genesis()

    def ask(command):
        index = state.index + 1
        applied = apply(state, Entry(1000, "r1", (Asked(command),)), index)
        fold(folded, applied.happened, index=index, at_ms=1000)
        return applied.outcomes[0]

    ask(node("n1", cpu=7_000_000))
    outcome = ask(allocate("a", cpu=1000, count=10_000, wait_ms=60_000))
    assert (outcome.status, outcome.count) == (GRANTED, 7000)
    ask(node("n2", cpu=9_000_000))
    while state.waiting_count():
        assert 0 < next_due_ms(state) <= 1000, "a tick is wanted to go on"
        ask(commands.Tick())
    assert state.index <= 3 + 3000 // ADMITTED_MAX
    assert (state.live_count(), state.next_id) == (10_000, 10_001)
    assert ask(allocate("a", cpu=1000, count=7001, gang=True)).status == REJECTED
    assert ask(allocate("a", cpu=1000, count=6000, gang=True)).status == GRANTED
    assert check(state) == []
    assert codec.encode_state(folded) == codec.encode_state(state)


# -- huge amounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{}, {"cpu": 1000}, {"cpu": AMOUNT_MAX}])
def test_a_gang_that_asks_for_more_than_int64_holds_is_refused(talk, limits):
    talk.ask(1000, node("n1", cpu=AMOUNT_MAX), quota("a", **limits))
    command = allocate("a", cpu=AMOUNT_MAX, count=commands.COUNT_MAX, gang=True, wait_ms=9000)
    outcome = talk.ask(1001, command)
    wanted = rejections.QUOTA_EXCEEDED if limits else rejections.UNSATISFIABLE
    assert code_of(outcome) == wanted
    assert "-" not in describe(outcome.rejection)


def test_a_draw_that_asks_for_more_than_int64_holds_is_refused(talk):
    talk.ask(1000, node("n1", cpu=AMOUNT_MAX))
    talk.ask(1000, reserve("a", cpu=AMOUNT_MAX, start_ms=1000, duration_ms=1000))
    draw = allocate("a", cpu=AMOUNT_MAX, count=commands.COUNT_MAX, reservation_id=1)
    assert code_of(talk.ask(1001, draw)) == rejections.RESERVATION_EXHAUSTED


def test_a_fleet_of_huge_nodes_does_not_overflow(talk):
    """As many as there may be, all of it in use, and half of it lowered under that use."""
    talk.rig.judged = False
    rows = FLEET_AMOUNT_MAX // AMOUNT_MAX
    kinds = {"cpu": AMOUNT_MAX, "memory": AMOUNT_MAX, "disk__nvme": AMOUNT_MAX}
    talk.ask(1000, *[node(f"n{row}", **kinds) for row in range(rows)])
    too_much = talk.ask(1001, node("more", cpu=1000))
    assert code_of(too_much) == rejections.LIMIT_REACHED
    assert "cpu" in describe(too_much.rejection)
    talk.ask(1002, quota("a", cpu=AMOUNT_MAX))
    granted = talk.ask(1003, allocate("b", count=rows, gang=True, **kinds))
    assert granted.count == rows
    assert code_of(talk.ask(1004, allocate("b", cpu=1))) == rejections.NO_CAPACITY
    talk.ask(1005, *[node(f"n{row}", cpu=1, memory=1) for row in range(rows - 1)])
    assert code_of(talk.ask(1006, node("more", cpu=AMOUNT_MAX))) == rejections.LIMIT_REACHED
    assert code_of(talk.ask(1007, allocate("b", memory=5))) == rejections.NO_CAPACITY
    explained = views.utilization(talk.state)
    assert {use.kind: use.used for use in explained.kinds}["cpu"] == FLEET_AMOUNT_MAX


def test_a_small_fleet_below_huge_use_still_ranks_its_nodes(talk):
    talk.ask(1000, node("n1", cpu=AMOUNT_MAX, memory=10), allocate("a", cpu=AMOUNT_MAX))
    talk.ask(1001, node("n1", cpu=1, memory=10), node("n2", cpu=1, memory=20))
    talk.ask(1002, allocate("b", memory=5), allocate("b", memory=5))
    assert [g.node_id for g in talk.happened(Granted)] == ["n1", "n1"]


def test_an_extension_may_be_asked_for_ten_years_again_and_again(talk):
    talk.ask(1000, node("n1", cpu=1000), allocate("a", cpu=1000, duration_ms=1000))
    for _ in range(20):
        assert talk.ask(1001, commands.Renew(1, 1, "a", 10 * 366 * 86_400_000)).status == DONE


# -- bounds ---------------------------------------------------------------------------------------


def test_reserving_under_ever_new_types_ends_at_the_limit_of_quotas(talk, monkeypatch):
    monkeypatch.setattr("raftalloc.core.admission.QUOTAS_MAX", 4)
    talk.ask(1000, node("n1", cpu=8000))
    for number in range(2):
        window = reserve(f"t{number}", cpu=1, start_ms=9000, duration_ms=10)
        ident = talk.ask(1001 + number, window).subject
        talk.ask(1002 + number, commands.CancelReservation(ident))
    refused = talk.ask(2000, reserve("t2", cpu=1, start_ms=9000, duration_ms=10))
    assert code_of(refused) == rejections.LIMIT_REACHED
    assert code_of(talk.ask(2001, allocate("t3", cpu=1))) == rejections.LIMIT_REACHED
    assert talk.ask(2002, allocate("t1", cpu=1)).status == GRANTED


def test_quotas_stand_no_deeper_than_the_limit(talk):
    talk.ask(1000, quota("q1"))
    for level in range(2, 32):
        assert talk.ask(1000, quota(f"q{level}", f"q{level - 1}")).status == DONE
    assert code_of(talk.ask(1001, quota("q32", "q31"))) == rejections.LIMIT_REACHED
    assert code_of(talk.ask(1001, quota("default", "q31"))) == rejections.LIMIT_REACHED
    assert code_of(talk.ask(1001, quota("q1", "q31"))) == rejections.QUOTA_CYCLE


def test_there_are_at_most_64_kinds(talk):
    for block in range(5):
        kinds = {f"disk__d{block}_{number}": 1000 for number in range(11)}
        assert talk.ask(1000, node(f"n{block}", **kinds)).status == DONE
    refused = talk.ask(1001, node("more", disk__one=1))
    assert code_of(refused) == rejections.LIMIT_REACHED
    assert code_of(talk.ask(1001, quota("a", cache__two=1))) == rejections.LIMIT_REACHED
    assert talk.ask(1002, allocate("a", disk__d0_0=1, disk__d4_10=1)).status == REJECTED
    assert talk.ask(1003, allocate("a", disk__d4_10=1)).status == GRANTED


def test_the_snapshot_is_as_small_as_what_is_left(talk):
    """Names, rows and lines are given back: a state that is empty again does not grow by having been full."""
    talk.rig.judged = False
    talk.ask(1000, node("n1", cpu=800_000))
    for round_ in range(3):
        agents = [f"agent{round_}_{number}" for number in range(100)]
        talk.ask(2000, *[allocate(agent, agent_type="t", cpu=1000) for agent in agents])
        grants = talk.happened(Granted)
        talk.ask(2000, *[commands.Release(g.allocation_id, g.token, g.agent_id) for g in grants])
        assert talk.state.names.count() == 1
        assert talk.state.leases.table.high == 100
    assert len(codec.encode_state(talk.state)) < 60_000
    assert requests.gone(talk.state, 1).code == rejections.ALREADY_ENDED
