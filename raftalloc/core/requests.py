"""Decisions on allocations: allocate, draw, renew, release, cancel.

A decision is a generator of events that answers an Outcome or a Rejection (see `admission`); it reads and never writes.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from raftalloc.core import lines, queues, rejections
from raftalloc.core.admission import ensure_quota, grant, quota_limit, start_members
from raftalloc.core.commands import Allocate, Cancel, Origin, Release, Renew
from raftalloc.core.drawing import draw_blocker, draw_placement
from raftalloc.core.events import (
    CANCELLED,
    LEASE_EXPIRED,
    RELEASED,
    Ended,
    Event,
    Queued,
    Renewed,
    Withdrawn,
)
from raftalloc.core.headroom import Blocked, ask_of, booked_peak, never, quota_blocker, rejection_of
from raftalloc.core.lines import shape_of
from raftalloc.core.placement import Ask
from raftalloc.core.profiles import profile_of
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import DONE, GRANTED, QUEUED, Outcome
from raftalloc.core.refusals import quota_rejection
from raftalloc.core.rejections import Rejection
from raftalloc.core.state import State

Decision = Generator[Event, None, Outcome | Rejection]


def as_queued(state: State, command: Allocate, origin: Origin) -> Queued:
    """The request as it would wait, under the next free id."""
    return Queued(
        request_id=state.next_id,
        count=command.count,
        gang=command.gang and command.count > 1,
        agent_id=command.agent_id,
        agent_type=command.agent_type,
        workflow_id=command.workflow_id,
        principal=origin.principal,
        priority=command.priority,
        demand=command.demand,
        gpu_models=command.gpu_models,
        constraints=command.constraints,
        duration_ms=command.duration_ms,
        lease_ttl_ms=command.lease_ttl_ms,
        policy=command.policy,
        reservation_id=command.reservation_id,
        deadline_ms=state.now_ms + command.wait_ms,
        protected=command.protected,
        terms=command.terms,
    )


def allocate(state: State, command: Allocate, origin: Origin) -> Decision:
    """Grant what fits, let the rest wait if it may, or say no."""
    queued = as_queued(state, command, origin)
    ask = ask_of(state, queued)
    if not isinstance(ask, Ask):
        return Rejection(rejections.UNKNOWN_KIND, f"resources.{ask}", ask)
    if command.reservation_id:
        return (yield from _draw(state, queued, ask))
    too_many = quota_limit(state, command.agent_type)
    if too_many is not None:
        return too_many
    started, stop = 0, _blocked_like_others(state, queued, ask)
    if stop is None:
        started, stop = yield from start_members(state, queued, ask, 0, 0)
    if stop is None:
        return _granted(state, queued.request_id, started)
    rejection = rejection_of(state, ask, stop)
    if not started:
        impossible = never(state, queued, ask)
        if impossible is not None or not command.wait_ms:
            return impossible or rejection
    return (yield from _wait(state, queued, started, rejection, may_wait=command.wait_ms > 0))


def _blocked_like_others(state: State, queued: Queued, ask: Ask) -> Blocked | None:
    """What blocks equal requests that wait, where nothing has changed since they were tried; None: it must be tried.

    Windows and promises ahead tell equal requests apart by their duration, so then each is tried.
    """
    line = state.queue.lines.by_shape.get(shape_of(queued))
    ahead = state.reservations.any_booked() or bool(state.promises.by_id)
    if line is None or state.freed.any() or ahead:
        return None
    members = queued.count if queued.gang else 1
    # Asked again of the state, not of the line, whose memory of what blocked it is older and not in a snapshot.
    return quota_blocker(state, queued, ask, members) or Blocked(lines.ROOM, members)


def _wait(
    state: State, queued: Queued, started: int, rejection: Rejection, *, may_wait: bool
) -> Decision:
    """Queue the members that did not start; an array that may not, or cannot, wait keeps those that did."""
    full = state.waiting_count() >= queues.WAITING_MAX
    if started and (full or not may_wait):
        return _granted(state, queued.request_id, started)
    if full:
        limit = (("limit", queues.WAITING_MAX),)
        return Rejection(rejections.LIMIT_REACHED, "wait_ms", "waiting requests", limit)
    yield from ensure_quota(state, queued.agent_type)
    yield replace(queued, started=started)
    if started:
        return _granted(state, queued.request_id, started)
    return Outcome(QUEUED, queued.request_id, rejection=rejection)


def _granted(state: State, request_id: int, count: int) -> Outcome:
    """The outcome for members request_id .. request_id + count - 1, all granted by this command."""
    first = state.leases.row(request_id)
    return Outcome(GRANTED, request_id, count, state.leases.get(first, "token"))


# -- drawing from a reservation --------------------------------------------------------------------


def _draw(state: State, queued: Queued, ask: Ask) -> Decision:
    """Take members out of an open window. All of them, or the request is refused: nothing waits for a reservation."""
    blocked = draw_blocker(state, queued, ask)
    if blocked is not None:
        return blocked
    for member in range(queued.count):
        yield grant(state, queued, draw_placement(state, queued, ask), member, 0)
    return _granted(state, queued.request_id, queued.count)


# -- keeping and giving back -----------------------------------------------------------------------


def find_held(
    state: State, allocation_id: int, token: int, agent_id: str, origin: Origin
) -> int | Rejection:
    """The row of a live allocation that this caller holds by this token; or why not."""
    subject = str(allocation_id)
    row = state.leases.row(allocation_id)
    if row < 0:
        return gone(state, allocation_id)
    names, leases = state.names, state.leases
    holder = (names.text(leases.get(row, "principal")), names.text(leases.get(row, "agent")))
    if holder != (origin.principal, agent_id):
        return Rejection(rejections.WRONG_OWNER, "agent_id", f"allocation {subject}")
    if leases.get(row, "token") != token:
        return Rejection(rejections.STALE_TOKEN, "fencing_token", subject, (("given", token),))
    return row


def gone(state: State, allocation_id: int) -> Rejection:
    """Why there is no live allocation of this id."""
    subject = str(allocation_id)
    ended = state.leases.ended.get(allocation_id)
    if ended is not None and ended.reason == LEASE_EXPIRED:
        return Rejection(
            rejections.LEASE_EXPIRED, "allocation_id", subject, (("ended_ms", ended.ended_ms),)
        )
    if ended is not None or 0 < allocation_id < state.next_id:
        numbers = (("ended_ms", ended.ended_ms),) if ended else ()
        return Rejection(rejections.ALREADY_ENDED, "allocation_id", subject, numbers)
    return Rejection(rejections.UNKNOWN_ALLOCATION, "allocation_id", subject)


def renew(state: State, command: Renew, origin: Origin) -> Decision:
    """A longer lease, and where asked a longer duration."""
    row = find_held(state, command.allocation_id, command.token, command.agent_id, origin)
    if isinstance(row, Rejection):
        return row
    leases = state.leases
    ttl, ends = leases.get(row, "lease_ttl_ms"), leases.get(row, "ends_ms")
    if not ttl and not command.extension_ms:
        return Rejection(rejections.NO_LEASE, "allocation_id", str(command.allocation_id))
    if command.extension_ms and ends:
        blocked = _extension_blocker(state, row, ends, ends + command.extension_ms)
        if blocked is not None:
            return blocked
        ends += command.extension_ms
    expires = max(leases.get(row, "expires_ms"), state.now_ms + ttl) if ttl else 0
    yield Renewed(command.allocation_id, min(expires, ends) if expires and ends else expires, ends)
    return Outcome(DONE, command.allocation_id, 1, command.token)


def _extension_blocker(state: State, row: int, ends: int, new_ends: int) -> Rejection | None:
    """What a longer run would take from a window booked for that time, or from the window it was drawn from."""
    reservation_id = state.leases.get(row, "reservation_id")
    if reservation_id:
        end_ms = state.reservations.by_id[reservation_id].made.end_ms
        if new_ends > end_ms:
            return Rejection(
                rejections.RESERVATION_NOT_OPEN,
                "extension_ms",
                str(reservation_id),
                (("end_ms", end_ms),),
            )
        return None
    if not state.reservations.any_booked():
        return None
    for kind, amount, supplier in state.leases.parts(row):
        for start_ms, free, device_free in profile_of(state, supplier):
            if not ends <= start_ms < new_ends:
                continue
            units = state.leases.get(row, "device_amount")
            node = state.leases.get(row, "node")
            devices = state.leases.devices(row) if supplier == node else []
            if free[kind] < amount or any(device_free[d] < units for d in devices):
                name = state.kinds.names[kind]
                numbers = ((f"asked.{name}", amount), (f"free_most.{name}", int(free[kind])))
                return Rejection(rejections.NO_CAPACITY, "extension_ms", name, numbers)
    return _extension_over_quota(state, row, new_ends)


def _extension_over_quota(state: State, row: int, new_ends: int) -> Rejection | None:
    """The allocation is charged already; what it must leave room for are the windows it would now run into."""
    for quota in state.quotas.chain(state.leases.get(row, "quota")):
        for kind, amount, _ in state.leases.parts(row):
            if state.quotas.limit[quota, kind] == NO_LIMIT:
                continue
            peak = booked_peak(state, quota, kind, state.now_ms, new_ends)
            if peak and state.quotas.free(quota, kind) < peak:
                used = state.quotas.taken(quota, kind) + peak
                return quota_rejection(state, quota, kind, amount, used)
    return None


def release(state: State, command: Release, origin: Origin) -> Decision:
    """Give it back."""
    row = find_held(state, command.allocation_id, command.token, command.agent_id, origin)
    if isinstance(row, Rejection):
        return row
    yield ended(state, row, RELEASED)
    return Outcome(DONE, command.allocation_id, 1)


def ended(state: State, row: int, reason: str) -> Ended:
    """The event that ends a live allocation."""
    leases, names = state.leases, state.names
    node = leases.get(row, "node")
    return Ended(
        leases.get(row, "id"),
        reason,
        names.text(leases.get(row, "agent")),
        names.text(leases.get(row, "workflow")),
        state.fleet.ids[node] if node >= 0 else "",
    )


def cancel(state: State, command: Cancel, origin: Origin) -> Decision:
    """Withdraw what still waits."""
    waiting = state.queue.requests.get(command.request_id)
    subject = str(command.request_id)
    if waiting is None:
        known = 0 < command.request_id < state.next_id
        code = rejections.NOT_WAITING if known else rejections.UNKNOWN_ALLOCATION
        return Rejection(code, "request_id", subject)
    queued = waiting.queued
    if (queued.principal, queued.agent_id) != (origin.principal, command.agent_id):
        return Rejection(rejections.WRONG_OWNER, "agent_id", f"request {subject}")
    left = waiting.left
    yield Withdrawn(command.request_id, CANCELLED, left, queued.agent_id, queued.workflow_id)
    return Outcome(DONE, command.request_id, left)
