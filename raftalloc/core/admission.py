"""Whether a request may start now: quota first, then room; and the queue of those that may not.

A decision here is a generator of events: `machine` evolves each event before the generator goes on, so that the second
member of an array is decided against a state in which the first one already runs. The generator itself never writes.

The queue is greedy: lines are tried by priority, then age, and a later request of another shape may start while
an earlier one does not fit. Within a line first come is first served.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from raftalloc.core import queues, rejections
from raftalloc.core.events import Event, Granted, Queued, QuotaSet
from raftalloc.core.placement import (
    Ask,
    Placement,
    Room,
    compile_ask,
    fits_devices,
    place,
    possible_members,
)
from raftalloc.core.queues import Line, Waiting
from raftalloc.core.quotas import DEFAULT, NO_LIMIT
from raftalloc.core.rejections import Rejection
from raftalloc.core.state import State

ADMITTED_MAX = 20_000
"""Grants from the queue in one settle; what is left goes on at the next entry."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a member may not start now. line: queues.ROOM or queues.QUOTA, and then the quota's row."""

    rejection: Rejection
    line: int
    quota_row: int = -1


def ends_at(state: State, queued: Queued) -> int:
    """When an allocation that starts now ends by itself; 0: never."""
    return state.now_ms + queued.duration_ms if queued.duration_ms else 0


def ask_of(state: State, queued: Queued) -> Ask | str:
    """The request's demand by columns, or the unknown kind."""
    return compile_ask(state, queued.demand, queued.gpu_models, queued.constraints, queued.policy)


def try_start(state: State, queued: Queued, ask: Ask) -> list[Placement] | Blocked:
    """Placements of the next member (of all members, for a gang), or what stands in the way."""
    members = queued.count if queued.gang else 1
    blocked = quota_blocker(state, queued, ask, members)
    if blocked is not None:
        return blocked
    end_ms = ends_at(state, queued)
    if members == 1:
        placement = place(state, Room(state), ask, end_ms)
        return [placement] if placement else Blocked(no_capacity(state, ask, 1), queues.ROOM)
    room, placements = Room(state).copy(), []
    for _ in range(members):
        placement = place(state, room, ask, end_ms)
        if placement is None:
            return Blocked(no_capacity(state, ask, members), queues.ROOM)
        room.take(ask, placement)
        placements.append(placement)
    return placements


def quota_blocker(state: State, queued: Queued, ask: Ask, members: int) -> Blocked | None:
    """The first quota, from the leaf up, that does not allow it."""
    quotas = state.quotas
    until_ms = ends_at(state, queued)
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            asked = amount * members
            if quotas.limit[row, column] == NO_LIMIT:
                continue
            free = quotas.free(row, column) - booked_peak(state, row, column, until_ms)
            if free < asked:
                return Blocked(quota_rejection(state, row, column, asked), queues.QUOTA, row)
    return None


def quota_rejection(state: State, row: int, column: int, asked: int) -> Rejection:
    """QUOTA_EXCEEDED with its numbers."""
    quotas, kind = state.quotas, state.kinds.names[column]
    used = int(quotas.used[row, column] + quotas.held[row, column])
    numbers = (
        (f"asked.{kind}", asked),
        (f"limit.{kind}", int(quotas.limit[row, column])),
        (f"used.{kind}", used),
    )
    return Rejection(rejections.QUOTA_EXCEEDED, f"resources.{kind}", quotas.names[row], numbers)


def booked_peak(state: State, row: int, column: int, until_ms: int) -> int:
    """The most that windows booked ahead charge to a quota at any moment before until_ms (0: for ever).

    Allocations that end before a window opens are not credited: a quota may refuse what only just would fit.
    """
    if not state.reservations.any_booked():
        return 0
    kind = state.kinds.names[column]
    edges: list[tuple[int, int]] = []
    for reservation in state.reservations.booked():
        made = reservation.made
        amount = dict(made.demand).get(kind, 0)
        if not amount or not reservation.overlaps(state.now_ms, until_ms):
            continue
        if state.quotas.is_below(state.quotas.row(made.agent_type), row):
            edges += [(made.start_ms, amount), (made.end_ms, -amount)]
    peak = level = 0
    for _, change in sorted(edges):  # at one moment what ends (negative) comes first
        level += change
        peak = max(peak, level)
    return peak


