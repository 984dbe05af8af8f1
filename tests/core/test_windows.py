"""Sequences made to break the promise of a window: run by every way (`rig`), and judged (`audit`)."""

from __future__ import annotations

import pytest

from raftalloc.core import (
    commands,
    events,
    rejections,
    views,
)
from raftalloc.core.commands import Constraint
from raftalloc.core.events import Granted, ReservationEnded, ReservationMoved, ReservationOpened
from raftalloc.core.records import DONE, GRANTED
from tests.core.asking import Talk, allocate, code_of, node, provider, quota, reserve, there

ON_N1 = (Constraint("is", commands.IN, ("n1",)),)
N1 = (("is", "n1"),)


@pytest.fixture
def talk():
    return Talk()


def test_a_window_is_not_in_its_own_way_when_it_moves(talk):
    """Its provider stays: what is booked there is booked for it."""
    talk.ask(1000, node("n1", cpu=8000), node("n2", cpu=8000), provider("p", api_quota=1000))
    talk.ask(1000, reserve("r", cpu=6000, api_quota=800, start_ms=10_000, duration_ms=5000))
    talk.ask(2000, commands.RemoveNode("n1", force=True))
    assert [m.suppliers for m in talk.happened(ReservationMoved)] == [("p", "n2")]
    talk.ask(10_000, commands.Tick())
    assert len(talk.happened(ReservationOpened)) == 1


def test_a_window_whose_device_is_gone_takes_another_of_its_node(talk):
    talk.ask(1000, node("n1", ("T4", "T4", "A100"), cpu=8000))
    talk.ask(1000, reserve("r", gpu=1000, start_ms=10_000, duration_ms=5000, gpu_models=("A100",)))
    talk.ask(1001, node("n1", ("T4", "A100"), cpu=8000))
    talk.ask(10_000, commands.Tick())
    assert [m.devices for m in talk.happened(ReservationMoved)] == [(("1", 1000),)]


def test_capacity_lowered_under_a_booking_breaks_it_only_if_no_other_row_has_room(talk):
    talk.ask(1000, node("n1", cpu=8000), node("n2", cpu=6000))
    talk.ask(1000, reserve("r", cpu=6000, start_ms=10_000, duration_ms=5000))
    talk.ask(1001, node("n2", cpu=1000))
    talk.ask(10_000, commands.Tick())
    assert [m.node_id for m in talk.happened(ReservationMoved)] == ["n1"]
    talk.ask(11_000, reserve("s", cpu=2000, start_ms=12_000, duration_ms=500))
    talk.ask(11_001, node("n1", cpu=6000))
    talk.ask(12_000, commands.Tick())
    assert [e.reason for e in talk.happened(ReservationEnded)] == [events.BROKEN]


def test_the_deadline_of_a_drain_ends_open_windows_and_lets_booked_ones_be(talk):
    talk.ask(1000, node("n1", cpu=8000))
    talk.ask(1000, reserve("r", cpu=3000, start_ms=1000, duration_ms=5000))
    talk.ask(1000, reserve("s", cpu=3000, start_ms=4000, duration_ms=5000))
    talk.ask(1001, allocate("r", cpu=1000, reservation_id=1), commands.Drain("n1", 2000))
    assert (
        code_of(talk.ask(1002, allocate("r", cpu=500, reservation_id=1))) == rejections.NODE_STATE
    )
    talk.ask(2000, commands.Tick())
    assert [(e.reservation_id, e.reason) for e in talk.happened(ReservationEnded)] == [
        (1, "BROKEN")
    ]
    assert [e.reason for e in talk.happened(events.Ended)] == [events.DRAINED]
    gone = talk.ask(2001, allocate("r", cpu=500, reservation_id=1))
    assert code_of(gone) == rejections.UNKNOWN_RESERVATION
    talk.ask(4000, commands.Tick())
    assert len(talk.happened(ReservationOpened)) == 1


def test_nothing_is_drawn_from_a_lost_row_until_it_returns(talk):
    talk.ask(1000, node("n1", cpu=8000), provider("p", api_quota=1000))
    talk.ask(1000, reserve("r", cpu=3000, api_quota=100, start_ms=1000, duration_ms=5000))
    talk.ask(1001, commands.MarkLost("n1"))
    assert (
        code_of(talk.ask(1002, allocate("r", cpu=500, reservation_id=1))) == rejections.NODE_STATE
    )
    assert talk.ask(1002, allocate("r", api_quota=50, reservation_id=1)).status == GRANTED
    talk.ask(1003, commands.MarkReturned("n1"))
    assert talk.ask(1004, allocate("r", cpu=500, reservation_id=1)).status == GRANTED


