"""What the state itself calls for now: expire, open and close windows, drain, age, admit, forget.

Event-triggered rules are in `requests` and `operations`; the rules here are state-triggered (the split is
h11's): they fire when the state is such, whoever brought it there, until nothing more fires. Bounded: what does
not fit into one settle goes on at the next entry, since what is due stays due.
"""

from __future__ import annotations

from collections.abc import Generator

from raftalloc.core import deadlines, lines
from raftalloc.core.admission import admit
from raftalloc.core.booking import complete_window, end_window, open_window
from raftalloc.core.deadlines import Item
from raftalloc.core.events import (
    BROKEN,
    CORDONED,
    DEADLINE,
    DRAINED,
    DURATION_ENDED,
    LEASE_EXPIRED,
    PREEMPTED,
    RESERVATION_ENDED,
    Aged,
    Event,
    NodeStateChanged,
    SessionsExpired,
    Spared,
    WeightsSet,
    Withdrawn,
)
from raftalloc.core.matrix import WEIGHT_UNIT
from raftalloc.core.preemption import seek
from raftalloc.core.promising import late, mend
from raftalloc.core.quantities import NODE, scope_of
from raftalloc.core.requests import ended
from raftalloc.core.sessions import KEEP_MS
from raftalloc.core.state import State

FIRED_MAX = 1_000
"""Deadlines that fire in one settle: a tenth of a second at most, less than an election waits."""
ROUNDS_MAX = 4
"""How often one settle goes round: what starts may take what was promised to those behind it."""
SESSIONS_EVERY_MS = 30_000
"""Sessions and keys may outlive KEEP_MS by so much: one event forgets many."""


def settle(state: State) -> Generator[Event, None, None]:
    """Fire until nothing is due and nothing that waits could start."""
    if state.fleet.version != state.weighed_version:
        # First: windows that open look for room by the score, and old weights do not fit a new fleet.
        weights = stale_weights(state)
        if weights is not None:
            yield WeightsSet(weights)
        state.weighed_version = state.fleet.version
    oldest_ms = state.sessions.oldest_ms()
    if oldest_ms and oldest_ms + KEEP_MS + SESSIONS_EVERY_MS <= state.now_ms:
        yield SessionsExpired(state.now_ms - KEEP_MS)
    fired = 0
    for _ in range(ROUNDS_MAX):
        fired = yield from _fire_due(state, fired)
        yield from mend(state)
        if state.freed.any():
            yield from _admit(state)
        dropped = list(late(state))
        yield from dropped
        if not state.promises.unchecked and not dropped and not _is_due(state):
            break
    yield from _spare(state)


def _is_due(state: State) -> bool:
    item = state.deadlines.first()
    return item is not None and item[0] <= state.now_ms


def _fire_due(state: State, fired: int) -> Generator[Event, None, int]:
    """Fire what is due, FIRED_MAX at most in one settle; answers how many have fired so far."""
    while fired < FIRED_MAX and _is_due(state):
        item = state.deadlines.first()
        assert item is not None, "something is due"
        yield from _fire(state, item)
        fired += 1
    return fired


def _spare(state: State) -> Generator[Event, None, None]:
    """Victims whose preemptor holds no claim any more: it went away, has started, or cannot be given the place."""
    for preemptor in sorted(state.leases.victims):  # which is derived, and so is its order
        promise = state.promises.by_id.get(preemptor)
        if promise is None or not promise.made.held:
            for allocation_id in state.leases.victims_of(preemptor):
                yield _spared(state, allocation_id)


def _spared(state: State, allocation_id: int) -> Spared:
    leases, names = state.leases, state.names
    row = leases.row(allocation_id)
    node = leases.get(row, "node")
    return Spared(
        allocation_id,
        names.text(leases.get(row, "agent")),
        names.text(leases.get(row, "workflow")),
        state.fleet.ids[node] if node >= 0 else "",
    )


def due_ms(state: State) -> int:
    """When `settle` will next have something to do by itself; 0: never."""
    item = state.deadlines.first()
    times = [item[0]] if item else []
    oldest_ms = state.sessions.oldest_ms()
    if oldest_ms:
        times.append(oldest_ms + KEEP_MS + SESSIONS_EVERY_MS)
    promised = [promise.made.start_ms + 1 for promise in state.promises.by_id.values()]
    times += [max(at_ms, state.now_ms) for at_ms in promised]
    if (state.freed.any() and state.queue.requests) or state.promises.unchecked:
        times.append(state.now_ms)
    return min(times, default=0)


def _fire(state: State, item: Item) -> Generator[Event, None, None]:
    _, sort, subject = item
    if isinstance(subject, str):
        yield from _drain(state, subject)
        return
    match sort:
        case deadlines.ALLOCATION:
            row = state.leases.row(subject)
            yield ended(state, row, _why_over(state, row))
        case deadlines.WAIT:
            waiting = state.queue.requests[subject]
            queued = waiting.queued
            yield Withdrawn(subject, DEADLINE, waiting.left, queued.agent_id, queued.workflow_id)
        case deadlines.SEEK:
            yield from seek(state, state.queue.requests[subject])
        case deadlines.AGE:
            waiting = state.queue.requests[subject]
            yield Aged(subject, state.queue.level_at(waiting, state.now_ms))
        case deadlines.RESERVATION_START:
            yield from open_window(state, state.reservations.by_id[subject])
        case _:
            yield from complete_window(state, state.reservations.by_id[subject])


def _why_over(state: State, row: int) -> str:
    """What ends an allocation whose deadline has come."""
    if 0 < state.leases.get(row, "preempt_ms") <= state.now_ms:
        return PREEMPTED
    ends_ms = state.leases.get(row, "ends_ms")
    if not ends_ms or ends_ms > state.now_ms:
        return LEASE_EXPIRED
    reservation = state.reservations.by_id.get(state.leases.get(row, "reservation_id"))
    drawn = reservation is not None and reservation.made.end_ms <= state.now_ms
    return RESERVATION_ENDED if drawn else DURATION_ENDED


def _drain(state: State, node_id: str) -> Generator[Event, None, None]:
    """The deadline of a drain: what is left ends, open windows with it, and the node stays cordoned."""
    for allocation_id in state.leases.on(state.fleet.row(node_id)):
        yield ended(state, state.leases.row(allocation_id), DRAINED)
    for reservation in state.reservations.on(node_id):
        if reservation.open:
            yield from end_window(state, reservation, BROKEN)
    yield NodeStateChanged(node_id, CORDONED)


def _admit(state: State) -> Generator[Event, None, None]:
    """Try what waits, and remember what blocked it.

    Only derived fields are written here: none of them is in the bytes.
    """
    blocked, finished = yield from admit(state)
    for slot, stop in blocked.items():
        line = lines.UNKNOWN if stop.by_others else stop.line
        state.queue.lines.block(slot, line, stop.quota_row)
    if finished:
        state.freed.clear()


def stale_weights(state: State) -> tuple[tuple[str, int], ...] | None:
    """New weights for best_fit where the fleet has changed by more than an eighth since the last; None: not yet."""
    fleet, stale = state.fleet, False
    weights: dict[int, int] = {}
    for column, kind in enumerate(state.kinds.names):
        if scope_of(kind) != NODE:
            continue
        total = fleet.totals[column]
        weights[column] = WEIGHT_UNIT // total if total else 0
        old = int(fleet.matrix.weights[column])
        stale = stale or abs(weights[column] - old) * 8 > old
    return state.kinds.vector(weights) if stale else None
