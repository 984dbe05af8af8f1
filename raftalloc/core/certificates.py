"""Why a request cannot start now, as a proof: sets of blockers of which each alone suffices, and the least change.

What must hold is a conjunction: every quota from the leaf up, a provider for each cluster-wide kind, and a node that
passes every filter. So each quota or provider that fails is a set of its own. Of the nodes the set is the smallest
one of filters such that every node falls to one of them (a minimum hitting set; exact, filters are few).

The least change lifts every set: each quota by what is short; and for the nodes what is short on the one where the
fewest filters stand in the way; of those one that is ready, then where the least share of its capacity is short, then
the one registered first. Windows booked ahead are not looked at where something else is in the way already.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np

from raftalloc.core import explain, rejections
from raftalloc.core.events import Queued
from raftalloc.core.fleet import Mask
from raftalloc.core.headroom import ask_of, booked_peak, ends_at
from raftalloc.core.placement import Ask, Room, filters, place_gang
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import (
    ADD,
    FEWER,
    FITS_NOW,
    FREE,
    GROW,
    RAISE_QUOTA,
    READY,
    SHORTER,
    Blocker,
    Certificate,
    Change,
)
from raftalloc.core.rejections import NUMBER_MAX
from raftalloc.core.state import State

PROMISED: Final = "PROMISED"
"""There is room, but for starts that are promised to others: who waits for them is told by the queue, not changed."""
MEMBERS_TRIED_MAX: Final = 1_000
"""Of a larger gang it is not told how many of it would fit."""
SHORT_MAX: Final = 1 << 42
"""What is short beyond this counts as this: a million times it still is an int64."""
_CODES: Final = {
    "state": explain.NODE_STATE,
    "constraint": explain.CONSTRAINTS,
    "device": explain.NO_DEVICE,
}
_MILLION: Final = 1_000_000

Filters = list[tuple[str, Mask]]


def certify(state: State, queued: Queued) -> Certificate:
    """The proof that it cannot start now, or an empty one. Of a draw there is none: it asks its window alone."""
    ask = ask_of(state, queued)
    if queued.reservation_id or not isinstance(ask, Ask):
        return Certificate((), ())
    members = (queued.terms.gang_min or queued.count) if queued.gang else 1
    sets: list[tuple[Blocker, ...]] = []
    changes: list[Change] = []
    providers = _providers(state, ask)
    for blocker, change in (*_quotas(state, queued, ask, members), *providers):
        sets.append((blocker,))
        changes.append(change)
    room = Room(state)
    steps = [(name, passes.copy()) for name, passes in filters(state, room, ask)]
    nodes = np.flatnonzero(state.fleet.is_node)
    if ask.node_parts and not _any_passes(steps, nodes):
        sets.append(_smallest_set(state, ask, room, steps, nodes))
        changes += _least_change(state, ask, room, steps, nodes)
    elif ask.node_parts or not providers:
        # Which providers lack is told already, of one member; else they bound the number of members too.
        rest = replace(ask, provider_parts=()) if providers else ask
        found = _of_time_and_number(state, queued, rest, members)
        sets += [each for each, _ in found]
        changes += [change for _, change in found]
    is_held_back = not sets and bool(state.queue.requests)
    if is_held_back and explain.explain_queued(state, queued).verdict != FITS_NOW:
        sets.append((Blocker(PROMISED, "", "", 1, 0),))
    return Certificate(tuple(sets), tuple(changes))


# -- quotas and providers --------------------------------------------------------------------------


def _quotas(state: State, queued: Queued, ask: Ask, members: int) -> list[tuple[Blocker, Change]]:
    """Every quota from the leaf up that does not allow it."""
    found, quotas = [], state.quotas
    until_ms = ends_at(state, queued)
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            if quotas.limit[row, column] == NO_LIMIT:
                continue
            booked = booked_peak(state, row, column, state.now_ms, until_ms)
            free, asked = quotas.free(row, column) - booked, amount * members
            if free < asked:
                name, kind = quotas.names[row], state.kinds.names[column]
                asked_shown = min(asked, NUMBER_MAX)
                blocker = Blocker(rejections.QUOTA_EXCEEDED, name, kind, asked_shown, max(0, free))
                found.append(
                    (blocker, Change(RAISE_QUOTA, name, kind, min(asked - free, NUMBER_MAX)))
                )
    return found


def _providers(state: State, ask: Ask) -> list[tuple[Blocker, Change]]:
    """Every cluster-wide kind that no provider has enough of."""
    found, fleet = [], state.fleet
    for column, amount in ask.provider_parts:
        ready = [row for row in fleet.providers() if fleet.is_ready[row]]
        free = {row: int(fleet.matrix.free[row, column]) for row in ready}
        if max(free.values(), default=0) >= amount:
            continue
        kind = state.kinds.names[column]
        blocker = Blocker(explain.NO_PROVIDER, "", kind, amount, max(0, *free.values(), 0))
        best = max(ready, key=lambda row: (free[row], -fleet.serials[row]), default=-1)
        found.append((blocker, _more(state, best, column, amount)))
    return found


def _more(state: State, row: int, column: int, amount: int) -> Change:
    """What is short of a kind on one row: to be given back there, or never there before."""
    fleet, kind = state.fleet, state.kinds.names[column]
    if row < 0:
        return Change(ADD, "", kind, amount)
    short = amount - int(fleet.matrix.free[row, column])
    what = FREE if int(fleet.matrix.capacity[row, column]) >= amount else GROW
    return Change(what, fleet.ids[row], kind, short)


# -- nodes -----------------------------------------------------------------------------------------


def _any_passes(steps: Filters, nodes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    left = np.ones(len(nodes), bool)
    for _, passes in steps:
        left &= passes[nodes]
    return bool(left.any())


def _smallest_set(
    state: State,
    ask: Ask,
    room: Room,
    steps: Filters,
    nodes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[Blocker, ...]:
    """The fewest filters such that every node falls to one of them; of equals the first in filter order."""
    if not len(nodes):
        return (Blocker(explain.NODE_STATE, "", "", 1, 0),)
    patterns = np.zeros(len(nodes), np.int64)
    for bit, (_, passes) in enumerate(steps):
        patterns |= (~passes[nodes]).astype(np.int64) << bit
    fallen = [int(each) for each in np.unique(patterns)]
    for size in range(1, len(steps) + 1):
        for chosen in combinations(range(len(steps)), size):
            bits = sum(1 << bit for bit in chosen)
            if all(pattern & bits for pattern in fallen):
                return tuple(
                    _blocker(state, ask, room, steps, nodes, bit, chosen) for bit in chosen
                )
    raise AssertionError("every node falls to some filter")


def _blocker(
    state: State,
    ask: Ask,
    room: Room,
    steps: Filters,
    nodes: np.ndarray[tuple[int], np.dtype[np.int64]],
    bit: int,
    chosen: tuple[int, ...],
) -> Blocker:
    """One filter of a set. available: what nodes have at most that pass the others of the set."""
    name, passes = steps[bit]
    kind = name.partition("capacity.")[2]
    if not kind:
        subject = ",".join(each.key for each in ask.constraints) if name == "constraint" else ""
        code = _CODES.get(name, "")
        if not code:
            code, subject = explain.named(name, ask)
        return Blocker(code, subject, "", 1, int(passes[nodes].sum()))
    others = np.ones(len(nodes), bool)
    for other in chosen:
        if other != bit:
            others &= steps[other][1][nodes]
    column = state.kinds.column(kind)
    most = int(room.free[nodes[others], column].max(initial=0))
    return Blocker(rejections.NO_CAPACITY, "", kind, dict(ask.node_parts)[column], most)


def _least_change(
    state: State,
    ask: Ask,
    room: Room,
    steps: Filters,
    nodes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> list[Change]:
    """What would have to be otherwise on one node; where none could do, a node to add."""
    fleet, matrix = state.fleet, state.fleet.matrix
    able, count = np.ones(len(nodes), bool), np.zeros(len(nodes), np.int64)
    for name, passes in steps:
        count += ~passes[nodes]
        if name != "state" and not name.startswith("capacity."):
            able &= passes[nodes]
    rows = nodes[able]
    share = np.zeros(len(rows), np.int64)
    for column, amount in ask.node_parts:
        short = np.clip(amount - room.free[rows, column], 0, SHORT_MAX)
        share += short * _MILLION // np.maximum(matrix.capacity[rows, column], 1)
    serials = np.array([fleet.serials[row] for row in rows.tolist()], np.int64)
    order = np.lexsort((serials, share, ~fleet.is_ready[rows], count[able]))
    best = int(rows[order[0]]) if len(rows) else -1
    if best < 0:
        return [
            Change(ADD, "", state.kinds.names[column], amount) for column, amount in ask.node_parts
        ]
    changes = [] if fleet.is_ready[best] else [Change(READY, fleet.ids[best], "", 1)]
    for column, amount in ask.node_parts:
        if int(room.free[best, column]) < amount:
            changes.append(_more(state, best, column, amount))
    return changes


# -- members and time ------------------------------------------------------------------------------


def _of_time_and_number(
    state: State, queued: Queued, ask: Ask, members: int
) -> list[tuple[tuple[Blocker, ...], Change]]:
    """A node could take a member at this moment: but not until its end, or not all of a gang."""
    if members > MEMBERS_TRIED_MAX:
        return []
    end_ms = ends_at(state, queued)
    possible = _possible(state, ask, members, end_ms)
    if possible >= members:
        return []
    if possible or not state.reservations.any_booked():
        blocker = Blocker(rejections.NO_CAPACITY, "count", "", members, possible)
        return [((blocker,), Change(FEWER, "", "", members - possible))]
    starts = list(dict.fromkeys(one.made.start_ms for one in state.reservations.booked()))
    blocker = Blocker(explain.RESERVED, "", "", 1, 0)
    for start_ms in sorted((each for each in starts if each > state.now_ms), reverse=True):
        if (not end_ms or start_ms < end_ms) and _possible(
            state, ask, members, start_ms
        ) >= members:
            return [((blocker,), Change(SHORTER, "", "", start_ms - state.now_ms))]
    return [((blocker,), Change(ADD, "", kind, amount)) for kind, amount in queued.demand[:1]]


def _possible(state: State, ask: Ask, members: int, end_ms: int) -> int:
    """How many of so many members would find room until then, one after the other, as the layout has them."""
    return len(place_gang(state, Room(state), ask, members, 1, end_ms) or ())