def test_a_provider_removed_while_drawn_from_takes_the_window_along(talk):
    talk.ask(1000, node("n1", cpu=8000), provider("p", api_quota=1000))
    talk.ask(1000, reserve("r", cpu=3000, api_quota=800, start_ms=1000, duration_ms=5000))
    talk.ask(
        1001,
        allocate("r", cpu=1000, reservation_id=1),
        allocate("r", api_quota=100, reservation_id=1),
    )
    assert code_of(talk.ask(1002, commands.RemoveNode("p"))) == rejections.NODE_IN_USE
    assert talk.ask(1003, commands.RemoveNode("p", force=True)).count == 1
    reasons = {e.allocation_id: e.reason for e in talk.happened(events.Ended)}
    assert reasons == {2: "RESERVATION_ENDED", 3: "NODE_REMOVED"}
    assert there(views.node(talk.state, "n1")).held == ()


def test_all_that_falls_on_one_moment_falls_in_order(talk):
    """What ends goes before what begins, and both before who waits."""
    talk.ask(1000, node("n1", cpu=4000))
    talk.ask(1000, allocate("a", cpu=4000, duration_ms=1000))
    talk.ask(1000, reserve("r", cpu=4000, start_ms=2000, duration_ms=1000))
    talk.ask(1000, reserve("s", cpu=4000, start_ms=3000, duration_ms=1000))
    talk.ask(1000, allocate("late", cpu=1000, wait_ms=3000), allocate("w", cpu=1000, wait_ms=3001))
    talk.ask(2000, commands.Tick())
    assert [type(e).__name__ for e in talk.happened(object)] == ["Ended", "ReservationOpened"]
    talk.ask(4000, commands.Tick())
    told = [type(e).__name__ for e in talk.happened(object)]
    assert told == [
        "ReservationEnded",
        "ReservationOpened",
        "ReservationEnded",
        "Withdrawn",
        "Granted",
    ]


def test_a_window_that_time_jumped_over_opens_and_ends(talk):
    talk.ask(1000, node("n1", cpu=4000))
    talk.ask(1000, reserve("r", cpu=4000, start_ms=2000, duration_ms=1000))
    talk.ask(1_000_000, commands.Tick())
    told = [type(e).__name__ for e in talk.happened(object)]
    assert told == ["ReservationOpened", "ReservationEnded"]


def test_an_extension_is_not_refused_for_a_window_that_is_charged_elsewhere(talk):
    talk.ask(1000, node("n1", cpu=8000), quota("a", cpu=4000))
    talk.ask(1000, allocate("a", cpu=4000, duration_ms=5000))
    talk.ask(1001, quota("a", cpu=1000), reserve("z", cpu=1000, start_ms=90_000, duration_ms=10))
    assert talk.ask(1002, commands.Renew(1, 1, "a", 500)).status == DONE


def test_an_extension_into_a_window_is_refused(talk):
    talk.ask(
        1000, node("n1", ("T4",), cpu=4000), allocate("a", cpu=1000, gpu=500, duration_ms=1000)
    )
    talk.ask(1000, reserve("r", gpu=600, start_ms=2000, duration_ms=1000))
    refused = talk.ask(1500, commands.Renew(1, 1, "a", 1))
    assert code_of(refused) == rejections.NO_CAPACITY
    talk.ask(1600, commands.CancelReservation(2))
    assert talk.ask(1700, commands.Renew(1, 1, "a", 1000)).status == DONE


def test_new_devices_and_kinds_do_not_upset_what_is_known_of_windows(talk):
    """Profiles of rows with windows ahead are as wide as the matrix was."""
    talk.ask(1000, node("n1", ("T4",), cpu=4000))
    talk.ask(1000, reserve("r", gpu=1000, start_ms=9000, duration_ms=1000))
    talk.ask(1001, allocate("a", gpu=1000))
    talk.ask(1002, node("n2", ("T4",) * 20, cpu=4000))
    talk.ask(1003, allocate("a", cpu=100), allocate("a", gpu=1000, duration_ms=100))
    kinds = {f"disk__d{number}": 1000 for number in range(30)}
    talk.ask(1004, node("n3", cpu=100, **kinds))
    assert talk.ask(1005, allocate("a", gpu=1000, duration_ms=100, wait_ms=9)).status == GRANTED


def test_a_draw_off_its_constraints_is_refused(talk):
    """The window chose its node before; a draw that would not go there does not go there."""
    talk.ask(1000, node("n1", cpu=8000, attributes=N1), provider("p", api_quota=100))
    talk.ask(1000, reserve("r", cpu=3000, api_quota=50, start_ms=1000, duration_ms=5000))
    elsewhere = (Constraint("is", commands.NOT_IN, ("n1",)),)
    drawn = talk.ask(1001, allocate("r", cpu=500, reservation_id=1, constraints=elsewhere))
    assert code_of(drawn) == rejections.UNSATISFIABLE
    assert (
        talk.ask(1002, allocate("r", cpu=500, reservation_id=1, constraints=ON_N1)).status
        == GRANTED
    )
    of_provider = allocate("r", api_quota=5, reservation_id=1, constraints=elsewhere)
    assert talk.ask(1003, of_provider).status == GRANTED


