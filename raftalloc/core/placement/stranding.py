"""Stranding: what of a node no member could use, because another kind would run out first.

Members of the fleet's mix take kinds in the proportion in which they are taken now (before anything is: as the fleet
has them). A node then holds u of the mix, where u is the least over kinds of free / mix, and strands what is left of
each kind after that. Borg's placement minimises stranded resources and packs 3-5 % better than best fit (Verma et al.,
EuroSys'15, section 3.2); the measure here is our own.

Unit: the share of the fleet's capacity of a kind, times 2^40, summed over kinds. int64 throughout: one row has at most
2^41 of a kind, and 64 kinds of it stay under 2^47.
"""

from __future__ import annotations

import numpy as np

from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.room import Room
from raftalloc.core.quantities import NODE, scope_of
from raftalloc.core.quotas import ROOT
from raftalloc.core.state import State

SHARE_BITS = 40
"""All of the fleet's capacity of a kind is 2^40."""
_MIX_BITS = 20
_WEIGHT_SHIFT = 8
"""Weights are 2^48 over the fleet's capacity."""
_ROW_MAX = 1 << (SHARE_BITS + 1)
"""A fleet that grew within one entry is weighed as it was: a row is then cut here."""


def stranded_more(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    """(rows,): how much more would be stranded with a member there than is now; below 0: less. O(rows x kinds)."""
    columns, mix = mix_of(state, room)
    if not len(columns):
        return np.zeros(len(rows), np.int64)
    weights = room.weights[columns]
    free = room.free[np.ix_(rows, columns)]
    after = free - _amounts(ask, columns)
    return _stranded(after, weights, mix) - _stranded(free, weights, mix)


def mix_of(state: State, room: Room) -> tuple[Column, Column]:
    """The columns of the mix, and its proportions: the largest of them is 2^20, none is 0."""
    weights = state.fleet.matrix.weights.tolist()
    columns = [c for c, kind in enumerate(state.kinds.names) if scope_of(kind) == NODE]
    root = state.quotas.row(ROOT)
    taken = {
        column: weights[column] * (state.quotas.taken(root, column) + room.planned.get(column, 0))
        for column in columns
    }
    if not any(taken.values()):
        taken = {column: weights[column] * state.fleet.totals[column] for column in columns}
    most = max(taken.values(), default=0)
    used = [column for column in columns if taken[column] > 0]
    mix = [max(1, (taken[column] << _MIX_BITS) // most) for column in used]
    return np.array(used, np.int64), np.array(mix, np.int64)


def _amounts(ask: Ask, columns: Column) -> Column:
    asked = dict(ask.node_parts)
    return np.array([asked.get(column, 0) for column in columns.tolist()], np.int64)


def _stranded(free: Column, weights: Column, mix: Column) -> Column:
    shares = np.minimum((np.maximum(free, 0) * weights) >> _WEIGHT_SHIFT, _ROW_MAX)
    fits = ((shares << _MIX_BITS) // mix).min(axis=1)
    stranded: Column = (shares - ((fits[:, None] * mix) >> _MIX_BITS)).sum(axis=1)
    return stranded
