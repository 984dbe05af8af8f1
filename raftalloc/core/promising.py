"""Backfill: a later request starts early only where that delays no start that is promised ahead of it.

When a request fits now while others that stand ahead of it in the queue do not, each of those is first promised the
earliest start that is known: where and when it would fit, going by the ends of what runs, windows, and promises ahead
of it. The request is then tried again, around the promises. So a promise is made when somebody would pass, not before,
and it stands until its holder starts, leaves, or can no longer be given it.

- Known ends are those of durations, windows and promises. Who runs without a duration runs for ever; a request that
  does not fit even after every known end is promised nothing, and passed.
- Of each line the first is protected, of the first `depth` lines that are short of room: conservative backfill with a
  bounded depth (Slurm's, backfill.c); easy backfill is a depth of 1.
- Requests that a quota blocks are promised nothing: room would not help them.
- A start is looked for at the ends of what runs, at most SCAN_MAX of them behind the first at which all that ends
  until then would make room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from raftalloc.core import lines, ordering, profiles
from raftalloc.core.events import Event, Promised, PromiseDropped, Queued
from raftalloc.core.headroom import ask_of, place_members, quota_blocker
from raftalloc.core.matrix import Column, score_of
from raftalloc.core.placement import Ask, Placement, Room
from raftalloc.core.promises import PROMISES_MAX, Promise, promise_of
from raftalloc.core.state import State
from raftalloc.core.terms import NO_TERMS

SCAN_MAX = 32
"""Ends at which a start is looked for."""
LOOK_MAX = 128
"""Lines ahead that are looked at for one that has no promise."""

Ahead = tuple[Promise, ...]


# -- making promises -------------------------------------------------------------------------------


def protections(state: State, queued: Queued) -> list[Promised]:
    """What must be promised to those ahead before this request may pass them, in their order."""
    depth = state.queue.depth()
    made: list[Promised] = []
    if not depth or not state.queue.requests or not _anything_ends(state):
        return made
    for waiting in _short_of_room(state, queued, depth):
        ident = waiting.request_id
        room_left = len(state.promises.by_id) + len(made) < PROMISES_MAX
        if ident in state.promises.by_id or ident in state.hopeless or not room_left:
            continue
        promised = _promise(state, waiting, tuple(map(promise_of, made)))
        if promised is not None:
            made.append(promised)
    return made


def _anything_ends(state: State) -> bool:
    """Whether any start could be promised at all."""
    columns, high = state.leases.table.columns, state.leases.table.high
    ends = bool(columns["ends_ms"][:high].any())
    return ends or bool(state.reservations.by_id) or bool(state.promises.by_id)


def _short_of_room(state: State, queued: Queued, depth: int) -> Iterator[Queued]:
    """The firsts of lines ahead of a request that only room keeps from starting, next first, at most `depth`."""
    table, requests = state.queue.lines, state.queue.requests
    slots = table.all_slots()
    found = 0
    for _ in range(LOOK_MAX):
        slot = ordering.next_of(state, slots)
        if slot < 0 or found == depth:
            return
        first = requests[table.at(slot).first]
        slots[slot] = False
        if first.queued.request_id == queued.request_id:
            return
        if not ordering.is_ahead(state, first, queued):
            return
        if first.queued.request_id not in state.promises.by_id:
            if table.status[slot] == lines.QUOTA and not _is_freed(state, slot):
                continue
            ask, members = ask_of(state, first.queued), _members(first.queued)
            assert isinstance(ask, Ask), "a waiting request asks for known kinds"
            if quota_blocker(state, first.queued, ask, members) is not None:
                continue
        found += 1
        yield first.queued


def _is_freed(state: State, slot: int) -> bool:
    """Whether the quota that blocked a line may allow it by now: then what the line remembers is old."""
    freed = state.freed
    return freed.everything or int(state.queue.lines.quota_row[slot]) in freed.quotas


def _members(queued: Queued) -> int:
    return queued.count if queued.gang else 1


def _promise(state: State, queued: Queued, besides: Ahead) -> Promised | None:
    """The earliest start of a waiting request that is known, promises ahead of it respected; None: there is none."""
    ask = ask_of(state, queued)
    ahead = ordering.promises_ahead(state, queued) + besides
    assert isinstance(ask, Ask), "a waiting request asks for known kinds"
    times = _known_ends(state, ahead)
    earliest = _first_that_fits(state, queued, ask, times)
    if earliest == len(times) and queued.terms == NO_TERMS:
        # With terms it may depend on where others live, so it is looked for again each time.
        state.hopeless[queued.request_id] = (
            None  # derived: until something gives more room for ever
        )
    for start_ms in times[earliest : earliest + SCAN_MAX]:
        end_ms = start_ms + queued.duration_ms if queued.duration_ms else 0
        room = room_over(state, start_ms, end_ms, ahead)
        placements = place_members(state, room, queued, ask, 0)
        if placements is not None:
            return promise_event(state, queued, placements, start_ms, end_ms, held=False)
    return None


def _known_ends(state: State, ahead: Ahead) -> list[int]:
    """Moments to come at which something is given back, in order."""
    columns, high = state.leases.table.columns, state.leases.table.high
    others = [r.made.end_ms for r in state.reservations.by_id.values()]
    others += [promise.made.end_ms for promise in ahead]
    ends = columns["ends_ms"][:high]
    times = np.concatenate([ends[ends > state.now_ms], np.array(others, np.int64)])
    times = np.unique(times[times > state.now_ms])
    return list(map(int, times.tolist()))


def _first_that_fits(state: State, queued: Queued, ask: Ask, times: Sequence[int]) -> int:
    """Of the moments the first at which it would fit if nothing but what runs now were ever there; by bisection."""
    low, high = 0, len(times)
    while low < high:
        middle = (low + high) // 2
        room = _room(state, *profiles.freed_by(state, times[middle]))
        if place_members(state, room, queued, ask, 0) is not None:
            high = middle
        else:
            low = middle + 1
    return low


def room_over(state: State, start_ms: int, end_ms: int, ahead: Ahead) -> Room:
    """The least that is free on every row over [start_ms, end_ms) (0: for ever), windows and promises taken."""
    moments: dict[int, None] = {start_ms: None}
    starts = [r.made.start_ms for r in state.reservations.booked()]
    starts += [promise.made.start_ms for promise in ahead]
    moments.update({t: None for t in starts if t > start_ms and (not end_ms or t < end_ms)})
    held = {promise.made.start_ms: None for promise in ahead if promise.made.held}
    least: tuple[Column, Column] | None = None
    for moment in moments:
        free, device_free = profiles.all_at(state, moment, victims=moment in held)
        for promise in ahead:
            if promise.is_active(moment):
                _take(state, promise, free, device_free)
        if least is not None:
            free, device_free = np.minimum(free, least[0]), np.minimum(device_free, least[1])
        least = free, device_free
    assert least is not None, "the start is a moment"
    return _room(state, *least)


def _take(state: State, promise: Promise, free: Column, device_free: Column) -> None:
    for node_id, amounts in promise.takes.items():
        row = state.fleet.row(node_id)
        for kind, amount in amounts.items():
            free[row, state.kinds.column(kind)] -= amount
        for device, units in promise.devices.get(node_id, {}).items():
            device_free[row, device] -= units


def _room(state: State, free: Column, device_free: Column) -> Room:
    """A room of its own with these arrays, in which what is ahead is counted already."""
    room = Room(state).copy()
    room.free, room.device_free = np.asfortranarray(free), device_free
    room.score = score_of(room.free, room.weights)
    room.ahead = None
    return room


def promise_event(
    state: State,
    queued: Queued,
    placements: Sequence[Placement],
    start_ms: int,
    end_ms: int,
    *,
    held: bool,
) -> Promised:
    """Placements by names, as the event has them."""
    ids = state.fleet.ids
    columns = [state.kinds.column(kind) for kind, _ in queued.demand]
    return Promised(
        request_id=queued.request_id,
        start_ms=start_ms,
        end_ms=end_ms,
        held=held,
        members=len(placements),
        demand=queued.demand,
        nodes=tuple(ids[place.node] if place.node >= 0 else "" for place in placements),
        suppliers=tuple(ids[place.suppliers[c]] for place in placements for c in columns),
        devices=tuple((str(d), units) for place in placements for d, units in place.devices),
    )


# -- keeping and dropping --------------------------------------------------------------------------


def mend(state: State) -> Iterator[Event]:
    """Drop what can no longer be given: its rows have changed since it was promised."""
    while state.promises.unchecked:
        ident = min(state.promises.unchecked)  # which is derived, and so is its order
        promise = state.promises.by_id[ident]
        if not _can_be_kept(state, promise):
            yield PromiseDropped(ident)
        state.promises.unchecked.pop(ident, None)


def late(state: State) -> Iterator[Event]:
    """Drop what was not taken when its time had come: a quota, or someone ahead, stood in the way."""
    for ident, promise in state.promises.by_id.items():
        if promise.made.start_ms < state.now_ms:
            yield PromiseDropped(ident)


def _can_be_kept(state: State, promise: Promise) -> bool:
    """Whether what runs, and windows, leave its rows to it from its start on."""
    made = promise.made
    start_ms = max(made.start_ms, state.now_ms)
    for node_id, amounts in promise.takes.items():
        row = state.fleet.row(node_id)
        if row < 0 or not state.fleet.is_ready[row]:
            return False
        starts = [r.made.start_ms for r in state.reservations.booked_on(node_id)]
        ahead = [t for t in starts if t > start_ms and (not made.end_ms or t < made.end_ms)]
        for moment in (start_ms, *ahead):
            free, device_free = profiles.row_at(state, row, moment, victims=made.held)
            if any(free[state.kinds.column(k)] < amount for k, amount in amounts.items()):
                return False
            devices = promise.devices.get(node_id, {})
            if any(device_free[device] < units for device, units in devices.items()):
                return False
    return True