def never(state: State, queued: Queued, ask: Ask) -> Rejection | None:
    """Why the request could not start even with nothing else running; None: it could."""
    members = queued.count if queued.gang else 1
    quotas = state.quotas
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            if quotas.limit[row, column] < amount * members:
                return quota_rejection(state, row, column, amount * members)
    if possible_members(state, ask) < members:
        return unsatisfiable(state, ask, members)
    return None


def unsatisfiable(state: State, ask: Ask, members: int) -> Rejection:
    """UNSATISFIABLE, with the largest that any row has of the kind that is shortest."""
    fleet, kinds = state.fleet, state.kinds
    nodes = np.flatnonzero(fleet.is_node & fleet.constraint_mask(ask.constraints))
    for column, amount in ask.parts:
        rows = (
            nodes if (column, amount) in ask.node_parts else np.array(fleet.providers(), np.int64)
        )
        largest = max(fleet.matrix.capacity[rows, column].tolist(), default=0)
        if largest < amount:
            kind = kinds.names[column]
            numbers = ((f"asked.{kind}", amount), (f"largest.{kind}", largest))
            return Rejection(rejections.UNSATISFIABLE, f"resources.{kind}", kind, numbers)
    # Each kind is there somewhere, but not all on one node, or not for so many members, or not on such devices.
    field = "gpu_models" if ask.models else "count" if members > 1 else "resources"
    column, amount = ask.parts[0]
    kind = kinds.names[column]
    largest = max(fleet.matrix.capacity[nodes, column].tolist(), default=0)
    together = (
        (f"asked.{kind}", amount),
        (f"largest.{kind}", largest),
        ("members", members),
        ("members_possible", possible_members(state, ask)),
    )
    return Rejection(rejections.UNSATISFIABLE, field, kind, together)


def no_capacity(state: State, ask: Ask, members: int) -> Rejection:
    """NO_CAPACITY, with what is free now of the kind that is shortest."""
    fleet = state.fleet
    ready = fleet.is_node & fleet.is_ready & fleet.constraint_mask(ask.constraints)
    nodes = np.flatnonzero(ready)
    providers = np.array([r for r in fleet.providers() if fleet.is_ready[r]], np.int64)
    shortest: tuple[bool, int, int, int, int] | None = None
    for column, amount in ask.parts:
        rows = nodes if (column, amount) in ask.node_parts else providers
        free = fleet.matrix.free[rows, column].tolist()
        most, total = max(free, default=0), sum(max(0, value) for value in free)
        if shortest is None or (most < amount and not shortest[0]):
            shortest = (most < amount, column, amount, most, total)
    assert shortest is not None, "a demand has at least one kind"
    _, column, amount, most, total = shortest
    kind = state.kinds.names[column]
    numbers = (
        (f"asked.{kind}", amount),
        (f"free_most.{kind}", most),
        (f"free.{kind}", total),
        ("members", members),
        ("nodes_ready", len(nodes)),
    )
    return Rejection(rejections.NO_CAPACITY, f"resources.{kind}", kind, numbers)


# -- granting --------------------------------------------------------------------------------------


def ensure_quota(state: State, agent_type: str) -> Generator[Event, None, None]:
    """The implicit quota node of an agent type that is seen for the first time."""
    if state.quotas.row(agent_type) < 0:
        yield QuotaSet(agent_type, DEFAULT, (), implicit=True)


