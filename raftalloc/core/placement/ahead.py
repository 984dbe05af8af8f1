"""What windows booked, and starts promised, ahead leave of a row, for as long as a member would run."""

from __future__ import annotations

import numpy as np

from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.devices import Devices, choose_devices
from raftalloc.core.placement.fragments import least_fragmenting
from raftalloc.core.placement.room import Room
from raftalloc.core.profiles import moments_of
from raftalloc.core.quantities import DEVICE_UNITS
from raftalloc.core.state import State


def fit_in_time(state: State, room: Room, row: int, ask: Ask, end_ms: int) -> Devices | None:
    """The devices to take on a feasible node, or None where a window booked ahead needs the room."""
    free, device_free = free_until(state, room, row, end_ms)
    if any(free[column] < amount for column, amount in ask.node_parts):
        return None
    if not ask.gpu:
        return ()
    if ask.gpu < DEVICE_UNITS and ask.minds_fragments:
        device = least_fragmenting(state, room, row, ask, device_free)
        return ((device, ask.gpu),) if device >= 0 else None
    return choose_devices(device_free, state.fleet.model_mask(ask.models)[row], ask.gpu)


def free_until(state: State, room: Room, row: int, end_ms: int) -> tuple[Column, Column]:
    """(kinds,), (devices,): the least that is free of each on one row from now until end_ms (0: for ever)."""
    free, device_free = room.free[row], room.device_free[row]
    if room.ahead is None:
        return free, device_free
    promised = [promise for promise in room.ahead if state.fleet.ids[row] in promise.takes]
    if not promised and not state.reservations.any_booked():
        return free, device_free
    # What the plan has taken from its own room so far is taken at every later moment too.
    taken = state.fleet.matrix.free[row] - free
    devices_taken = state.fleet.device_free[row] - device_free
    for free_then, device_free_then in moments_of(state, row, promised, until_ms=end_ms):
        free = np.minimum(free, free_then - taken)
        device_free = np.minimum(device_free, device_free_then - devices_taken)
    return free, device_free
