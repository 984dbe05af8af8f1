"""Pages and filters of what the state shows."""

from __future__ import annotations

import pytest

from raftalloc.core import commands, views
from raftalloc.core.records import EndedRecord, KindUse
from tests.core.asking import Talk, allocate, node, provider, quota, reserve, there


@pytest.fixture
def talk():
    """Ten live allocations, 1..10, six waiting requests 11..16."""
    talk = Talk()
    talk.ask(1000, node("n1", ("T4", "A100"), cpu=6000, static=True), node("n2", cpu=4000))
    for number in range(10):
        agent, workflow = f"agent_{number % 2}", f"w{number % 3}"
        talk.ask(1000, allocate(agent, agent_type="t", workflow_id=workflow, cpu=1000))
    for number in range(6):
        priority = commands.HIGH if number == 5 else commands.LOW
        talk.ask(
            1001,
            allocate(f"agent_{number % 2}", agent_type="t", cpu=1000, wait_ms=9, priority=priority),
        )
    return talk


def ids(found):
    return [one.allocation_id for one in found]


def test_pages_of_allocations_meet_without_gap_or_overlap(talk):
    seen, after = [], 0
    while page := views.allocations(talk.state, after=after, limit=3):
        assert len(page) <= 3
        seen += ids(page)
        after = seen[-1]
    assert seen == list(range(1, 11))


def test_every_filter_must_match(talk):
    state = talk.state
    assert ids(views.allocations(state, agent_id="agent_1")) == [2, 4, 6, 8, 10]
    assert ids(views.allocations(state, agent_id="agent_1", workflow_id="w0")) == [4, 10]
    assert ids(views.allocations(state, agent_id="agent_1", workflow_id="w0", after=4)) == [10]
    assert ids(views.allocations(state, request_id=7)) == [7]
    assert ids(views.allocations(state, agent_type="t", limit=2)) == [1, 2]
    on_n2 = ids(views.allocations(state, node_id="n2"))
    assert sorted(on_n2 + ids(views.allocations(state, node_id="n1"))) == list(range(1, 11))


def test_a_filter_that_names_nobody_matches_nothing(talk):
    assert views.allocations(talk.state, agent_id="x") == []
    assert views.allocations(talk.state, workflow_id="x") == []
    assert views.allocations(talk.state, agent_type="x") == []
    assert views.allocations(talk.state, node_id="x") == []
    assert views.allocations(talk.state, request_id=999) == []


def test_what_ran_on_providers_alone_is_on_no_node(talk):
    talk.ask(1002, provider("p", api_quota=1000), allocate("b", api_quota=500))
    ((found),) = views.allocations(talk.state, agent_id="b")
    assert (found.node_id, found.suppliers) == ("", ("p",))
    assert views.allocations(talk.state, node_id="p") == []
    assert there(views.node(talk.state, "p")).allocations == 1


def test_waiting_requests_come_by_id_with_their_place_in_the_queue(talk):
    found = views.waiting_requests(talk.state)
    assert [(w.request_id, w.position) for w in found] == [
        (11, 2), (12, 3), (13, 4), (14, 5), (15, 6), (16, 1),
    ]  # fmt: skip
    page = views.waiting_requests(talk.state, after=12, limit=2)
    assert [w.request_id for w in page] == [13, 14]
    assert [w.request_id for w in views.waiting_requests(talk.state, agent_id="agent_1")] == [
        12,
        14,
        16,
    ]
    assert views.waiting_requests(talk.state, workflow_id="x") == []


def test_what_is_not_there_is_none(talk):
    state = talk.state
    assert views.allocation(state, 11) is None
    assert views.waiting(state, 1) is None
    assert views.node(state, "n9") is None
    assert views.quota(state, "x") is None
    assert views.reservation(state, 1) is None
    assert views.ended(state, 1) is None


def test_nodes_come_by_registration_behind_the_one_named(talk):
    talk.ask(1002, provider("p", api_quota=1000), node("a0", cpu=1))
    talk.ask(1003, commands.RemoveNode("n1", force=True), node("n1", cpu=1))
    assert [n.node_id for n in views.nodes(talk.state)] == ["n2", "p", "a0", "n1"]
    assert [n.node_id for n in views.nodes(talk.state, after="p")] == ["a0", "n1"]
    assert [n.node_id for n in views.nodes(talk.state, after="n2", limit=1)] == ["p"]
    assert [n.node_id for n in views.nodes(talk.state, after="unknown", limit=1)] == ["n2"]
    assert [n.node_id for n in views.nodes(talk.state, providers_only=True)] == ["p"]


def test_a_node_shows_its_devices_and_what_is_held():
    talk = Talk()
    talk.ask(1000, node("n1", ("T4", "A100"), cpu=6000, attributes=(("zone", "east"),)))
    talk.ask(1000, reserve("r", cpu=2000, start_ms=1000, duration_ms=100))
    talk.ask(1000, allocate("a", gpu=300), commands.Drain("n1", 5000))
    shown = there(views.node(talk.state, "n1"))
    assert shown.devices == (("T4", 300), ("A100", 0))
    assert (shown.used, shown.held) == ((("gpu", 300),), (("cpu", 2000),))
    assert (shown.deadline_ms, shown.attributes) == (5000, (("zone", "east"),))


def test_implicit_quotas_are_shown_when_asked_for(talk):
    talk.ask(1002, quota("team", cpu=0, memory=1024))
    assert [q.name for q in views.quotas(talk.state)] == ["root", "default", "team"]
    names = [q.name for q in views.quotas(talk.state, with_implicit=True)]
    assert names == ["root", "default", "t", "team"]
    assert there(views.quota(talk.state, "team")).limits == (("cpu", 0), ("memory", 1024))
    assert there(views.quota(talk.state, "t")).parent == "default"
    assert there(views.quota(talk.state, "root")).used == (("cpu", 10_000),)


def test_reservations_by_id_and_workflow():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=6000))
    talk.ask(1000, reserve("r", cpu=2000, start_ms=1000, duration_ms=100, workflow_id="w1"))
    talk.ask(1000, reserve("s", cpu=1000, start_ms=5000, duration_ms=100, workflow_id="w2"))
    talk.ask(1001, allocate("r", cpu=500, reservation_id=1))
    first, second = views.reservations(talk.state)
    assert (first.open, first.remaining) == (True, (("cpu", 1500),))
    assert (second.open, second.remaining) == (False, ())
    assert views.reservations(talk.state, workflow_id="w2") == [second]


def test_ended_ids_are_remembered_with_their_reason(talk):
    talk.ask(1002, commands.Release(1, 1, "agent_0"))
    assert views.ended(talk.state, 1) == EndedRecord(1, "RELEASED", 1002)
    talk.ask(1003, commands.Cancel(12, "agent_1"))
    assert views.ended(talk.state, 12) == EndedRecord(12, "CANCELLED", 1003)


def test_utilization_counts_rows_that_are_ready_as_available(talk):
    talk.ask(1002, commands.Cordon("n1"), provider("p", api_quota=1000), node("n3", cpu=500))
    talk.ask(1003, allocate("z", api_quota=300))
    told = views.utilization(talk.state)
    assert told.kinds == (
        KindUse("cpu", 10_500, 10_000, 0, 500),
        KindUse("gpu", 2000, 0, 0, 0),
        KindUse("api_quota", 1000, 300, 0, 700),
    )
    assert (told.nodes_ready, told.nodes_total, told.providers_total) == (2, 3, 1)
    assert (told.allocations_live, told.requests_waiting) == (11, 6)