def test_what_is_drawn_goes_back_to_its_window_and_is_not_promised_to_another(talk):
    """A draw ends long before its window: what it gives back is held again, not free."""
    talk.ask(1000, node("n1", ("T4",), cpu=8000), quota("a", cpu=8000))
    talk.ask(1000, reserve("a", cpu=5000, gpu=1000, start_ms=1000, duration_ms=60_000))
    talk.ask(1001, allocate("a", cpu=4000, gpu=1000, duration_ms=500, reservation_id=1))
    for asked in ({"cpu": 4000}, {"gpu": 500}):
        window = reserve("b", start_ms=9000, duration_ms=9, **asked)
        assert code_of(talk.ask(1002, window)) == rejections.NO_CAPACITY
    over = reserve("a", cpu=3001, start_ms=9000, duration_ms=9)
    assert code_of(talk.ask(1003, over)) == rejections.QUOTA_EXCEEDED
    assert talk.ask(1004, reserve("a", cpu=3000, start_ms=9000, duration_ms=9)).status == DONE
    late = reserve("b", cpu=8000, gpu=1000, start_ms=61_000, duration_ms=9)
    assert talk.ask(1005, late).status == DONE
    assert code_of(talk.ask(1006, allocate("b", cpu=1, duration_ms=8000))) == rejections.NO_CAPACITY
    assert talk.ask(1007, allocate("b", cpu=3000, duration_ms=7000)).status == GRANTED
    talk.ask(9000, commands.Tick())
    assert len(talk.happened(ReservationOpened)) == 1


def test_a_window_ahead_is_charged_to_the_quotas_it_will_be_charged_to(talk):
    talk.ask(
        1000, node("n1", cpu=20_000), quota("org", cpu=5000), quota("a", "org"), quota("b", "org")
    )
    talk.ask(1000, reserve("a", cpu=4000, start_ms=9000, duration_ms=1000))
    assert code_of(talk.ask(1001, allocate("b", cpu=1001))) == rejections.QUOTA_EXCEEDED
    assert code_of(talk.ask(1001, allocate("b", cpu=1001, duration_ms=8000))) == "QUOTA_EXCEEDED"
    assert talk.ask(1001, allocate("b", cpu=1000)).status == GRANTED
    assert talk.ask(1001, allocate("b", cpu=1001, duration_ms=7999)).status == GRANTED
    assert talk.ask(1002, allocate("other", cpu=9000)).status == GRANTED
    assert code_of(talk.ask(1003, commands.Renew(3, 2, "b", 1))) == rejections.QUOTA_EXCEEDED
    overlapping = reserve("b", cpu=1, start_ms=9500, duration_ms=1000)
    assert code_of(talk.ask(1004, overlapping)) == rejections.QUOTA_EXCEEDED
    talk.ask(9000, commands.Tick())
    assert dict(there(views.quota(talk.state, "org")).used) == {"cpu": 5000}
    talk.ask(10_000, commands.Tick())
    assert talk.ask(10_001, allocate("b", cpu=4000)).status == GRANTED


def test_windows_that_do_not_meet_are_not_added_up(talk):
    """The fullest moment counts, and a window that ends when another begins leaves it its room."""
    talk.ask(1000, node("n1", cpu=20_000), quota("a", cpu=5000))
    for start_ms in (9000, 10_000, 11_000):
        window = reserve("a", cpu=3000, start_ms=start_ms, duration_ms=1000)
        assert talk.ask(1001, window).status == DONE
    assert talk.ask(1002, allocate("a", cpu=2000)).status == GRANTED
    assert code_of(talk.ask(1003, allocate("a", cpu=1))) == rejections.QUOTA_EXCEEDED
    talk.ask(11_500, commands.Tick())
    assert dict(there(views.quota(talk.state, "a")).used) == {"cpu": 5000}


def test_a_quota_that_is_freed_lets_in_who_waits_for_it_alone(talk):
    talk.ask(
        1000, node("n1", cpu=20_000), quota("org", cpu=3000), quota("a", "org"), quota("b", "org")
    )
    talk.ask(1000, allocate("a", cpu=2000), allocate("b", cpu=2000, wait_ms=90_000))
    talk.ask(1001, allocate("c", cpu=1000), commands.Release(1, 1, "a"))
    assert [g.agent_id for g in talk.happened(Granted)] == ["c", "b"]
