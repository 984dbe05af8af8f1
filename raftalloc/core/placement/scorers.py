"""Which of the feasible nodes is best: a cost per node, the least of which wins.

Costs are exact int64, and ties end at the node registered first (design 9.9).

    best_fit     what is free, weighted by kind, before placing (matrix.score, design 9.18): fills the fullest
    worst_fit    the same, the other way round
    first_fit    nothing: the node registered first
    spread       the greatest share of a kind that would be in use: loads all alike
    balanced     how far the shares in use of the node's kinds would lie from their mean
    fgd          GPU fragments that placing makes, as a score of 0..100 (Weng et al., USENIX ATC'23)
    least_waste  GPU fragments and stranded resources together that placing makes

Terms may combine several: each is then stretched to 0..2^20 over the feasible nodes, and weighted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raftalloc.core.commands import (
    BALANCED,
    BEST_FIT,
    FGD,
    FIRST_FIT,
    LEAST_WASTE,
    SPREAD,
    WORST_FIT,
)
from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.fragments import FREQUENCY_BITS, fragments_more
from raftalloc.core.placement.room import Room
from raftalloc.core.placement.stranding import SHARE_BITS, stranded_more
from raftalloc.core.quantities import GPU, NODE, scope_of
from raftalloc.core.state import State

Scorer = Callable[[State, Room, Ask, Column], Column]
"""(state, room, ask, rows) -> the cost of each row; lower is better."""

UNIT_BITS = 20
"""Shares in use, and stretched costs, are 20-bit fractions."""
_LARGE = 1 << 42
"""An amount of so much is shifted before it is made a fraction: its lowest bits do not matter then."""

STRANDING_WEIGHT = 3
"""In least_waste, of what is stranded against what is fragmented."""
_GRAINS_PER_NODE = 128
"""least_waste tells nodes apart by so much of the mean node; finer differences are noise, and fill nodes unevenly."""

# Gains (2^-10 thousandths of a device) from which 100 x sigmoid(gain / 1000) is 51, 52, ... 99. Below 50 they mirror.
_SIGMOID = (
    40966, 81964, 123028, 164191, 205487, 246950, 288616, 330520, 372701, 415197, 458048, 501298, 544991, 589173,
    633897, 679214, 725182, 771863, 819323, 867634, 916874, 967129, 1018494, 1071072, 1124979, 1180344, 1237311,
    1296043, 1356724, 1419566, 1484811, 1552740, 1623683, 1698026, 1776232, 1858857, 1946582, 2040249, 2140919,
    2249958, 2369163, 2500964, 2648770, 2817573, 3015106, 3254328, 3559526, 3985224, 4705403,
)  # fmt: skip
_STEPS = np.array([*(-gain for gain in reversed(_SIGMOID)), 0, *_SIGMOID], np.int64)


def cost_of(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    """(rows,): the cost of each by the request's policy, or by what its terms combine."""
    scorers = ask.scorers
    if len(scorers) == 1:
        return SCORERS[scorers[0][0]](state, room, ask, rows)
    cost = np.zeros(len(rows), np.int64)
    for policy, weight in scorers:
        cost += weight * _stretched(SCORERS[policy](state, room, ask, rows))
    return cost


def best_of(state: State, rows: Column, cost: Column) -> int:
    """The row of least cost, and of those the one registered first. rows: at least one."""
    rows = rows[cost == cost.min()]
    return int(rows[state.fleet.serial[rows].argmin()])


def _stretched(cost: Column) -> Column:
    """0 for the least, 2^20 for the greatest."""
    over: Column = cost - cost.min()
    most = int(over.max())
    if not most:
        return over
    # Costs are below 2^62: shifted until 2^20 times as much fits.
    shift = max(0, most.bit_length() - 42)
    stretched: Column = ((over >> shift) << UNIT_BITS) // (most >> shift)
    return stretched


def _best_fit(_state: State, room: Room, _ask: Ask, rows: Column) -> Column:
    return room.score[rows]


def _worst_fit(_state: State, room: Room, _ask: Ask, rows: Column) -> Column:
    return -room.score[rows]


def _first_fit(_state: State, _room: Room, _ask: Ask, rows: Column) -> Column:
    return np.zeros(len(rows), np.int64)


def _spread(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    shares, _ = shares_in_use(state, room, ask, rows)
    most: Column = shares.max(axis=1)
    return most


def _balanced(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    shares, there = shares_in_use(state, room, ask, rows)
    kinds = there.sum(axis=1)
    # Deviations from the mean, times the number of kinds so that they are whole; divided by it twice at the end.
    deviations = np.abs(shares * kinds[:, None] - shares.sum(axis=1)[:, None])
    cost: Column = (np.where(there, deviations, 0).sum(axis=1) << 10) // (kinds * kinds)
    return cost


def _fgd(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    more, _ = fragments_more(state, room, ask, rows)
    gain = -more >> (FREQUENCY_BITS - 10)
    return -np.searchsorted(_STEPS, gain, side="right").astype(np.int64)


def _least_waste(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    more, level = fragments_more(state, room, ask, rows)
    # Thousandths of a device -> shares of the fleet's devices; both factors are halved in bits to stay in int64.
    weight = int(room.weights[state.kinds.column(GPU)]) >> 8
    fragmented = ((more >> 10) * weight) >> (FREQUENCY_BITS - 10)
    wasted = fragmented + STRANDING_WEIGHT * stranded_more(state, room, ask, rows)
    grain = max(1, (1 << SHARE_BITS) // (_GRAINS_PER_NODE * max(1, state.fleet.node_count)))
    # Among equals the device that is filled most: its level is at most 1000.
    return ((wasted // grain) << 10) + level


def shares_in_use(state: State, room: Room, ask: Ask, rows: Column) -> tuple[Column, Mask]:
    """(rows, kinds): 20-bit fractions of capacity in use with a member there, and whether the row has the kind."""
    # Kinds that no node offers cost nothing here.
    offered = [
        column
        for column, kind in enumerate(state.kinds.names)
        if state.fleet.totals[column] and scope_of(kind) == NODE
    ]
    columns = np.array(offered, np.int64)
    capacity = state.fleet.matrix.capacity[np.ix_(rows, columns)]
    asked = dict(ask.node_parts)
    amounts = np.array([asked.get(column, 0) for column in columns.tolist()], np.int64)
    used = capacity - room.free[np.ix_(rows, columns)] + amounts
    large = capacity >= _LARGE
    used, within = np.where(large, used >> 9, used), np.where(large, capacity >> 9, capacity)
    shares: Column = (np.minimum(used, within) << UNIT_BITS) // np.maximum(within, 1)
    return shares, capacity > 0


SCORERS: dict[int, Scorer] = {
    BEST_FIT: _best_fit,
    FIRST_FIT: _first_fit,
    WORST_FIT: _worst_fit,
    BALANCED: _balanced,
    FGD: _fgd,
    SPREAD: _spread,
    LEAST_WASTE: _least_waste,
}
"""By policy."""
