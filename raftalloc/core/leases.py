"""Live allocations: who holds what, from which rows, until when.

A struct of arrays with a free list (design 9.1). An allocation ends at `ends_ms` (the promised run time) and,
where it has a lease, at `expires_ms` unless renewed before, and as a victim at `preempt_ms`; what comes first is
its deadline. Suppliers and amounts lie beside the kinds, at most KINDS_PER_REQUEST_MAX of them; devices are a
64-bit set, each giving `device_amount` units.

The latest ended allocations are remembered in a ring, so that a late renew can be told why, not only that, it
came late.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from raftalloc.core.quantities import KINDS_PER_REQUEST_MAX
from raftalloc.core.records import EndedRecord
from raftalloc.core.table import Column, Table

ENDED_MAX = 16_384
"""Ended allocations that are remembered."""

_WIDTHS = {
    "id": 1,
    "request_id": 1,
    "agent": 1,
    "workflow": 1,
    "agent_type": 1,
    "principal": 1,
    "quota": 1,
    "priority": 1,
    "node": 1,
    "kind_count": 1,
    "kinds": KINDS_PER_REQUEST_MAX,
    "amounts": KINDS_PER_REQUEST_MAX,
    "suppliers": KINDS_PER_REQUEST_MAX,
    "devices": 1,
    "device_amount": 1,
    "token": 1,
    "granted_ms": 1,
    "expires_ms": 1,
    "ends_ms": 1,
    "lease_ttl_ms": 1,
    "reservation_id": 1,
    "index": 1,
    "protected": 1,
    "preempt_ms": 1,
    "preemptor": 1,
    "labels": 1,
}
_APPENDED = ("labels",)
"""Columns that came later: not written down where they are all 0."""


class Leases:
    """The table of live allocations, by id; and which rows of it each supplier serves."""

    def __init__(self) -> None:
        """Start with none."""
        self.table = Table(_WIDTHS, appended=_APPENDED)
        self.rows: dict[int, int] = {}
        self.by_supplier: dict[int, dict[int, None]] = {}
        self.by_reservation: dict[int, dict[int, None]] = {}
        self.victims: dict[int, dict[int, None]] = {}
        self.ended: dict[int, EndedRecord] = {}

    def row(self, allocation_id: int) -> int:
        """The row of a live allocation, or -1."""
        return self.rows.get(allocation_id, -1)

    def get(self, row: int, column: str) -> int:
        """One number of one allocation."""
        return int(self.table.columns[column][row])

    def set(self, row: int, column: str, value: int) -> None:
        """Change it."""
        self.table.columns[column][row] = value

    def parts(self, row: int) -> list[tuple[int, int, int]]:
        """(kind, amount, supplier row) of each kind it holds."""
        columns = self.table.columns
        count = int(columns["kind_count"][row])
        return list(
            zip(
                columns["kinds"][row, :count].tolist(),
                columns["amounts"][row, :count].tolist(),
                columns["suppliers"][row, :count].tolist(),
                strict=True,
            )
        )

    def devices(self, row: int) -> list[int]:
        """The numbers of the devices it holds."""
        return devices_of(self.get(row, "devices"))

    def deadline_ms(self, row: int) -> int:
        """The earliest of lease, end, and the end of a victim's grace; 0: none of them."""
        expires, ends = self.get(row, "expires_ms"), self.known_end_ms(row)
        return min(expires, ends) if expires and ends else expires or ends

    def known_end_ms(self, row: int) -> int:
        """When it ends at the latest, by its duration or as a victim; 0: never by itself."""
        ends, preempt = self.get(row, "ends_ms"), self.get(row, "preempt_ms")
        return min(ends, preempt) if ends and preempt else ends or preempt

    def known_ends(self) -> Column:
        """(rows,): the same for the whole table."""
        ends, preempt = (
            self.table.columns[c][: self.table.high] for c in ("ends_ms", "preempt_ms")
        )
        both: Column = np.minimum(ends, preempt)
        return np.where(both > 0, both, np.maximum(ends, preempt))

    def add(self, allocation_id: int) -> int:
        """A row for a new allocation; the caller fills its columns and then calls `link`."""
        assert allocation_id not in self.rows, "an allocation id was given twice"
        row = self.table.add()
        self.table.columns["id"][row] = allocation_id
        self.rows[allocation_id] = row
        return row

    def link(self, row: int) -> None:
        """Put a filled row under its suppliers and its reservation."""
        for _, _, supplier in self.parts(row):
            self.by_supplier.setdefault(supplier, {})[row] = None
        reservation_id = self.get(row, "reservation_id")
        if reservation_id:
            self.by_reservation.setdefault(reservation_id, {})[row] = None
        preemptor = self.get(row, "preemptor")
        if preemptor:
            self.victims.setdefault(preemptor, {})[row] = None

    def unlink(self, row: int) -> None:
        """Take it off its suppliers."""
        for _, _, supplier in self.parts(row):
            self.by_supplier[supplier].pop(row, None)

    def remove(self, row: int, reason: str, at_ms: int) -> None:
        """Forget a live allocation, remembering that and why it ended."""
        allocation_id = self.get(row, "id")
        self.unlink(row)
        reservation_id = self.get(row, "reservation_id")
        if reservation_id:
            drawn = self.by_reservation[reservation_id]
            del drawn[row]
            if not drawn:
                del self.by_reservation[reservation_id]
        self.set_victim(row, 0, 0)
        del self.rows[allocation_id]
        self.table.remove(row)
        self.remember(EndedRecord(allocation_id, reason, at_ms))

    def set_victim(self, row: int, preemptor: int, preempt_ms: int) -> None:
        """It is to end for a preemptor at a time; (0, 0): for none."""
        before = self.get(row, "preemptor")
        if before:
            rows = self.victims[before]
            del rows[row]
            if not rows:
                del self.victims[before]
        if preemptor:
            self.victims.setdefault(preemptor, {})[row] = None
        self.set(row, "preemptor", preemptor)
        self.set(row, "preempt_ms", preempt_ms)

    def victims_of(self, preemptor: int) -> list[int]:
        """Ids of a preemptor's victims, lowest first."""
        return sorted(self.get(row, "id") for row in self.victims.get(preemptor, ()))

    def remember(self, record: EndedRecord) -> None:
        """Keep why an id ended; the oldest goes when the ring is full."""
        self.ended.pop(record.allocation_id, None)
        self.ended[record.allocation_id] = record
        if len(self.ended) > ENDED_MAX:
            del self.ended[next(iter(self.ended))]

    def on(self, supplier: int) -> list[int]:
        """Ids of the allocations that a row supplies, lowest first."""
        return sorted(self.get(row, "id") for row in self.by_supplier.get(supplier, ()))

    def drawn_from(self, reservation_id: int) -> list[int]:
        """Ids of the allocations drawn from a reservation, lowest first."""
        return sorted(self.get(row, "id") for row in self.by_reservation.get(reservation_id, ()))

    def relink(self) -> None:
        """Rebuild what is derived, after a restore."""
        free = dict.fromkeys(self.table.free)
        ids = self.table.columns["id"][: self.table.high].tolist()
        self.rows = {ident: row for row, ident in enumerate(ids) if row not in free}
        self.by_supplier, self.by_reservation, self.victims = {}, {}, {}
        for row in self.rows.values():
            self.link(row)


def device_set(devices: Iterable[int]) -> int:
    """Device numbers 0..63 as the bits of an int64."""
    bits = 0
    for device in devices:
        bits |= 1 << device
    return bits - (1 << 64) if bits >> 63 else bits


def devices_of(bits: int) -> list[int]:
    """The inverse."""
    return [device for device in range(64) if bits >> device & 1]
