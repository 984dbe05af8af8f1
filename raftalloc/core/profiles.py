"""What will be free: of one row at the start of each window booked on it, and of all rows over a window to be booked.

Between now and then, allocations that have a promised end give back, open reservations close, and booked windows take.
What is free on a row falls only where a window starts, so looking at the starts is looking at every moment.

An allocation without an end is taken to stay. Leases are not counted on: a lease may be renewed. What is drawn from a
window goes back to the window first, so it is free when that closes, and not before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raftalloc.core.matrix import Column
from raftalloc.core.promises import Promise
from raftalloc.core.reservations import Reservation, amount_on, takes_devices
from raftalloc.core.state import State

Profile = list[tuple[int, Column, Column]]
"""(start of a booked window, free (kinds,).

Device_free (devices,) at that moment with all booked windows taken), by start.
"""


def profile_of(state: State, row: int) -> Profile:
    """The profile of one row; kept until something on the row changes. O(allocations on the row x windows on it)."""
    profile: Profile | None = state.profiles.get(row)
    if profile is None:
        node_id = state.fleet.ids[row]
        starts = sorted({r.made.start_ms: None for r in state.reservations.booked_on(node_id)})
        profile = [(start, *row_at(state, row, start)) for start in starts]
        state.profiles[row] = profile
    return profile


def moments_of(
    state: State, row: int, promised: list[Promise], *, until_ms: int
) -> Iterator[tuple[Column, Column]]:
    """What is free on a row at each moment that a run from now to until_ms (0: for ever) must look at.

    Those are the starts of windows booked on it, and of the promises given, which take theirs. At the start of a held
    promise even a run that is over by then is taken to be there still, and the victims are taken to have ended.
    """
    windows = {start_ms: (free, devices) for start_ms, free, devices in profile_of(state, row)}
    moments = [*windows, *(promise.made.start_ms for promise in promised)]
    node_id = state.fleet.ids[row]
    held = dict.fromkeys(promise.made.start_ms for promise in promised if promise.made.held)
    for moment in dict.fromkeys(moments):
        if until_ms and moment >= until_ms and moment not in held:
            continue
        known = None if moment in held else windows.get(moment)
        free, device_free = known or row_at(state, row, moment, victims=moment in held)
        if promised:
            free, device_free = free.copy(), device_free.copy()
        for promise in promised:
            if promise.is_active(moment):
                for kind, amount in promise.takes[node_id].items():
                    free[state.kinds.column(kind)] -= amount
                for device, units in promise.devices.get(node_id, {}).items():
                    device_free[device] -= units
        yield free, device_free


def row_at(state: State, row: int, at_ms: int, *, victims: bool = False) -> tuple[Column, Column]:
    """(kinds,), (devices,): what is free on one row at a later moment.

    victims: whether their grace counts as their end. It is no certain one: they may be spared.
    """
    free = state.fleet.matrix.free[row].copy()
    device_free = state.fleet.device_free[row].copy()
    leases = state.leases
    for lease_row in leases.by_supplier.get(row, ()):
        ends_ms = _free_ms(state, lease_row, victims=victims)
        if not ends_ms or ends_ms > at_ms:
            continue
        for kind, amount, supplier in leases.parts(lease_row):
            if supplier == row:
                free[kind] += amount
        if leases.get(lease_row, "node") == row:
            for device in leases.devices(lease_row):
                device_free[device] += leases.get(lease_row, "device_amount")
    node_id = state.fleet.ids[row]
    for reservation in state.reservations.on(node_id):
        _account(state, reservation, node_id, at_ms, free, device_free)
    return free, device_free


def _free_ms(state: State, lease_row: int, *, victims: bool) -> int:
    """When what an allocation holds is free for others; 0: never by itself."""
    reservation = state.reservations.by_id.get(state.leases.get(lease_row, "reservation_id"))
    if reservation:
        return reservation.made.end_ms
    leases = state.leases
    return leases.known_end_ms(lease_row) if victims else leases.get(lease_row, "ends_ms")


def free_by(state: State, at_ms: int, *, victims: bool = False) -> Column:
    """Rows of `leases` whose resources are free for others by a later moment."""
    table = state.leases.table
    ends = state.leases.known_ends() if victims else table.columns["ends_ms"][: table.high]
    drawn = table.columns["reservation_id"][: table.high] != 0
    rows: Column = np.flatnonzero((ends > 0) & (ends <= at_ms) & ~drawn)
    closed = [
        row
        for ident, reservation in state.reservations.by_id.items()
        if reservation.open and reservation.made.end_ms <= at_ms
        for row in state.leases.by_reservation.get(ident, ())
    ]
    return np.concatenate([rows, np.array(closed, np.int64)])


def _account(
    state: State,
    reservation: Reservation,
    node_id: str,
    at_ms: int,
    free: Column,
    device_free: Column,
) -> None:
    """Let one window take what is booked, or give back what it held, on one row at a later moment."""
    made = reservation.made
    if reservation.open and made.end_ms <= at_ms:
        for kind, supplier in zip(reservation.remaining, made.suppliers, strict=True):
            if supplier == node_id:
                free[state.kinds.column(kind)] += reservation.remaining[kind]
        if made.node_id == node_id:
            for device, units in reservation.devices.items():
                device_free[device] += units
    elif not reservation.open and made.start_ms <= at_ms < made.end_ms:
        for kind, amount in amount_on(reservation, node_id):
            free[state.kinds.column(kind)] -= amount
        for device, units in takes_devices(reservation, node_id).items():
            device_free[device] -= units


def least_free(
    state: State, start_ms: int, end_ms: int, *, moving_id: int = 0
) -> tuple[Column, Column]:
    """(rows, kinds), (rows, devices): the least free on every row over [start_ms, end_ms), booked windows taken.

    moving_id: a booked window that looks for another place, and so takes nothing where it is. O(live allocations
    + rows x kinds) for each booked window that starts within.
    """
    starts = (reservation.made.start_ms for reservation in state.reservations.booked())
    moments = dict.fromkeys(moment for moment in starts if start_ms < moment < end_ms)
    free, device_free = all_at(state, start_ms, moving_id)
    for moment in moments:
        then, devices_then = all_at(state, moment, moving_id)
        free = np.minimum(free, then)
        device_free = np.minimum(device_free, devices_then)
    return np.asfortranarray(free), device_free


def all_at(
    state: State, at_ms: int, moving_id: int = 0, *, victims: bool = False
) -> tuple[Column, Column]:
    """(rows, kinds), (rows, devices): what is free at a later moment, booked windows taken but for one."""
    free, device_free = _after_allocations(state, at_ms, victims=victims)
    for ident, reservation in state.reservations.by_id.items():
        if ident != moving_id:
            _account_all(state, reservation, at_ms, free, device_free)
    return free, device_free


def freed_by(state: State, at_ms: int) -> tuple[Column, Column]:
    """The same if nothing were booked: all that has ended by then, victims and open windows too. Never less later."""
    free, device_free = _after_allocations(state, at_ms, victims=True)
    for reservation in state.reservations.by_id.values():
        if reservation.open:
            _account_all(state, reservation, at_ms, free, device_free)
    return free, device_free


def _account_all(
    state: State, reservation: Reservation, at_ms: int, free: Column, device_free: Column
) -> None:
    for node_id in dict.fromkeys(reservation.made.suppliers):
        row = state.fleet.row(node_id)
        _account(state, reservation, node_id, at_ms, free[row], device_free[row])


def _after_allocations(state: State, at_ms: int, *, victims: bool) -> tuple[Column, Column]:
    free = state.fleet.matrix.free.copy(order="F")
    device_free = state.fleet.device_free.copy()
    table, ended = state.leases.table, free_by(state, at_ms, victims=victims)
    for place in range(table.widths["kinds"]):
        rows = ended[table.columns["kind_count"][ended] > place]
        suppliers = table.columns["suppliers"][rows, place]
        kinds = table.columns["kinds"][rows, place]
        np.add.at(free, (suppliers, kinds), table.columns["amounts"][rows, place])
    for row in ended[table.columns["devices"][ended] != 0].tolist():
        for device in state.leases.devices(row):
            node = state.leases.get(row, "node")
            device_free[node, device] += state.leases.get(row, "device_amount")
    return free, device_free
