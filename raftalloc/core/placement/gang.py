"""Where the members of a gang go: all of them, or as many as there is room for but at least so many, or none.

The layouts are Ray's placement strategies over domains (all nodes with the same value of an attribute; without a key,
every node is one):

    pack           one domain if any holds all, the one with the least room to spare; else the roomiest, again and again
    spread         as evenly over as many domains as can be (Kueue's balanced placement, KEP-2724)
    strict_pack    one domain, or nothing
    strict_spread  each member in a domain of its own, or nothing

Room is counted in members, from what is free now; within a domain members go where the policy has them. O(rows x kinds)
for the plan, and one placement a member.
"""

from __future__ import annotations

import numpy as np

from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.filters import feasible
from raftalloc.core.placement.pipeline import place
from raftalloc.core.placement.room import Placement, Room
from raftalloc.core.quantities import DEVICE_UNITS
from raftalloc.core.state import State
from raftalloc.core.terms import (
    GANG_ANY,
    GANG_PACK,
    GANG_STRICT_PACK,
    GANG_STRICT_SPREAD,
)


def place_gang(
    state: State, room: Room, ask: Ask, members: int, least: int, end_ms: int
) -> list[Placement] | None:
    """Placements of `members`, or of as many as fit, at least `least`; None: there is no room for those."""
    plan, room = _Plan(state, ask), room.copy()
    placements: list[Placement] = []
    while len(placements) < members:
        placement = plan.next(room, members - len(placements), least - len(placements), end_ms)
        if placement is None:
            break
        room.take(ask, placement)
        placements.append(placement)
    return placements if len(placements) >= least else None


class _Plan:
    """Which domains are left, and how many members stand in each."""

    def __init__(self, state: State, ask: Ask) -> None:
        """Number the domains by the node of each that was registered first: ties end there."""
        self.state, self.ask = state, ask
        self.layout = ask.terms.gang_layout
        self.domains: Column = np.zeros(0, np.int64)
        self.members: list[int] = []
        self.closed: list[bool] = []
        self.chosen = -1
        if self.layout == GANG_ANY:
            return
        given = state.fleet.domains(ask.terms.gang_key)
        rows = np.flatnonzero(given >= 0)
        rows = rows[np.argsort(state.fleet.serial[rows], kind="stable")]
        numbers: dict[int, int] = {}
        for domain in given[rows].tolist():
            numbers.setdefault(domain, len(numbers))
        self.domains = np.array([numbers.get(domain, -1) for domain in given.tolist()], np.int64)
        self.members = [0] * len(numbers)
        self.closed = [False] * len(numbers)

    def next(self, room: Room, left: int, needed: int, end_ms: int) -> Placement | None:
        """Where the next member goes; left: with all after it, needed: of which so many must find room."""
        if self.layout == GANG_ANY:
            return place(self.state, room, self.ask, end_ms)
        while True:
            domain = self._choose(room, left, needed)
            if domain < 0:
                return None
            placement = place(self.state, room, self.ask, end_ms, self.domains == domain)
            if placement is not None:
                self.members[domain] += 1
                return placement
            # Windows ahead, or rules about others, need what is free there now.
            self.closed[domain] = True
            self.chosen = -1
            if self.layout == GANG_STRICT_PACK and any(self.members):
                return None

    def _choose(self, room: Room, left: int, needed: int) -> int:
        able = feasible(self.state, room, self.ask)
        spare = self._spare(room, able)
        open_ones = [d for d, n in enumerate(spare) if n and not self.closed[d]]
        if not open_ones:
            return -1
        if self.layout in (GANG_PACK, GANG_STRICT_PACK):
            return self._choose_to_pack(open_ones, spare, left, needed)
        if self.layout == GANG_STRICT_SPREAD:
            open_ones = [domain for domain in open_ones if not self.members[domain]]
        return min(open_ones, key=lambda d: (self.members[d], -spare[d], d), default=-1)

    def _choose_to_pack(
        self, open_ones: list[int], spare: list[int], left: int, needed: int
    ) -> int:
        if self.chosen in open_ones:
            return self.chosen
        strict = self.layout == GANG_STRICT_PACK
        if strict and self.chosen >= 0:
            return -1
        hold_all = [domain for domain in open_ones if spare[domain] >= left]
        if hold_all:
            self.chosen = min(hold_all, key=lambda d: (spare[d], d))
            return self.chosen
        roomiest = max(open_ones, key=lambda d: (spare[d], -d))
        if strict and spare[roomiest] < needed:
            return -1
        self.chosen = roomiest
        return roomiest

    def _spare(self, room: Room, able: Mask) -> list[int]:
        """How many more members each domain could hold now."""
        rows = np.flatnonzero(able & (self.domains >= 0))
        counts = members_free(self.state, room, self.ask, rows)
        spare = np.zeros(len(self.members), np.int64)
        np.add.at(spare, self.domains[rows], counts)
        return [int(count) for count in spare.tolist()]


def members_free(state: State, room: Room, ask: Ask, rows: Column) -> Column:
    """(rows,): how many members each could hold by what is free of it now."""
    counts = np.full(len(rows), 1 << 40, np.int64)
    for column, amount in ask.node_parts:
        counts = np.minimum(counts, np.maximum(room.free[rows, column], 0) // amount)
    if ask.gpu:
        models = state.fleet.model_mask(ask.models)[rows]
        free = np.where(models, np.maximum(room.device_free[rows], 0), 0)
        if ask.gpu < DEVICE_UNITS:
            counts = np.minimum(counts, (free // ask.gpu).sum(axis=1))
        else:
            whole = (free == DEVICE_UNITS).sum(axis=1)
            counts = np.minimum(counts, whole // (ask.gpu // DEVICE_UNITS))
    return counts