def grant(
    state: State, queued: Queued, placement: Placement, member: int, waited_ms: int
) -> Granted:
    """The event that starts one member."""
    end_ms = ends_at(state, queued)
    if queued.reservation_id:
        window_end = state.reservations.by_id[queued.reservation_id].made.end_ms
        end_ms = min(end_ms, window_end) if end_ms else window_end
    expires_ms = state.now_ms + queued.lease_ttl_ms if queued.lease_ttl_ms else 0
    ids = state.fleet.ids
    return Granted(
        allocation_id=queued.request_id + member,
        request_id=queued.request_id,
        agent_id=queued.agent_id,
        agent_type=queued.agent_type,
        workflow_id=queued.workflow_id,
        principal=queued.principal,
        priority=queued.priority,
        demand=queued.demand,
        node_id=ids[placement.node] if placement.node >= 0 else "",
        suppliers=tuple(
            ids[placement.suppliers[state.kinds.column(kind)]] for kind, _ in queued.demand
        ),
        devices=tuple((str(device), amount) for device, amount in placement.devices),
        token=state.token + 1,
        expires_ms=min(expires_ms, end_ms) if expires_ms and end_ms else expires_ms,
        ends_ms=end_ms,
        lease_ttl_ms=queued.lease_ttl_ms,
        reservation_id=queued.reservation_id,
        waited_ms=waited_ms,
    )


def start_members(
    state: State, queued: Queued, ask: Ask, started: int, waited_ms: int
) -> Generator[Event, None, tuple[int, Blocked | None]]:
    """Grant members until none is left or one is blocked; answers how many run and what stopped it."""
    while started < queued.count:
        result = try_start(state, queued, ask)
        if isinstance(result, Blocked):
            return started, result
        if not started:
            yield from ensure_quota(state, queued.agent_type)
        for placement in result:
            yield grant(state, queued, placement, started, waited_ms)
            started += 1
    return started, None


# -- the queue -------------------------------------------------------------------------------------


def admit(state: State) -> Generator[Event, None, tuple[dict[queues.Shape, Blocked], bool]]:
    """Start what can start of what waits. Answers which lines are blocked, and by what; and whether all were looked at.

    Bounded by ADMITTED_MAX grants. Only the first of each line is tried, and only of lines for which something
    has changed.
    """
    blocked: dict[queues.Shape, Blocked] = {}
    lines = [line for line in state.queue.lines.values() if worth_trying(state, line)]
    heap = [(-_priority(state, line), line.first, place_in) for place_in, line in enumerate(lines)]
    heapq.heapify(heap)
    admitted = 0
    while heap and admitted < ADMITTED_MAX:
        _, request_id, place_in = heapq.heappop(heap)
        line = lines[place_in]
        waiting = state.queue.requests[request_id]
        queued, before = waiting.queued, waiting.started
        ask = ask_of(state, queued)
        assert isinstance(ask, Ask), "a waiting request asks for known kinds"
        waited_ms = state.now_ms - waiting.queued_ms
        started, stop = yield from start_members(state, queued, ask, before, waited_ms)
        admitted += started - before
        if stop is not None:
            blocked[line.shape] = stop
        elif line.requests:
            heapq.heappush(heap, (-_priority(state, line), line.first, place_in))
    return blocked, not heap


def worth_trying(state: State, line: Line) -> bool:
    """Whether anything that blocked a line has changed. May be wrong towards yes, never towards no."""
    freed = state.freed
    if freed.everything or line.blocked == queues.UNKNOWN:
        return True
    if line.blocked == queues.QUOTA:
        return line.blocked_row in freed.quotas
    ask = ask_of(state, _first(state, line).queued)
    assert isinstance(ask, Ask), "a waiting request asks for known kinds"
    return any(_could_help(state, row, ask) for row in freed.rows)


def _could_help(state: State, row: int, ask: Ask) -> bool:
    """Whether a row that has more room than before could now take a member."""
    fleet = state.fleet
    if not fleet.is_node[row]:
        return any(fleet.matrix.capacity[row, column] for column, _ in ask.provider_parts)
    free = fleet.matrix.free[row]
    if not ask.node_parts or any(free[column] < amount for column, amount in ask.node_parts):
        return False
    if not ask.gpu:
        return True
    models = fleet.model_mask(ask.models)[row : row + 1]
    return bool(fits_devices(fleet.device_free[row : row + 1], models, ask.gpu)[0])


def _first(state: State, line: Line) -> Waiting:
    return state.queue.requests[line.first]


def _priority(state: State, line: Line) -> int:
    return _first(state, line).queued.priority
