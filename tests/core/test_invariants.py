"""`check` finds what is wrong: each tampering with a sound state is named."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from raftalloc.core.invariants import check
from tests.core.asking import Talk, allocate, node, provider, quota, reserve


@pytest.fixture
def state():
    talk = Talk()
    talk.ask(
        1000,
        node("n1", ("T4", "T4"), cpu=4000),
        provider("p", api_quota=1000),
        quota("a", cpu=3500),
    )
    talk.ask(1000, allocate("a", cpu=1000, gpu=1000, lease_ttl_ms=5000, duration_ms=9000))
    talk.ask(1000, reserve("a", cpu=1000, gpu=500, start_ms=1000, duration_ms=9000))
    talk.ask(1001, allocate("a", cpu=400, reservation_id=2), allocate("a", api_quota=10))
    talk.ask(1001, allocate("b", cpu=1900, wait_ms=9000, count=2, gang=True, priority=1))
    talk.ask(1001, allocate("a", cpu=2500, wait_ms=9000))
    return talk.state


def test_a_sound_state_has_no_complaint(state):
    assert check(state) == []


def tampered(name, state):
    fleet, columns = state.fleet, state.leases.table.columns
    waiting = next(iter(state.queue.requests.values()))
    reservation = state.reservations.by_id[2]
    cpu = state.kinds.column("cpu")
    match name:
        case "used":
            fleet.matrix.used[0, cpu] += 1
        case "held":
            fleet.matrix.held[0, cpu] -= 1
        case "free":
            fleet.matrix.free[0, cpu] += 1
        case "score":
            fleet.matrix.score[0] += 1
        case "counts":
            fleet.allocations[0] += 1
        case "total of cpu":
            fleet.totals[cpu] += 1
        case "capacity on the wrong sort of row":
            fleet.is_node[0] = False
        case "device 0 of n1: used":
            fleet.device_used[0, 0] -= 1
        case "device 1 of n1: held":
            fleet.device_held[0, 1] += 1
        case "device 1 of n1: free":
            fleet.device_free[0, 1] += 1
        case "given out beyond":
            columns["device_amount"][0] = 1500
        case "devices do not add up":
            columns["devices"][0] = 3
        case "quota a: counts":
            state.quotas.allocations[state.quotas.row("a")] += 1
        case "quota root cpu: used":
            state.quotas.used[0, cpu] += 1
        case "quota a cpu: held":
            state.quotas.held[state.quotas.row("a"), cpu] += 1
        case "its row says":
            columns["id"][0] = 77
        case "is not its own":
            columns["token"][0] = columns["token"][1]
        case "not below the next id":
            state.next_id = 3
        case "its lease outlives its end":
            columns["expires_ms"][0] = columns["ends_ms"][0] + 1
        case "its reservation is gone":
            columns["reservation_id"][0] = 99
        case "charged to root":
            columns["quota"][0] = 0
        case "from row":
            columns["amounts"][0, 0] = 0
        case "rows that no id leads to":
            state.leases.table.add()
        case "another shape's line":
            line = next(iter(state.queue.lines.by_shape.values()))
            line.requests = OrderedDict({4242: None})
        case "started in part":
            waiting.started = 1
        case "of 2 started":
            waiting.started = 2
        case "stands in the order as":
            state.queue.lines.level[0] += 1
        case "another agent type":
            state.queue.lines.agent_type[0] = 0
        case "does not add up to":
            reservation.remaining["cpu"] += 1
        case "more cpu was drawn than booked":
            reservation.remaining["cpu"] = -1
        case "the first deadline is":
            state.deadlines.clear()


NAMES = [
    "used", "held", "free", "score", "counts", "total of cpu", "capacity on the wrong sort of row",
    "device 0 of n1: used", "device 1 of n1: held", "device 1 of n1: free", "given out beyond",
    "devices do not add up", "quota a: counts", "quota root cpu: used", "quota a cpu: held", "its row says",
    "is not its own", "not below the next id", "its lease outlives its end", "its reservation is gone",
    "charged to root", "from row", "rows that no id leads to", "another shape's line", "started in part",
    "of 2 started", "stands in the order as", "another agent type", "does not add up to",
    "more cpu was drawn than booked", "the first deadline is",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_tampered_state_is_complained_of(state, name):
    tampered(name, state)
    assert [complaint for complaint in check(state) if name in complaint], check(state)
