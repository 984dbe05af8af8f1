"""Pools, taints, spread, affinity, gangs and alternatives: where a request may stand, beyond what is free."""

from __future__ import annotations

import pytest

from raftalloc.core import commands
from raftalloc.core.certificates import certify
from raftalloc.core.commands import Constraint, Origin
from raftalloc.core.events import GANG_REDUCED, Granted, Withdrawn
from raftalloc.core.explain import explain
from raftalloc.core.records import NEVER_FITS
from raftalloc.core.requests import as_queued
from raftalloc.core.terms import (
    GANG_PACK,
    GANG_SPREAD,
    GANG_STRICT_PACK,
    GANG_STRICT_SPREAD,
    Affinity,
    Alternative,
    Spread,
    Terms,
    Toleration,
)
from tests.core.asking import Talk, allocate, node, provider, quota, there

WEB = ("app", "web")


@pytest.fixture
def talk():
    made = Talk()
    made.rig.judged = False  # the audit knows no terms; what is restored, folded and reborn is compared all the same
    return made


def rows(talk, *zones, cpu=8000):
    """A node in each zone, registered in this order."""
    for number, zone in enumerate(zones, 1):
        talk.ask(1000, node(f"n{number}", cpu=cpu, attributes=(("zone", zone),)))


def nodes(talk, **settings):
    """Where a request went, member by member."""
    talk.ask(2000, allocate("a", **settings))
    return [grant.node_id for grant in talk.happened(Granted)]


def refused(talk, **settings):
    outcome = talk.ask(2000, allocate("a", **settings))
    rejection = there(outcome.rejection)
    return rejection.code, rejection.field


# -- pools and taints --------------------------------------------------------------------------------


def test_a_pool_is_the_nodes_whose_attribute_says_so(talk):
    talk.ask(1000, node("n1", cpu=1000), node("n2", cpu=9000, attributes=(("pool", "audits"),)))
    assert nodes(talk, cpu=500, terms=Terms(pool="audits")) == ["n2"]
    assert refused(talk, cpu=500, terms=Terms(pool="none")) == ("UNSATISFIABLE", "pool")


def test_a_taint_keeps_away_who_does_not_tolerate_it(talk):
    talk.ask(1000, node("n1", cpu=1000, taints=(("gpu", "only"),)))
    assert refused(talk, cpu=500) == ("UNSATISFIABLE", "tolerations")
    assert refused(talk, cpu=500, terms=Terms(tolerations=(Toleration("gpu", ("no",)),))) == (
        "UNSATISFIABLE",
        "tolerations",
    )
    assert nodes(talk, cpu=500, terms=Terms(tolerations=(Toleration("gpu", ("only",)),))) == ["n1"]
    assert nodes(talk, cpu=500, terms=Terms(tolerations=(Toleration(),))) == ["n1"]


def test_from_a_soft_taint_they_stay_away_while_they_can(talk):
    talk.ask(1000, node("old", cpu=1000, soft_taints=(("old", ""),)), node("new", cpu=9000))
    assert nodes(talk, cpu=1000, count=9) == ["new"] * 9
    assert nodes(talk, cpu=1000) == ["old"]


# -- others ------------------------------------------------------------------------------------------


def test_spread_keeps_the_counts_of_domains_within_the_skew(talk):
    rows(talk, "a", "a", "b", "c")
    terms = Terms(labels=(WEB,), spread=(Spread("zone", WEB),))
    zone = {"n1": "a", "n2": "a", "n3": "b", "n4": "c"}
    went = [zone[node_id] for node_id in nodes(talk, cpu=1000, count=7, terms=terms)]
    for so_far in range(1, 8):
        counts = [went[:so_far].count(each) for each in "abc"]
        assert max(counts) - min(counts) <= 1


def test_a_hard_spread_waits_and_a_soft_one_does_not(talk):
    rows(talk, "a", "b")
    talk.ask(1000, allocate("b", cpu=8000, constraints=(Constraint("zone", commands.IN, ("b",)),)))
    hard = Terms(labels=(WEB,), spread=(Spread("zone", WEB),))
    assert nodes(talk, cpu=1000, terms=hard) == ["n1"]
    assert refused(talk, cpu=1000, terms=hard) == ("NO_CAPACITY", "resources")
    soft = Terms(labels=(WEB,), spread=(Spread("zone", WEB, soft=True),))
    assert nodes(talk, cpu=1000, terms=soft) == ["n1"]


def test_affinity_follows_a_label_and_its_opposite_flees_it(talk):
    rows(talk, "a", "b", "b")
    in_b = (Constraint("zone", commands.IN, ("b",)),)
    assert nodes(talk, cpu=1000, constraints=in_b, terms=Terms(labels=(WEB,))) == ["n2"]
    near = Terms(affinity=(Affinity("zone", WEB),))
    assert nodes(talk, cpu=8000, terms=near) == ["n3"]
    away = Terms(affinity=(Affinity("zone", WEB, anti=True),))
    assert nodes(talk, cpu=1000, terms=away) == ["n1"]
    assert refused(talk, cpu=8000, terms=away) == ("NO_CAPACITY", "resources.cpu")


