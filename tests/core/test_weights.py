"""The weights of best_fit: integers from the fleet's capacity, a new epoch when it changes by more than an eighth."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.core import commands
from raftalloc.core.commands import Asked, Command, Entry
from raftalloc.core.events import Granted, WeightsSet
from raftalloc.core.invariants import check
from raftalloc.core.machine import apply
from raftalloc.core.matrix import WEIGHT_UNIT
from raftalloc.core.quantities import AMOUNT_MAX
from raftalloc.core.state import State
from tests.core.asking import Talk, allocate, node, provider


def epochs(talk):
    return [dict(event.weights) for event in talk.happened(WeightsSet)]


def test_a_weight_is_a_share_of_the_fleet():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=3000), node("n2", cpu=5000, memory=1024))
    assert epochs(talk)[-1] == {"cpu": WEIGHT_UNIT // 8000, "memory": WEIGHT_UNIT // 1024}


def test_an_epoch_begins_beyond_an_eighth_and_not_at_it():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=8000), node("n2", cpu=1))
    assert len(epochs(talk)) == 1
    talk.ask(1001, node("n2", cpu=1100))
    assert epochs(talk) == []
    talk.ask(1002, node("n2", cpu=1200))
    assert epochs(talk) == [{"cpu": WEIGHT_UNIT // 9200}]
    talk.ask(1003, node("n2", cpu=1))
    assert epochs(talk) == [{"cpu": WEIGHT_UNIT // 8001}]


def test_a_kind_that_is_gone_weighs_nothing_and_providers_never_do():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=8000, memory=1024), provider("p", api_quota=1000))
    talk.ask(1001, node("n1", cpu=8000))
    assert epochs(talk) == [{"cpu": WEIGHT_UNIT // 8000}]
    talk.ask(1002, commands.RemoveNode("n1"))
    assert epochs(talk) == [{}]


def test_the_state_of_a_row_does_not_change_its_weight():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=8000))
    for command in (commands.Cordon("n1"), commands.Drain("n1"), commands.Uncordon("n1")):
        talk.ask(1001, command)
        assert epochs(talk) == []


amounts = st.one_of(st.integers(1, 10), st.integers(1, AMOUNT_MAX), st.just(AMOUNT_MAX))
fleets = st.lists(
    st.dictionaries(
        st.sampled_from(["cpu", "memory", "disk", "network", "cache"]), amounts, min_size=1
    ),
    min_size=1,
    max_size=5,
)


@given(fleets, fleets)
@settings(max_examples=60)
def test_scores_are_exact_at_every_size(before, after):
    """Fill every node, then register it anew with any other capacity: no score and no sum may overflow."""
    state = State.genesis()
    first = [node(f"n{row}", **capacity) for row, capacity in enumerate(before)]
    fill = [allocate("a", **capacity) for capacity in before]
    again = [node(f"n{row}", **capacity) for row, capacity in enumerate(after)]
    blocks: list[list[Command]] = [[*first], [*fill], [*again]]
    for index, block in enumerate(blocks, 1):
        apply(state, Entry(1000, "r1", tuple(map(Asked, block))), index)
        assert check(state) == []
    assert (state.fleet.matrix.score >= 0).all()


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [(commands.BEST_FIT, "n2"), (commands.FIRST_FIT, "n1"), (commands.WORST_FIT, "n3")],
)
def test_each_policy_ranks_by_what_is_free_over_all_kinds(policy, chosen):
    talk = Talk()
    talk.ask(1000, node("n1", cpu=4000, memory=4096), node("n2", cpu=5000, memory=1024))
    talk.ask(1000, node("n3", cpu=9000, memory=9216))
    talk.ask(1001, allocate("a", cpu=1000, policy=policy))
    assert [g.node_id for g in talk.happened(Granted)] == [chosen]


@pytest.mark.parametrize("policy", commands.POLICIES)
def test_ties_end_at_the_row_that_was_registered_first(policy):
    talk = Talk()
    talk.ask(1000, node("z", cpu=4000), node("a", cpu=4000), node("m", cpu=4000))
    talk.ask(1000, provider("y", api_quota=1000), provider("b", api_quota=1000))
    talk.ask(1001, commands.RemoveNode("z"), node("z", cpu=4000))
    talk.ask(1002, allocate("a", cpu=1000, api_quota=100, policy=policy))
    assert [g.suppliers for g in talk.happened(Granted)] == [("y", "a")]
