"""Each policy ranks any state as the plain reference does; what each is for, on a fleet small enough to see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.core import commands
from raftalloc.core.commands import Asked, Command, Entry
from raftalloc.core.events import Granted, WorkloadSet
from raftalloc.core.machine import apply
from raftalloc.core.placement.fragments import Fragments
from raftalloc.core.state import State
from raftalloc.core.terms import Terms, Typical
from tests.core.asking import Talk, allocate, node
from tests.core.reference import Wish, World

nodes = st.fixed_dictionaries(
    {"cpu": st.sampled_from([4000, 8000, 96_000, 1 << 50]), "memory": st.sampled_from([1, 8192, 1 << 43])},
    optional={"devices": st.lists(st.sampled_from(["A100", "T4"]), max_size=4).map(tuple)},
)  # fmt: skip
asks = st.fixed_dictionaries(
    {"cpu": st.sampled_from([1, 500, 1000, 3000])},
    optional={
        "memory": st.sampled_from([1, 1024, 5000]),
        "gpu": st.sampled_from([100, 320, 470, 810, 1000, 2000]),
        "count": st.integers(1, 3),
    },
)
COMBINED = Terms(scorers=(("least_waste", 2), ("spread", 1), ("best_fit", 3)))


@given(
    st.lists(nodes, min_size=1, max_size=5),
    st.lists(st.tuples(asks, st.sampled_from([*commands.POLICIES, 0])), min_size=1, max_size=12),
)
@settings(max_examples=120)
def test_every_policy_and_combination_places_as_the_reference_does(fleet, requests):
    state, world = State.genesis(), World()
    first = [node(f"n{row}", **settings) for row, settings in enumerate(fleet)]
    blocks: list[list[Command]] = [[*first]]
    for settings_of, policy in requests:
        terms = {"policy": policy} if policy else {"terms": COMBINED}
        blocks.append([allocate("a", **settings_of, **terms)])
    for index, block in enumerate(blocks, 1):
        applied = apply(state, Entry(1000, "r1", tuple(map(Asked, block))), index)
        for happened in applied.happened:
            event = happened.event
            if isinstance(event, Granted):
                command = block[0]
                assert isinstance(command, commands.Allocate)
                place = world.place(Wish.of(command), 0)
                assert place == (event.node_id, event.suppliers, event.devices)
            world.take(event)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (commands.BEST_FIT, "even"),
        (commands.WORST_FIT, "idle"),
        (commands.FIRST_FIT, "cpu_heavy"),
        (commands.BALANCED, "memory_heavy"),
        (commands.SPREAD, "idle"),
        (commands.LEAST_WASTE, "memory_heavy"),
    ],
)
def test_what_each_policy_is_for(policy, chosen):
    """Three nodes in use, one idle; the request takes cpu only."""
    talk = Talk()
    for name in ("cpu_heavy", "memory_heavy", "even", "idle"):
        talk.ask(1000, node(name, cpu=10_000, memory=10_240))
    at = {"cpu_heavy": (5000, 1024), "memory_heavy": (3000, 5120), "even": (6000, 6144)}
    for name, (cpu, memory) in at.items():
        for other in [*at, "idle"]:
            talk.ask(1000, commands.Uncordon(name) if other == name else commands.Cordon(other))
        talk.ask(1000, allocate("a", cpu=cpu, memory=memory))
    for name in [*at, "idle"]:
        talk.ask(1000, commands.Uncordon(name))
    talk.ask(1001, allocate("a", cpu=2000, policy=policy))
    assert [g.node_id for g in talk.happened(Granted)] == [chosen]


def test_fgd_keeps_whole_devices_for_those_who_want_them():
    """A share goes where a share is already, though that node is registered later and has more free."""
    talk = Talk()
    talk.ask(1000, node("whole", ("T4",), cpu=10_000), node("shared", ("T4", "T4"), cpu=90_000))
    talk.ask(
        1000, commands.Cordon("whole"), allocate("a", cpu=100, gpu=500), commands.Uncordon("whole")
    )
    talk.ask(
        1000, allocate("a", cpu=100, gpu=1000, policy=commands.FGD), commands.Release(1, 1, "a")
    )
    talk.ask(1001, allocate("a", cpu=100, gpu=500, policy=commands.FGD))
    talk.ask(1002, allocate("a", cpu=100, gpu=500, policy=commands.FGD))
    grant = talk.happened(Granted)[0]
    assert grant.node_id == talk.world.live[3].grant.node_id
    assert grant.devices == talk.world.live[3].grant.devices


def test_the_workload_is_counted_anew_when_what_is_live_has_changed_by_an_eighth():
    talk = Talk()
    talk.ask(1000, node("n1", ("T4",) * 4, cpu=90_000))
    counted = []
    for _ in range(12):
        talk.ask(1001, allocate("a", cpu=100, policy=commands.FGD))
        counted += [event.live for event in talk.happened(WorkloadSet)]
    assert counted == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12]
    assert talk.state.workload.shapes == (Typical((("cpu", 100),), 12),)


def test_other_policies_count_no_workload():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=90_000))
    talk.ask(1001, allocate("a", cpu=100), allocate("a", cpu=100, policy=commands.BALANCED))
    assert talk.happened(WorkloadSet) == []


@given(st.data())
@settings(max_examples=60)
def test_fragments_of_few_rows_and_of_many_are_counted_alike(data):
    amounts = st.sampled_from([0, 100, 470, 500, 1000])
    rows = data.draw(st.integers(1, 4))
    shapes = data.draw(
        st.lists(
            st.builds(
                lambda cpu, gpu, count: Typical((("cpu", cpu), ("gpu", gpu)), count),
                amounts,
                st.sampled_from([320, 470, 810, 1000, 2000]),
                st.integers(1, 9),
            ),
            max_size=5,
        )
    )
    state = State.genesis()
    state.workload.set(WorkloadSet(0, tuple(shapes)))
    fragments = Fragments(state)
    cells = st.lists(amounts, min_size=rows * 8, max_size=rows * 8)
    devices = np.array(data.draw(cells), np.int64).reshape(rows, 8)
    free = devices[:, : len(fragments.columns)]
    few, many = fragments.amount_of_few(free, devices), fragments.amount_of_many(free, devices)
    assert few.tolist() == many.tolist()
