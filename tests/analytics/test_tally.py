from __future__ import annotations

from raftalloc.analytics.tally import Tally
from raftalloc.core.commands import HIGH, LOW
from raftalloc.core.events import (
    DEADLINE,
    DURATION_ENDED,
    Ended,
    Granted,
    Happened,
    LeaderTook,
    NodeRegistered,
    NodeRemoved,
    QuotaSet,
    Refused,
    Withdrawn,
)

DEMAND = (("cpu", 1000), ("gpu", 500))


def granted(allocation_id, *, request_id=1, priority=LOW, waited_ms=0, demand=DEMAND):
    return Granted(
        allocation_id=allocation_id,
        request_id=request_id,
        agent_id="a",
        agent_type="a",
        workflow_id="w",
        principal="local",
        priority=priority,
        demand=demand,
        node_id="n1",
        suppliers=("n1",) * len(demand),
        devices=(),
        token=allocation_id,
        expires_ms=0,
        ends_ms=0,
        lease_ttl_ms=0,
        reservation_id=0,
        waited_ms=waited_ms,
    )


def ended(allocation_id, reason=DURATION_ENDED):
    return Ended(allocation_id, reason, "a", "w", "n1")


def tally_of(*blocks, counts=()):
    tally = Tally()
    node = NodeRegistered("n1", False, (("cpu", 4000), ("gpu", 1000)), ("T4",), (), True)
    tally.add(0, [Happened(node, 0)])
    for at_ms, events in blocks:
        tally.add(at_ms, [Happened(event, 0) for event in events], counts)
    return tally


def test_the_members_of_an_array_count_one_by_one():
    members = [granted(number, request_id=1) for number in (1, 2, 3)]
    tally = tally_of((10, members))
    assert (tally.placed, tally.live, tally.waits.count(LOW)) == (3, 3, 3)
    assert tally.usage.used == {"cpu": 3000, "gpu": 1500}


def test_requests_in_one_block_are_told_apart():
    events = [
        granted(1, request_id=1, waited_ms=5),
        granted(2, request_id=1, waited_ms=5),
        granted(3, request_id=3, priority=HIGH, waited_ms=5, demand=(("cpu", 1),)),
        granted(4, request_id=1, waited_ms=9),
    ]
    tally = tally_of((10, events))
    assert (tally.waits.count(LOW), tally.waits.count(HIGH)) == (3, 1)
    assert tally.waits.quantile_ms(LOW, 99) == 9
    assert tally.usage.used == {"cpu": 3001, "gpu": 1500}


def test_an_end_in_the_middle_of_a_run_gives_its_own_back():
    tally = tally_of((10, [granted(1), ended(1), granted(2)]), (20, [ended(2)]))
    assert (tally.placed, tally.live) == (2, 0)
    assert tally.ended == {DURATION_ENDED: 2}
    assert set(tally.usage.used.values()) == {0}


def test_ends_of_what_was_never_seen_change_nothing():
    tally = tally_of((10, [ended(77)]))
    assert (tally.ended, tally.live) == ({}, 0)


def test_a_refused_array_counts_all_its_members():
    refusal = Refused("UNSATISFIABLE", "", "cpu", ())
    assert tally_of((10, [refusal]), counts=[283]).rejected == {"UNSATISFIABLE": 283}
    assert tally_of((10, [refusal])).rejected == {"UNSATISFIABLE": 1}


def test_what_waited_in_vain_is_counted_by_reason():
    assert tally_of((10, [Withdrawn(1, DEADLINE, 4, "a", "w")])).withdrawn == {DEADLINE: 4}


def test_making_room_for_another_is_preemption():
    tally = tally_of((10, [granted(1)]), (20, [ended(1, "PREEMPTED")]))
    assert tally.preempted == 1


def test_leaders_and_removed_nodes_are_seen_and_the_rest_is_passed_over():
    tally = tally_of((10, [LeaderTook("r2", 300), QuotaSet("a", "", (), True), NodeRemoved("n1")]))
    assert tally.leaders == 1
    assert tally.usage.kinds() == []


def test_missing_are_the_grants_that_no_event_speaks_of():
    assert tally_of((10, [granted(1), granted(2)])).missing(range(1, 5)) == 2
