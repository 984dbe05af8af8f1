"""Which provider serves a cluster-wide kind: ranked by what is free of the kind.

worst_fit and spread take the one with most free, first_fit the first, every other policy the one with least.
"""

from __future__ import annotations

from raftalloc.core.commands import FIRST_FIT, SPREAD, WORST_FIT
from raftalloc.core.placement.ahead import free_until
from raftalloc.core.placement.room import Room
from raftalloc.core.state import State


def choose_provider(
    state: State, room: Room, column: int, amount: int, policy: int, end_ms: int
) -> int:
    """The provider row for one cluster-wide kind, or -1. Providers are few: a plain loop."""
    best, best_free = -1, 0
    for row in state.fleet.providers():
        if not state.fleet.is_ready[row] or room.free[row, column] < amount:
            continue
        free = int(free_until(state, room, row, end_ms)[0][column])
        if free < amount:
            continue
        better = free > best_free if policy in (WORST_FIT, SPREAD) else free < best_free
        if best < 0 or (policy != FIRST_FIT and better):
            best, best_free = row, free
    return best
