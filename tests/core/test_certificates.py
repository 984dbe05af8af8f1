"""Certificates: an independent verifier believes every one, of directed states and of random walks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.core import commands
from raftalloc.core.certificates import certify
from raftalloc.core.codec import decode_entry
from raftalloc.core.commands import Allocate, Constraint, Origin
from raftalloc.core.machine import apply
from raftalloc.core.records import Blocker, Certificate, Change
from raftalloc.core.requests import as_queued
from raftalloc.core.state import State
from tests.core.asking import Talk, allocate, node, provider, quota, reserve
from tests.core.certified import verify
from tests.service.past import walked

if TYPE_CHECKING:
    from collections.abc import Sequence

EAST = (Constraint("zone", commands.IN, ("east",)),)


def proof(state: State, request: Allocate) -> Certificate:
    return certify(state, as_queued(state, request, Origin()))


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.ask(1000, node("small", cpu=4000, memory=8192, attributes=(("zone", "east"),)))
    talk.ask(1000, node("large", cpu=8000, memory=4096), node("gone", cpu=8000, memory=8192))
    talk.ask(1000, provider("p", api_quota=1000), commands.Cordon("gone"))
    talk.ask(1001, allocate("x", cpu=3000, constraints=EAST))
    talk.ask(1001, allocate("y", cpu=6000, memory=1024))
    return talk


def test_what_fits_needs_no_proof(talk: Talk):
    request = allocate("a", cpu=1000)
    assert proof(talk.state, request) == Certificate((), ())
    assert verify(talk.state, request, Certificate((), ())) == []


def test_the_fewest_filters_that_every_node_falls_to_and_what_is_short_on_the_nearest(talk: Talk):
    request = allocate("a", cpu=3000)
    found = proof(talk.state, request)
    # small has 1 of 4 free, large 2 of 8; gone is cordoned, and else free: one thing stands in the way there.
    assert found.sets == (
        (Blocker("NODE_STATE", "", "", 1, 2), Blocker("NO_CAPACITY", "", "cpu", 3000, 2000)),
    )
    assert found.changes == (Change("FREE", "large", "cpu", 1000),)
    assert verify(talk.state, request, found) == []


def test_a_constraint_leaves_only_what_satisfies_it(talk: Talk):
    request = allocate("a", cpu=2000, constraints=EAST)
    found = proof(talk.state, request)
    assert found.changes == (Change("FREE", "small", "cpu", 1000),)
    assert verify(talk.state, request, found) == []
    nowhere = (Constraint("zone", commands.IN, ("moon",)),)
    request = allocate("a", cpu=2000, constraints=nowhere)
    found = proof(talk.state, request)
    assert found.sets == ((Blocker("CONSTRAINTS", "zone", "", 1, 0),),)
    assert found.changes == (Change("ADD", "", "cpu", 2000),)


def test_every_quota_and_provider_is_a_set_of_its_own(talk: Talk):
    talk.ask(1002, quota("org", cpu=1500), quota("a", "org", cpu=1000), quota("root", cpu=9500))
    request = allocate("a", cpu=2000, api_quota=1500)
    found = proof(talk.state, request)
    assert [blockers[0].subject for blockers in found.sets] == ["a", "org", "root", ""]
    assert found.changes == (
        Change("RAISE_QUOTA", "a", "cpu", 1000),
        Change("RAISE_QUOTA", "org", "cpu", 500),
        Change("RAISE_QUOTA", "root", "cpu", 1500),
        Change("GROW", "p", "api_quota", 500),
    )
    assert verify(talk.state, request, found) == []


def test_a_gang_is_told_how_many_of_it_would_fit(talk: Talk):
    request = allocate("a", cpu=1000, count=5, gang=True)
    found = proof(talk.state, request)
    assert found.sets == ((Blocker("NO_CAPACITY", "count", "", 5, 3),),)
    assert found.changes == (Change("FEWER", "", "", 2),)
    assert proof(talk.state, allocate("a", cpu=1000, count=3, gang=True)).sets == ()


def test_a_window_ahead_is_told_by_the_longest_run_before_it(talk: Talk):
    talk.ask(1002, reserve("r", cpu=2000, start_ms=9_000, duration_ms=1000))
    talk.ask(1002, commands.Cordon("small"))
    request = allocate("a", cpu=1000, duration_ms=60_000)
    found = proof(talk.state, request)
    assert found.sets == ((Blocker("RESERVED", "", "", 1, 0),),)
    (change,) = found.changes
    assert (change.what, change.amount) == ("SHORTER", 9_000 - talk.state.now_ms)
    assert proof(talk.state, allocate("a", cpu=1000, duration_ms=change.amount)).sets == ()
    assert proof(talk.state, allocate("a", cpu=1000, duration_ms=change.amount + 1)).sets


def test_without_a_fleet_a_node_must_be_added():
    request = allocate("a", cpu=1000)
    state = State.genesis()
    found = proof(state, request)
    assert found.changes == (Change("ADD", "", "cpu", 1000),)
    assert verify(state, request, found) == []


@functools.cache
def log(seed: int) -> Sequence[bytes]:
    return walked(seed)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(1, 2),
    share=st.integers(1, 100),
    cpu=st.sampled_from((0, 500, 1001, 4000, 9000)),
    memory=st.sampled_from((0, 512, 2048, 9000)),
    calls=st.sampled_from((0, 100, 1001, 5000)),
    agent_type=st.sampled_from(("t0", "t1", "t2", "nobody")),
    constraints=st.sampled_from(((), EAST, (Constraint("generation", commands.GT, ("2",)),))),
)
def test_the_verifier_believes_every_certificate(
    seed: int,
    share: int,
    cpu: int,
    memory: int,
    calls: int,
    agent_type: str,
    constraints: tuple[Constraint, ...],
):
    entries = log(seed)
    state = State.genesis()
    for index, entry in enumerate(entries[: max(1, len(entries) * share // 100)], 1):
        apply(state, decode_entry(entry), index)
    if state.reservations.any_booked():
        return  # a proof in time is tested above
    amounts = (("api_quota", calls), ("cpu", cpu), ("memory", memory))
    demand = tuple((kind, amount) for kind, amount in amounts if amount)
    if not demand or not all(state.kinds.column(kind) >= 0 for kind, _ in demand):
        return
    request = Allocate("a", agent_type, "", 2, demand, constraints=constraints)
    found = proof(state, request)
    assert verify(state, request, found) == [], found


@pytest.mark.parametrize(
    "lie",
    [
        Certificate((), ()),
        Certificate(((Blocker("NO_CAPACITY", "", "cpu", 3000, 2000),),), ()),
        Certificate(
            ((Blocker("NODE_STATE", "", "", 1, 2), Blocker("NO_CAPACITY", "", "cpu", 3000, 2000)),),
            (Change("FREE", "large", "cpu", 999),),
        ),
        Certificate(
            ((Blocker("NODE_STATE", "", "", 1, 2), Blocker("NO_CAPACITY", "", "cpu", 3000, 2000)),),
            (Change("FREE", "large", "cpu", 1001),),
        ),
        Certificate(
            (
                (
                    Blocker("NODE_STATE", "", "", 1, 2),
                    Blocker("NO_CAPACITY", "", "cpu", 3000, 1999),
                ),
            ),
            (Change("FREE", "large", "cpu", 1000),),
        ),
    ],
)
def test_the_verifier_believes_no_lie(talk: Talk, lie: Certificate):
    assert verify(talk.state, allocate("a", cpu=3000), lie)
