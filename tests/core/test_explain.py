"""Why a request waits: verdict, every blocker, and what each node fell to."""

from __future__ import annotations

import pytest

from raftalloc.core import commands
from raftalloc.core.commands import Constraint
from raftalloc.core.explain import explain, explain_waiting
from raftalloc.core.quantities import AMOUNT_MAX
from raftalloc.core.records import FITS_NOW, MUST_WAIT, NEVER_FITS, Blocker
from tests.core.asking import Talk, allocate, node, provider, quota, reserve, there

EAST = (Constraint("zone", commands.IN, ("east",)),)


@pytest.fixture
def talk():
    talk = Talk()
    talk.ask(1000, node("full", ("T4",), cpu=4000, attributes=(("zone", "east"),)))
    talk.ask(1000, allocate("x", cpu=4000, gpu=800))
    talk.ask(1000, node("gone", cpu=8000), node("free", cpu=2000, memory=2048))
    talk.ask(1000, provider("p", api_quota=1000), commands.Cordon("gone"))
    return talk


def test_what_fits_says_where(talk):
    told = explain(talk.state, allocate("a", cpu=1000, memory=1024, api_quota=10))
    assert (told.verdict, told.chosen, told.blockers) == (FITS_NOW, "free", ())
    assert (told.nodes, told.feasible, told.position) == (3, 1, 0)


def test_nodes_fall_to_the_first_filter_that_stops_them(talk):
    told = explain(talk.state, allocate("a", cpu=3000, constraints=EAST))
    assert told.filtered == (("state", 1), ("constraint", 1), ("capacity.cpu", 1), ("reserved", 0))
    assert told.verdict == MUST_WAIT
    assert told.blockers == (
        Blocker("NODE_STATE", "", "", 1, 2),
        Blocker("CONSTRAINTS", "zone", "", 1, 2),
        Blocker("NO_CAPACITY", "", "cpu", 3000, 0),
    )


def test_devices_are_a_filter_of_their_own(talk):
    told = explain(talk.state, allocate("a", gpu=200, gpu_models=("A100",)))
    assert told.verdict == NEVER_FITS
    assert dict(told.filtered) == {
        "state": 1,
        "constraint": 0,
        "capacity.gpu": 1,
        "device": 1,
        "reserved": 0,
    }
    assert Blocker("NO_DEVICE", "A100", "gpu", 200, 0) in told.blockers
    assert explain(talk.state, allocate("a", gpu=200)).verdict == FITS_NOW


def test_a_provider_that_lacks_is_named_beside_the_nodes(talk):
    told = explain(talk.state, allocate("a", cpu=3000, api_quota=2000))
    assert told.verdict == NEVER_FITS
    assert Blocker("NO_PROVIDER", "", "api_quota", 2000, 1000) in told.blockers
    assert [b.code for b in told.blockers] == ["NO_PROVIDER", "NODE_STATE", "NO_CAPACITY"]


def test_every_quota_on_the_way_up_is_named(talk):
    talk.ask(1001, quota("org", cpu=1500), quota("a", "org", cpu=1000), quota("root", cpu=4500))
    told = explain(talk.state, allocate("a", cpu=2000))
    assert told.verdict == NEVER_FITS
    assert told.blockers == (
        Blocker("QUOTA_EXCEEDED", "a", "cpu", 2000, 1000),
        Blocker("QUOTA_EXCEEDED", "org", "cpu", 2000, 1500),
        Blocker("QUOTA_EXCEEDED", "root", "cpu", 2000, 500),
    )
    assert explain(talk.state, allocate("b", cpu=800)).verdict == MUST_WAIT


def test_a_window_ahead_is_a_filter(talk):
    talk.ask(1001, reserve("r", cpu=2000, start_ms=5000, duration_ms=1000))
    told = explain(talk.state, allocate("a", cpu=1000, duration_ms=9000))
    assert told.verdict == MUST_WAIT
    assert dict(told.filtered)["reserved"] == 1
    assert Blocker("RESERVED", "", "", 1, 0) in told.blockers
    assert explain(talk.state, allocate("a", cpu=1000, duration_ms=3999)).verdict == FITS_NOW


def test_a_gang_that_fits_in_part_has_a_blocker_too(talk):
    told = explain(talk.state, allocate("a", cpu=1500, count=2, gang=True))
    assert (told.verdict, told.feasible) == (MUST_WAIT, 1)
    assert told.blockers == (Blocker("NO_CAPACITY", "", "cpu", 3000, 1500),)


def test_a_kind_that_nobody_offers_never_fits(talk):
    told = explain(talk.state, allocate("a", cpu=1, disk__nvme=5))
    assert told.verdict == NEVER_FITS
    assert told.blockers == (Blocker("UNKNOWN_KIND", "disk.nvme", "disk.nvme", 5, 0),)


def test_numbers_stay_within_int64(talk):
    talk.ask(1001, quota("a", cpu=AMOUNT_MAX))
    told = explain(talk.state, allocate("a", cpu=AMOUNT_MAX, count=10_000, gang=True))
    assert told.verdict == NEVER_FITS
    assert all(max(b.asked, b.available) < 1 << 63 for b in told.blockers)


def test_what_waits_has_a_position_and_what_does_not_has_no_explanation(talk):
    talk.ask(1001, allocate("a", cpu=3000, wait_ms=9000, priority=commands.LOW))
    talk.ask(1001, allocate("b", cpu=3000, wait_ms=9000, priority=commands.HIGH))
    assert there(explain_waiting(talk.state, 2)).position == 2
    assert there(explain_waiting(talk.state, 3)).position == 1
    assert explain_waiting(talk.state, 1) is None
    assert explain_waiting(talk.state, 99) is None


def test_a_draw_is_explained_by_its_window_alone(talk):
    talk.ask(1001, quota("r", cpu=1000), reserve("r", cpu=1000, start_ms=5000, duration_ms=1000))
    talk.ask(1002, quota("r", cpu=0))

    def told(**settings):
        return explain(talk.state, allocate("r", reservation_id=2, **settings))

    assert told(cpu=500).verdict == MUST_WAIT
    assert told(cpu=500).blockers == (Blocker("RESERVATION_NOT_OPEN", "2", "", 0, 0),)
    talk.ask(5000, commands.Tick())
    assert (told(cpu=1000).verdict, told(cpu=1000).chosen) == (FITS_NOW, "free")
    assert told(cpu=600, count=2).blockers == (
        Blocker("RESERVATION_EXHAUSTED", "2", "cpu", 1200, 1000),
    )
    assert told(cpu=500, constraints=EAST).blockers == (
        Blocker("UNSATISFIABLE", "cpu", "cpu", 500, 0),
    )
    other = explain(talk.state, allocate("r", cpu=1, reservation_id=2), principal="other")
    assert (other.verdict, other.blockers[0].code) == (NEVER_FITS, "WRONG_OWNER")
    assert explain(talk.state, allocate("r", cpu=1, reservation_id=9)).verdict == NEVER_FITS
