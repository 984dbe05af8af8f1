"""Booked windows: capacity that is promised for a time to come, and held while the window is open.

A reservation is bound to its rows and devices when it is made. Until its window opens it holds nothing, but no
grant may run into the window with what was promised (`placement` asks `bookings`). When the window opens the
whole demand is HELD: it is not free, and allocations that name the reservation draw from it. At the end
everything drawn ends and the rest is let go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from raftalloc.core.events import CORDONED, READY, ReservationMade, ReservationMoved
from raftalloc.core.quantities import GPU, Vector

RESERVATIONS_MAX = 4096
"""Booked and open at once: bounds what a decision may have to look at."""
SERVING = (READY, CORDONED)
"""States of a row in which windows open on it and are drawn from: a cordon lets stand what was promised before it."""


@dataclass(slots=True)
class Reservation:
    """One window. `remaining` is by kind, in the order of the demand; `devices` device number -> units not drawn."""

    made: ReservationMade
    index: int
    open: bool
    remaining: dict[str, int]
    devices: dict[int, int]

    def overlaps(self, from_ms: int, to_ms: int) -> bool:
        """Whether any moment of [from_ms, to_ms) lies in the window; to_ms 0: for ever."""
        return self.made.end_ms > from_ms and (not to_ms or self.made.start_ms < to_ms)

    def supplier(self, kind: str) -> str:
        """The row that gives a kind."""
        for (name, _), supplier in zip(self.made.demand, self.made.suppliers, strict=True):
            if name == kind:
                return supplier
        raise KeyError(kind)


class Reservations:
    """Booked and open windows by id."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_id: dict[int, Reservation] = {}
        self._booked_on: dict[str, dict[int, None]] = {}
        self._booked_count = 0

    def add(self, made: ReservationMade, index: int) -> Reservation:
        """Book a window."""
        reservation = Reservation(made, index, open=False, remaining={}, devices={})
        self.by_id[made.reservation_id] = reservation
        self._book(reservation)
        return reservation

    def move(self, event: ReservationMoved) -> None:
        """Bind a booked window to other rows."""
        reservation = self.by_id[event.reservation_id]
        assert not reservation.open, "only a booked window moves"
        self._unbook(reservation)
        reservation.made = replace(
            reservation.made,
            node_id=event.node_id,
            suppliers=event.suppliers,
            devices=event.devices,
        )
        self._book(reservation)

    def open(self, reservation_id: int) -> Reservation:
        """The window begins: all of it remains to be drawn."""
        reservation = self.by_id[reservation_id]
        self._unbook(reservation)
        reservation.open = True
        reservation.remaining = dict(reservation.made.demand)
        reservation.devices = {int(device): amount for device, amount in reservation.made.devices}
        return reservation

    def remove(self, reservation_id: int) -> None:
        """Forget it."""
        reservation = self.by_id.pop(reservation_id)
        if not reservation.open:
            self._unbook(reservation)

    def any_booked(self) -> bool:
        """Whether any window is still ahead."""
        return self._booked_count > 0

    def booked_rows(self) -> Iterable[str]:
        """Ids of the rows that have windows ahead."""
        return self._booked_on

    def booked_on(self, node_id: str) -> list[Reservation]:
        """Windows ahead on one row, by start."""
        found = [self.by_id[ident] for ident in self._booked_on.get(node_id, ())]
        return sorted(found, key=_by_start)

    def booked(self) -> list[Reservation]:
        """All windows ahead, by start."""
        return sorted((r for r in self.by_id.values() if not r.open), key=_by_start)

    def on(self, node_id: str) -> list[Reservation]:
        """Booked and open windows on one row, by id."""
        return [
            self.by_id[ident]
            for ident in sorted(self.by_id)
            if node_id in self.by_id[ident].made.suppliers
        ]

    def _book(self, reservation: Reservation) -> None:
        self._booked_count += 1
        for supplier in reservation.made.suppliers:
            self._booked_on.setdefault(supplier, {})[reservation.made.reservation_id] = None

    def _unbook(self, reservation: Reservation) -> None:
        self._booked_count -= 1
        for supplier in dict.fromkeys(reservation.made.suppliers):
            booked = self._booked_on[supplier]
            booked.pop(reservation.made.reservation_id, None)
            if not booked:
                del self._booked_on[supplier]


def amount_on(reservation: Reservation, node_id: str) -> Vector:
    """What a window takes from one row, by kind."""
    made = reservation.made
    return tuple(
        pair
        for pair, supplier in zip(made.demand, made.suppliers, strict=True)
        if supplier == node_id
    )


def takes_devices(reservation: Reservation, node_id: str) -> dict[int, int]:
    """Device number -> units that a window takes from one row."""
    made = reservation.made
    if made.node_id != node_id or all(kind != GPU for kind, _ in made.demand):
        return {}
    return {int(device): amount for device, amount in made.devices}


def _by_start(reservation: Reservation) -> tuple[int, int]:
    return reservation.made.start_ms, reservation.made.reservation_id
