"""The algorithm: providers, then filter, rank and choose a node that has the room until the end."""

from __future__ import annotations

import numpy as np

from raftalloc.core.fleet import Mask
from raftalloc.core.placement.ahead import fit_in_time, free_until
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.filters import feasible
from raftalloc.core.placement.providers import choose_provider
from raftalloc.core.placement.room import Placement, Room
from raftalloc.core.placement.scorers import best_of, cost_of
from raftalloc.core.placement.topology import displeasure
from raftalloc.core.state import State

__all__ = ["choose", "fit_in_time", "free_until", "place"]


def place(
    state: State, room: Room, ask: Ask, end_ms: int, among: Mask | None = None
) -> Placement | None:
    """Where a member goes that runs from now to end_ms (0: for ever), or None. among: (rows,) the nodes looked at."""
    suppliers: dict[int, int] = {}
    for column, amount in ask.provider_parts:
        row = choose_provider(state, room, column, amount, ask.policy, end_ms)
        if row < 0:
            return None
        suppliers[column] = row
    if not ask.node_parts:
        return Placement(-1, suppliers, ())
    mask = feasible(state, room, ask)
    if among is not None:
        mask &= among
    while True:
        row = choose(state, room, ask, mask)
        if row < 0:
            return None
        devices = fit_in_time(state, room, row, ask, end_ms)
        if devices is not None:
            suppliers.update((column, row) for column, _ in ask.node_parts)
            return Placement(row, suppliers, devices)
        mask[row] = False


def choose(state: State, room: Room, ask: Ask, mask: Mask) -> int:
    """The best of the rows in `mask`, or -1. Ties: the row registered first."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return -1
    broken = displeasure(state, room, ask, rows)
    if broken is not None:
        rows = rows[broken == broken.min()]
    return best_of(state, rows, cost_of(state, room, ask, rows))