def test_the_first_of_its_own_kind_may_stand_anywhere(talk):
    rows(talk, "a", "b")
    assert (
        refused(talk, cpu=1000, terms=Terms(affinity=(Affinity("zone", WEB),)))[0] == "NO_CAPACITY"
    )
    own = Terms(affinity=(Affinity("zone", ("workflow", "w")),), labels=(WEB,))
    first = nodes(talk, cpu=5000, terms=own)
    assert len(first) == 1
    assert refused(talk, cpu=5000, terms=own)[0] == "NO_CAPACITY", (
        "only the first one's zone will do"
    )
    assert nodes(talk, cpu=3000, terms=own) == first


def test_who_waits_for_a_neighbour_starts_when_it_comes_and_when_the_other_goes(talk):
    rows(talk, "a", "b")
    near = Terms(affinity=(Affinity("zone", WEB),))
    waiting = talk.ask(2000, allocate("a", cpu=1000, wait_ms=90_000, terms=near))
    talk.ask(2001, allocate("b", cpu=1000, terms=Terms(labels=(WEB,))))
    assert [g.allocation_id for g in talk.happened(Granted)] == [
        waiting.subject + 1,
        waiting.subject,
    ]
    away = Terms(affinity=(Affinity("", WEB, anti=True), Affinity("zone", WEB, anti=True)))
    in_a = (Constraint("zone", commands.IN, ("a",)),)
    flees = talk.ask(2002, allocate("c", cpu=1000, wait_ms=90_000, constraints=in_a, terms=away))
    live = talk.world.live[waiting.subject + 1].grant
    talk.ask(2003, commands.Release(live.allocation_id, live.token, "b"))
    assert [g.allocation_id for g in talk.happened(Granted)] == [flees.subject]


# -- gangs -------------------------------------------------------------------------------------------


def zones_of(went):
    return sorted((went.count(each) for each in {*went}), reverse=True)


@pytest.mark.parametrize(
    ("layout", "counts"), [(GANG_PACK, [10, 2]), (GANG_SPREAD, [6, 6])], ids=["pack", "spread"]
)
def test_twelve_members_over_two_domains_of_ten(talk, layout, counts):
    rows(talk, "a", "a", "b", "b", cpu=5000)
    terms = Terms(gang_layout=layout, gang_key="zone")
    zone = {"n1": "a", "n2": "a", "n3": "b", "n4": "b"}
    went = nodes(talk, cpu=1000, count=12, gang=True, terms=terms)
    assert zones_of([zone[node_id] for node_id in went]) == counts


def test_a_packed_gang_takes_the_tightest_domain_that_holds_it(talk):
    rows(talk, "a", "a", "b", "b", "b", cpu=4000)
    talk.ask(1000, allocate("b", cpu=1000, constraints=(Constraint("zone", commands.IN, ("a",)),)))
    terms = Terms(gang_layout=GANG_PACK, gang_key="zone")
    assert {*nodes(talk, cpu=1000, count=7, gang=True, terms=terms)} == {"n1", "n2"}


def test_a_strictly_packed_gang_takes_one_domain_or_none(talk):
    rows(talk, "a", "b", cpu=4000)
    strict = Terms(gang_layout=GANG_STRICT_PACK)
    assert refused(talk, cpu=1000, count=5, gang=True, terms=strict) == ("NO_CAPACITY", "count")
    assert zones_of(nodes(talk, cpu=1000, count=4, gang=True, terms=strict)) == [4]


def test_a_strictly_spread_gang_stands_on_as_many_domains_as_it_has_members(talk):
    rows(talk, "a", "b", "b", cpu=4000)
    strict = Terms(gang_layout=GANG_STRICT_SPREAD)
    assert sorted(nodes(talk, cpu=1000, count=3, gang=True, terms=strict)) == ["n1", "n2", "n3"]
    by_zone = Terms(gang_layout=GANG_STRICT_SPREAD, gang_key="zone")
    assert refused(talk, cpu=1000, count=3, gang=True, terms=by_zone)[0] == "NO_CAPACITY"


def test_an_elastic_gang_starts_with_what_fits_and_not_below_its_least(talk):
    rows(talk, "a", cpu=5000)
    elastic = Terms(gang_min=3)
    assert len(nodes(talk, cpu=1000, count=9, gang=True, terms=elastic)) == 5
    waiting = talk.ask(
        2000, allocate("a", cpu=1000, count=9, gang=True, wait_ms=9000, terms=elastic)
    )
    for ident in (1, 2):
        talk.ask(2001, commands.Release(ident, ident, "a"))
        assert talk.happened(Granted) == []
    talk.ask(2001, commands.Release(3, 3, "a"))
    assert len(talk.happened(Granted)) == 3
    assert [(w.request_id, w.reason, w.count) for w in talk.happened(Withdrawn)] == [
        (waiting.subject, GANG_REDUCED, 6)
    ]


