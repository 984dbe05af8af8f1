"""Placement against Kueue, Nomad and Kubernetes.

CT-32: kueue, keps/2724-topology-aware-scheduling, balanced placement: twelve pods over two domains of ten; greedy
10 + 2, balanced 6 + 6.
CT-60: nomad, nomad/structs/funcs.go, ScoreFitBinPack and its spread: of a full, a half full and an empty node bin
packing prefers them in that order, spreading in the other.
CT-61: nomad, scheduler/feasible/stack.go: a service looks at ceil(log2 N) nodes, 13 of 5,000. CT-64: kubernetes,
pkg/scheduler/schedule_one.go: numFeasibleNodesToFind, 500 of 10,000. Here all are looked at: the best is found wherever
it is registered.
CT-66: kubernetes, BalancedAllocation of two resources: (1 - |f1 - f2| / 2) x 100, of .5 and .9: 80.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from raftalloc.core import commands
from raftalloc.core.commands import Asked, Command, Entry
from raftalloc.core.events import Granted
from raftalloc.core.headroom import ask_of
from raftalloc.core.machine import apply
from raftalloc.core.placement import Ask, Room
from raftalloc.core.placement.scorers import cost_of
from raftalloc.core.requests import as_queued
from raftalloc.core.state import State
from raftalloc.core.terms import GANG_PACK, GANG_SPREAD, Terms
from tests.core.asking import allocate, node


def entered(*blocks):
    """A state, and where the last block's grants went."""
    state, went = State.genesis(), []
    for index, block in enumerate(blocks, 1):
        applied = apply(state, Entry(1000, "r1", tuple(map(Asked, block))), index)
        went = [h.event.node_id for h in applied.happened if isinstance(h.event, Granted)]
    return state, went


@pytest.mark.parametrize(("layout", "counts"), [(GANG_PACK, [2, 10]), (GANG_SPREAD, [6, 6])])
def test_ct_32_twelve_over_two_domains_of_ten(layout, counts):
    fleet = [
        node(f"{rack}{at}", cpu=5000, attributes=(("rack", rack),))
        for rack in "xy"
        for at in (1, 2)
    ]
    terms = Terms(gang_layout=layout, gang_key="rack")
    _, went = entered(fleet, [allocate("a", cpu=1000, count=12, gang=True, terms=terms)])
    assert sorted(sum(name[0] == rack for name in went) for rack in "xy") == counts


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        (commands.BEST_FIT, ["full", "half", "empty"]),
        (commands.WORST_FIT, ["empty", "half", "full"]),
        (commands.SPREAD, ["empty", "half", "full"]),
    ],
)
def test_ct_60_packing_prefers_the_full_node_and_spreading_the_empty_one(policy, order):
    names = ("empty", "half", "full")
    used = {"half": (1024, 2048), "full": (1948, 3996)}
    blocks: list[list[Command]] = [[node(name, cpu=2048, memory=4096) for name in names]]
    for name, (cpu, memory) in used.items():
        others: list[Command] = [commands.Cordon(other) for other in names if other != name]
        blocks.append([*others, allocate("x", cpu=cpu, memory=memory)])
        blocks.append([commands.Uncordon(other) for other in names])
    went = []
    for _ in names:
        _, chosen = entered(*blocks, [allocate("a", cpu=100, memory=100, policy=policy)])
        went += chosen
        blocks.append([commands.Cordon(chosen[0])])
    assert went == order


@pytest.mark.parametrize(
    ("nodes", "peer_looks_at"), [(5000, 13), (10_000, 500)], ids=["ct_61", "ct_64"]
)
def test_the_best_of_all_nodes_is_found_where_peers_look_at_a_few(nodes, peer_looks_at):
    assert peer_looks_at in (math.ceil(math.log2(nodes)), nodes * max(5, 50 - nodes // 125) // 100)
    fleet = [node(f"n{at}", cpu=9000) for at in range(nodes - 1)]
    _, went = entered([*fleet, node("last", cpu=8000)], [allocate("a", cpu=1000)])
    assert went == ["last"]


def test_ct_66_balanced_allocation_of_a_half_and_nine_tenths_is_80():
    command = allocate("a", cpu=5000, memory=9216, policy=commands.BALANCED)
    state, _ = entered([node("n1", cpu=10_000, memory=10_240)])
    queued = as_queued(state, command, commands.Origin())
    ask = ask_of(state, queued)
    assert isinstance(ask, Ask)
    row = np.array([state.fleet.row("n1")])
    cost = int(cost_of(state, Room(state), ask, row)[0])
    assert 100 - 100 * cost / (1 << 30) == pytest.approx(80, abs=1e-4)
