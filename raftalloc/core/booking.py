"""Decisions on reservations: book a window, open it, move it, end it."""

from __future__ import annotations

from collections.abc import Generator

from raftalloc.core import rejections
from raftalloc.core.admission import ensure_quota, quota_limit
from raftalloc.core.commands import BEST_FIT, CancelReservation, Origin, Reserve
from raftalloc.core.events import (
    BROKEN,
    CANCELLED,
    COMPLETED,
    RESERVATION_ENDED,
    Event,
    ReservationEnded,
    ReservationMade,
    ReservationMoved,
    ReservationOpened,
)
from raftalloc.core.headroom import booked_peak
from raftalloc.core.matrix import score_of
from raftalloc.core.placement import (
    Ask,
    Placement,
    Room,
    choose,
    choose_devices,
    compile_ask,
    feasible,
    possible_members,
)
from raftalloc.core.profiles import free_by, least_free
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import DONE, Outcome
from raftalloc.core.refusals import no_capacity, quota_rejection, unsatisfiable
from raftalloc.core.rejections import Rejection
from raftalloc.core.requests import Decision, ended
from raftalloc.core.reservations import RESERVATIONS_MAX, SERVING, Reservation
from raftalloc.core.state import State


def reserve(state: State, command: Reserve, origin: Origin) -> Decision:
    """Book a window on the rows that have most reason to take it; or say which moment or limit forbids it."""
    if command.start_ms < state.now_ms:
        late = (("late_ms", state.now_ms - command.start_ms),)
        return Rejection(rejections.WINDOW_PAST, "start_ms", "", late)
    if len(state.reservations.by_id) >= RESERVATIONS_MAX:
        limit = (("limit", RESERVATIONS_MAX),)
        return Rejection(rejections.LIMIT_REACHED, "workflow_id", "reservations", limit)
    ask = compile_ask(state, command.demand, command.gpu_models, command.constraints, BEST_FIT)
    if not isinstance(ask, Ask):
        return Rejection(rejections.UNKNOWN_KIND, f"resources.{ask}", ask)
    end_ms = command.start_ms + command.duration_ms
    over = quota_limit(state, command.agent_type) or _over_quota(
        state, command.agent_type, ask, command.start_ms, end_ms
    )
    if over is not None:
        return over
    placement = place_window(state, ask, command.start_ms, end_ms)
    if placement is None:
        if possible_members(state, ask) < 1:
            return unsatisfiable(state, ask, 1)
        return no_capacity(state, ask, 1)
    yield from ensure_quota(state, command.agent_type)
    ident = state.next_id
    node_id, suppliers, devices = _names(state, command.demand, placement)
    yield ReservationMade(
        reservation_id=ident,
        agent_id=command.agent_id,
        agent_type=command.agent_type,
        workflow_id=command.workflow_id,
        principal=origin.principal,
        priority=command.priority,
        demand=command.demand,
        node_id=node_id,
        suppliers=suppliers,
        devices=devices,
        start_ms=command.start_ms,
        end_ms=end_ms,
        gpu_models=command.gpu_models,
        constraints=command.constraints,
    )
    return Outcome(DONE, ident, 1)


def _over_quota(
    state: State, agent_type: str, ask: Ask, start_ms: int, end_ms: int
) -> Rejection | None:
    """The first quota that cannot promise it: limit less what runs into the window less what is booked there."""
    quotas = state.quotas
    for row in quotas.chain(quotas.charged_row(agent_type)):
        for column, amount in ask.parts:
            limit = int(quotas.limit[row, column])
            if limit == NO_LIMIT:
                continue
            busy = _charged_at(state, row, column, start_ms)
            busy += booked_peak(state, row, column, start_ms, end_ms)
            if busy + amount > limit:
                return quota_rejection(state, row, column, amount, busy)
    return None


def _charged_at(state: State, quota: int, column: int, at_ms: int) -> int:
    """What of a quota's present use is still there at a later moment. O(live allocations)."""
    busy = int(state.quotas.used[quota, column] + state.quotas.held[quota, column])
    for row in free_by(state, at_ms).tolist():
        if state.quotas.is_below(state.leases.get(row, "quota"), quota):
            busy -= sum(amount for kind, amount, _ in state.leases.parts(row) if kind == column)
    for reservation in state.reservations.by_id.values():
        if reservation.open and reservation.made.end_ms <= at_ms:
            below = state.quotas.is_below(state.quotas.row(reservation.made.agent_type), quota)
            busy -= reservation.remaining.get(state.kinds.names[column], 0) if below else 0
    return busy