def test_a_quota_reduces_an_elastic_gang_as_room_does(talk):
    rows(talk, "a", cpu=90_000)
    talk.ask(1000, quota("a", cpu=7500))
    assert len(nodes(talk, cpu=1000, count=50, gang=True, terms=Terms(gang_min=2))) == 7


def test_a_gang_larger_than_the_fleet_is_refused_at_once(talk):
    rows(talk, "a", "b", cpu=2000)
    ask = {"cpu": 1000, "count": 5, "gang": True, "wait_ms": 9000}
    assert refused(talk, **ask) == ("UNSATISFIABLE", "count")
    assert refused(talk, **ask, terms=Terms(gang_min=5)) == ("UNSATISFIABLE", "count")


# -- alternatives ------------------------------------------------------------------------------------


TWO_T4 = Terms(alternatives=(Alternative((("cpu", 500), ("gpu", 2000)), ("T4",)),))


def test_an_alternative_is_taken_when_the_first_demand_cannot_start(talk):
    talk.ask(1000, node("big", ("A100",), cpu=9000), node("small", ("T4", "T4"), cpu=9000))
    ask = {"cpu": 1000, "gpu": 1000, "gpu_models": ("A100",), "terms": TWO_T4}
    assert nodes(talk, **ask) == ["big"]
    assert nodes(talk, **ask) == ["small"]
    grant = talk.happened(Granted)[0]
    assert (grant.alternative, dict(grant.demand)) == (1, {"cpu": 500, "gpu": 2000})
    assert refused(talk, **ask)[0] == "NO_CAPACITY"


def test_who_waits_with_alternatives_takes_whichever_comes_first(talk):
    talk.ask(1000, node("big", ("A100",), cpu=9000), node("small", ("T4", "T4"), cpu=9000))
    ask = {"cpu": 1000, "gpu": 1000, "gpu_models": ("A100",), "terms": TWO_T4}
    for _ in range(2):
        nodes(talk, **ask)
    waiting = talk.ask(2000, allocate("b", wait_ms=90_000, **ask))
    talk.ask(2001, commands.Release(2, 2, "a"))
    assert [g.allocation_id for g in talk.happened(Granted)] == [waiting.subject]
    assert talk.happened(Granted)[0].alternative == 1


def test_only_when_no_alternative_could_ever_be_served_is_it_refused_for_good(talk):
    talk.ask(1000, node("small", ("T4", "T4"), cpu=9000), provider("p", api_quota=5))
    ask = {"cpu": 1000, "gpu": 1000, "gpu_models": ("H100",)}
    assert refused(talk, **ask, wait_ms=9000) == ("UNSATISFIABLE", "gpu_models")
    assert nodes(talk, **ask, terms=TWO_T4) == ["small"]


# -- why not -----------------------------------------------------------------------------------------


def test_an_explanation_names_the_rule_that_nodes_fell_to_and_proves_it(talk):
    rows(talk, "a", "b")
    assert nodes(talk, cpu=1000, terms=Terms(labels=(WEB,))) == ["n1"]
    talk.ask(1000, commands.Cordon("n2"))
    away = allocate("a", cpu=1000, terms=Terms(affinity=(Affinity("zone", WEB, anti=True),)))
    told = explain(talk.state, away)
    assert dict(told.filtered) == {
        "state": 1,
        "constraint": 0,
        "capacity.cpu": 0,
        "anti_affinity.zone": 1,
        "reserved": 0,
    }
    assert [(b.code, b.subject) for b in told.blockers] == [
        ("NODE_STATE", ""),
        ("ANTI_AFFINITY", "zone"),
    ]
    proof = certify(talk.state, as_queued(talk.state, away, Origin()))
    assert [[(b.code, b.subject) for b in each] for each in proof.sets] == [
        [("NODE_STATE", ""), ("ANTI_AFFINITY", "zone")]
    ]


def test_taints_and_pools_are_filters_of_their_own(talk):
    talk.ask(1000, node("n1", cpu=1000, taints=(("x", ""),)))
    told = explain(talk.state, allocate("a", cpu=500, terms=Terms(pool="p")))
    assert told.verdict == NEVER_FITS
    assert [(b.code, b.subject) for b in told.blockers] == [("POOL", "p")]
    told = explain(talk.state, allocate("a", cpu=500))
    assert [(b.code, b.subject) for b in told.blockers] == [("TAINT", "")]


def test_a_strict_gang_is_told_how_many_of_it_would_fit(talk):
    rows(talk, "a", "b", cpu=4000)
    gang = allocate("a", cpu=1000, count=6, gang=True, terms=Terms(gang_layout=GANG_STRICT_PACK))
    proof = certify(talk.state, as_queued(talk.state, gang, Origin()))
    assert [(b.subject, b.asked, b.available) for each in proof.sets for b in each] == [
        ("count", 6, 4)
    ]
