"""Whether a request can be drawn from an open window, and from what of it.

A window holds its demand on its own rows and devices; a draw takes part of that, from where it is held. It asks neither
quota nor room: both were set aside when the window opened.
"""

from __future__ import annotations

import numpy as np

from raftalloc.core import rejections
from raftalloc.core.events import Queued
from raftalloc.core.placement import Ask, Placement, choose_devices
from raftalloc.core.refusals import off_constraints
from raftalloc.core.rejections import NUMBER_MAX, Rejection
from raftalloc.core.reservations import SERVING, Reservation
from raftalloc.core.state import State


def draw_blocker(state: State, queued: Queued, ask: Ask) -> Rejection | None:
    """Why not all members of a request can be drawn from its reservation; None: they can."""
    ident = str(queued.reservation_id)
    reservation = state.reservations.by_id.get(queued.reservation_id)
    if reservation is None:
        return Rejection(rejections.UNKNOWN_RESERVATION, "reservation_id", ident)
    if reservation.made.principal != queued.principal:
        return Rejection(rejections.WRONG_OWNER, "reservation_id", f"reservation {ident}")
    if not reservation.open:
        window = (("start_ms", reservation.made.start_ms), ("end_ms", reservation.made.end_ms))
        return Rejection(rejections.RESERVATION_NOT_OPEN, "reservation_id", ident, window)
    for kind, amount in queued.demand:
        left = reservation.remaining.get(kind, 0)
        if left < amount * queued.count:
            asked = min(amount * queued.count, NUMBER_MAX)
            numbers = ((f"asked.{kind}", asked), (f"left.{kind}", left))
            return Rejection(rejections.RESERVATION_EXHAUSTED, f"resources.{kind}", ident, numbers)
    return _row_blocker(state, reservation, ask, queued.count)


def _row_blocker(state: State, reservation: Reservation, ask: Ask, count: int) -> Rejection | None:
    """What is wrong with the rows and devices of an open window that has enough left."""
    node = state.fleet.row(reservation.made.node_id)
    if ask.node_parts and not state.fleet.constraint_mask(ask.constraints)[node]:
        column, amount = ask.node_parts[0]
        return off_constraints(state, column, amount, largest=0, matching=0)
    for column, _ in ask.parts:
        supplier = reservation.supplier(state.kinds.names[column])
        if state.fleet.states[state.fleet.row(supplier)] not in SERVING:
            # Lost or draining: nothing new starts there.
            return Rejection(rejections.NODE_STATE, "reservation_id", supplier)
    if ask.gpu and not _devices_suffice(state, reservation, ask, count):
        ident = str(reservation.made.reservation_id)
        numbers = (("asked.gpu", ask.gpu), ("left.gpu", reservation.remaining.get("gpu", 0)))
        return Rejection(rejections.RESERVATION_EXHAUSTED, "resources.gpu", ident, numbers)
    return None


def draw_placement(state: State, queued: Queued, ask: Ask) -> Placement:
    """The reservation's own rows, and of its devices what suffices for one member."""
    reservation = state.reservations.by_id[queued.reservation_id]
    suppliers = {
        column: state.fleet.row(reservation.supplier(state.kinds.names[column]))
        for column, _ in ask.parts
    }
    node = state.fleet.row(reservation.made.node_id) if ask.node_parts else -1
    devices = _held_devices(state, reservation, reservation.devices, ask)
    assert devices is not None, "the devices were checked before the first member"
    return Placement(node, suppliers, devices)


def _devices_suffice(state: State, reservation: Reservation, ask: Ask, count: int) -> bool:
    left = dict(reservation.devices)
    for _ in range(count):
        devices = _held_devices(state, reservation, left, ask)
        if devices is None:
            return False
        for device, amount in devices:
            left[device] -= amount
    return True


def _held_devices(
    state: State, reservation: Reservation, left: dict[int, int], ask: Ask
) -> tuple[tuple[int, int], ...] | None:
    """Devices for one member out of what is left of the held ones."""
    if not ask.gpu:
        return ()
    row = state.fleet.row(reservation.made.node_id)
    free = np.zeros_like(state.fleet.device_free[row])
    for device, amount in left.items():
        free[device] = amount
    return choose_devices(free, state.fleet.model_mask(ask.models)[row], ask.gpu)