def place_window(
    state: State, ask: Ask, start_ms: int, end_ms: int, *, moving_id: int = 0
) -> Placement | None:
    """Rows and devices that have the demand free at every moment of a window, or None. Ranked as best_fit.

    moving_id: the booked window that this is for, where it is booked already.
    """
    room = Room(state).copy()
    room.free, room.device_free = least_free(state, start_ms, end_ms, moving_id=moving_id)
    room.score = score_of(room.free, room.weights)
    suppliers: dict[int, int] = {}
    for column, amount in ask.provider_parts:
        rows = [
            row
            for row in state.fleet.providers()
            if state.fleet.is_ready[row] and room.free[row, column] >= amount
        ]
        if not rows:
            return None
        suppliers[column] = min(rows, key=lambda row: int(room.free[row, column]))
    if not ask.node_parts:
        return Placement(-1, suppliers, ())
    row = choose(state, room, ask, feasible(state, room, ask))
    if row < 0:
        return None
    suppliers.update((column, row) for column, _ in ask.node_parts)
    if not ask.gpu:
        return Placement(row, suppliers, ())
    models = state.fleet.model_mask(ask.models)[row]
    devices = choose_devices(room.device_free[row], models, ask.gpu)
    assert devices is not None, "a feasible node has the devices"
    return Placement(row, suppliers, devices)


def _names(
    state: State, demand: tuple[tuple[str, int], ...], placement: Placement
) -> tuple[str, tuple[str, ...], tuple[tuple[str, int], ...]]:
    """A placement by names, as events have it."""
    ids = state.fleet.ids
    suppliers = tuple(ids[placement.suppliers[state.kinds.column(kind)]] for kind, _ in demand)
    devices = tuple((str(device), amount) for device, amount in placement.devices)
    return ids[placement.node] if placement.node >= 0 else "", suppliers, devices


def can_hold(state: State, reservation: Reservation) -> bool:
    """Whether the rows that a window was booked on can hold it now."""
    made, fleet = reservation.made, state.fleet
    for (kind, amount), supplier in zip(made.demand, made.suppliers, strict=True):
        row = fleet.row(supplier)
        if row < 0 or fleet.states[row] not in SERVING:
            return False
        if fleet.matrix.free[row, state.kinds.column(kind)] < amount:
            return False
    node = fleet.row(made.node_id)
    return all(int(fleet.device_free[node, int(d)]) >= amount for d, amount in made.devices)


def open_window(state: State, reservation: Reservation) -> Generator[Event, None, None]:
    """The window begins: where it was booked, elsewhere, or not at all."""
    ident = reservation.made.reservation_id
    if not can_hold(state, reservation):
        yield from rebind(state, reservation)
    if ident in state.reservations.by_id:
        yield ReservationOpened(ident)


def rebind(state: State, reservation: Reservation) -> Generator[Event, None, None]:
    """Find other rows for a window whose own can no longer serve it; an open one, or one that finds none, breaks."""
    made = reservation.made
    placement = None
    if not reservation.open:
        ask = compile_ask(state, made.demand, made.gpu_models, made.constraints, BEST_FIT)
        assert isinstance(ask, Ask), "a booked window asks for known kinds"
        start_ms = max(made.start_ms, state.now_ms)
        placement = place_window(state, ask, start_ms, made.end_ms, moving_id=made.reservation_id)
    if placement is None:
        yield from end_window(state, reservation, BROKEN)
        return
    yield ReservationMoved(made.reservation_id, *_names(state, made.demand, placement))


def end_window(state: State, reservation: Reservation, reason: str) -> Generator[Event, None, None]:
    """End what was drawn, then the window itself."""
    made = reservation.made
    for allocation_id in state.leases.drawn_from(made.reservation_id):
        yield ended(state, state.leases.row(allocation_id), RESERVATION_ENDED)
    yield ReservationEnded(made.reservation_id, reason, made.agent_id, made.workflow_id)


def complete_window(state: State, reservation: Reservation) -> Generator[Event, None, None]:
    """The window is over."""
    yield from end_window(state, reservation, COMPLETED)


def cancel_reservation(state: State, command: CancelReservation, origin: Origin) -> Decision:
    """End a reservation before its time."""
    reservation = state.reservations.by_id.get(command.reservation_id)
    ident = str(command.reservation_id)
    if reservation is None:
        return Rejection(rejections.UNKNOWN_RESERVATION, "id", ident)
    if reservation.made.principal != origin.principal:
        return Rejection(rejections.WRONG_OWNER, "id", f"reservation {ident}")
    yield from end_window(state, reservation, CANCELLED)
    return Outcome(DONE, command.reservation_id, 1)
