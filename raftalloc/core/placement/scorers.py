"""Which of the feasible nodes is best: a cost per node, the least of which wins.

Costs are exact int64. best_fit and worst_fit rank by the node's score before placing (matrix.score: the sum over
kinds of weight x free, design 9.18); first_fit by nothing. Ties end at the node registered first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from raftalloc.core.commands import BEST_FIT, FIRST_FIT, WORST_FIT
from raftalloc.core.matrix import Column
from raftalloc.core.placement.room import Room
from raftalloc.core.state import State

Scorer = Callable[[State, Room, Column], Column]
"""(state, room, rows) -> the cost of each row; lower is better."""


def _best_fit(_state: State, room: Room, rows: Column) -> Column:
    return room.score[rows]


def _worst_fit(_state: State, room: Room, rows: Column) -> Column:
    return -room.score[rows]


def _first_fit(_state: State, _room: Room, rows: Column) -> Column:
    return np.zeros(len(rows), np.int64)


SCORERS: dict[int, Scorer] = {
    BEST_FIT: _best_fit,
    FIRST_FIT: _first_fit,
    WORST_FIT: _worst_fit,
}
"""By policy."""


def best_of(state: State, rows: Column, cost: Column) -> int:
    """The row of least cost, and of those the one registered first; -1 of none."""
    if not len(rows):
        return -1
    rows = rows[cost == cost.min()]
    return int(rows[state.fleet.serial[rows].argmin()])
