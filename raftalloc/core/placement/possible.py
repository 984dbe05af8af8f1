"""What an empty fleet could hold: whether a request could ever start."""

from __future__ import annotations

import numpy as np

from raftalloc.core.placement.ask import Ask
from raftalloc.core.quantities import DEVICE_UNITS
from raftalloc.core.state import CACHE_MAX, State


def possible_members(state: State, ask: Ask) -> int:
    """How many members an empty fleet could hold at once, cordoned and lost nodes included.

    Exact: members are equal.
    """
    key = (ask.demand, ask.models, ask.constraints, ask.terms)
    known = state.possible.get(key)
    if known is not None:
        assert isinstance(known, int), "only counts are kept there"
        return known
    fleet = state.fleet
    counts = [
        sum(int(fleet.matrix.capacity[row, column]) // amount for row in fleet.providers())
        for column, amount in ask.provider_parts
    ]
    if ask.node_parts:
        counts.append(_possible_on_nodes(state, ask))
    if len(state.possible) >= CACHE_MAX:
        state.possible.clear()
    state.possible[key] = min(counts)
    return min(counts)


def _possible_on_nodes(state: State, ask: Ask) -> int:
    fleet = state.fleet
    mask = fleet.is_node & fleet.constraint_mask(ask.constraints_and_pool)
    mask &= fleet.taints_minded(ask.terms.tolerations) == 0
    rows = np.flatnonzero(mask)
    members = np.full(len(rows), 1 << 40, np.int64)
    for column, amount in ask.node_parts:
        members = np.minimum(members, fleet.matrix.capacity[rows, column] // amount)
    if ask.gpu:
        devices = fleet.model_mask(ask.models)[rows].sum(axis=1)
        if ask.gpu < DEVICE_UNITS:
            members = np.minimum(members, devices * (DEVICE_UNITS // ask.gpu))
        else:
            members = np.minimum(members, devices // (ask.gpu // DEVICE_UNITS))
    return sum(members.tolist())
