"""Nodes and providers: the rows of the matrix, their states, devices and attributes.

A row is a node (it serves kinds of node scope, all of one request from one node) or a provider (cluster-wide, it serves
its kinds to any request). `serial` numbers rows by first registration and never changes: ties between equally good rows
end there (design 9.9), whichever row number a node happened to get.

DEVICES are the GPUs of a node: 1000 units each, (rows, devices) arrays; a device that is not there has nothing free.

Masks over rows that many requests share (constraints, device models) are cached and mended row by row; they are derived
and not part of the state's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.commands import EXISTS, GT, IN, LT, NOT_IN, Constraint
from raftalloc.core.events import READY, NodeRegistered
from raftalloc.core.matrix import Column, Matrix
from raftalloc.core.quantities import DEVICE_UNITS, KINDS_MAX
from raftalloc.core.terms import Toleration

Mask = NDArray[np.bool_]
_DEVICES_MIN = 8
_MASKS_MAX = 512
"""Cached masks of each sort; when they are full all are dropped."""


class Fleet:
    """Rows by id, and the matrix they are rows of. Row lists are indexed by row; a free row has id ''."""

    def __init__(self) -> None:
        """Start without a row."""
        self.matrix = Matrix()
        self.ids: list[str] = []
        self.registered: list[NodeRegistered | None] = []
        self.states: list[int] = []
        self.deadlines_ms: list[int] = []
        self.allocations: list[int] = []
        self.serials: list[int] = []
        self.free_rows: list[int] = []
        self.next_serial = 1
        self.node_count = 0
        self.provider_count = 0
        rows = len(self.matrix.score)
        self.device_used = np.zeros((rows, _DEVICES_MIN), np.int64)
        self.device_held = np.zeros((rows, _DEVICES_MIN), np.int64)
        self.device_free = np.zeros((rows, _DEVICES_MIN), np.int64)
        self.is_node = np.zeros(rows, np.bool_)
        self.is_ready = np.zeros(rows, np.bool_)
        self.serial = np.zeros(rows, np.int64)
        self.totals = [0] * KINDS_MAX
        self.version = 0
        self._rows: dict[str, int] = {}
        self._attributes: list[dict[str, str]] = []
        self._providers: list[int] = []
        self._constraint_masks: dict[tuple[Constraint, ...], Mask] = {}
        self._model_masks: dict[tuple[str, ...], Mask] = {}
        self._taint_counts: dict[tuple[bool, tuple[Toleration, ...]], Column] = {}
        self._domains: dict[str, Column] = {}

    # -- reading -------------------------------------------------------------------------------------------------------

    def row(self, node_id: str) -> int:
        """The row of a node or provider, or -1."""
        return self._rows.get(node_id, -1)

    def rows_in_order(self) -> list[int]:
        """All rows in use, by registration."""
        return sorted(self._rows.values(), key=self.serials.__getitem__)

    def providers(self) -> Sequence[int]:
        """Provider rows by registration."""
        return self._providers

    def constraint_mask(self, constraints: tuple[Constraint, ...]) -> Mask:
        """(rows,): which nodes' attributes satisfy all constraints."""
        mask = self._constraint_masks.get(constraints)
        if mask is None:
            if len(self._constraint_masks) >= _MASKS_MAX:
                self._constraint_masks.clear()
            mask = np.zeros(len(self.is_node), np.bool_)
            for row in self._rows.values():
                mask[row] = satisfies(self._attributes[row], constraints)
            self._constraint_masks[constraints] = mask
        return mask

    def model_mask(self, models: tuple[str, ...]) -> Mask:
        """(rows, devices): which devices are there and of one of the models (of any, where none is named)."""
        mask = self._model_masks.get(models)
        if mask is None:
            if len(self._model_masks) >= _MASKS_MAX:
                self._model_masks.clear()
            mask = np.zeros(self.device_free.shape, np.bool_)
            for row in self._rows.values():
                self._mend_models(mask, row, models)
            self._model_masks[models] = mask
        return mask

    def taints_minded(self, tolerations: tuple[Toleration, ...], *, soft: bool = False) -> Column:
        """(rows,): how many of each node's taints, or soft taints, these do not tolerate."""
        counts = self._taint_counts.get((soft, tolerations))
        if counts is None:
            if len(self._taint_counts) >= _MASKS_MAX:
                self._taint_counts.clear()
            counts = np.zeros(len(self.is_node), np.int64)
            for row in self._rows.values():
                event = self.registered[row]
                assert event is not None, "a row in use is registered"
                taints = event.soft_taints if soft else event.taints
                counts[row] = sum(not tolerates(tolerations, taint) for taint in taints)
            self._taint_counts[soft, tolerations] = counts
        return counts

    def domains(self, key: str) -> Column:
        """(rows,): the number of the domain that each node is in by this attribute; -1: it has none.

        The empty key: each row is its own. Numbers mean nothing but equality.
        """
        domains = self._domains.get(key)
        if domains is None:
            if len(self._domains) >= _MASKS_MAX:
                self._domains.clear()
            domains = np.full(len(self.is_node), -1, np.int64)
            numbers: dict[str, int] = {}
            for row in self._rows.values():
                value = self._attributes[row].get(key) if key else self.ids[row]
                if value is not None and self.is_node[row]:
                    domains[row] = numbers.setdefault(value, len(numbers))
            self._domains[key] = domains
        return domains

    def attributes(self, row: int) -> dict[str, str]:
        """The attributes of a row."""
        return self._attributes[row]

    # -- writing: only `evolve` calls these
    # ------------------------------------------------------------------------------

    def register(self, event: NodeRegistered, capacity: dict[int, int], kinds: int) -> int:
        """Add a row or bring it up to date. `capacity` is by column."""
        row = self.row(event.node_id)
        if row < 0:
            row = self._take_row(event)
        self._make_room(max(len(self.ids), row + 1), kinds, len(event.devices))
        self._count_capacity(row, -1)
        self.registered[row] = event
        self._attributes[row] = dict(event.attributes)
        self.is_node[row] = not event.provider
        self.serial[row] = self.serials[row]
        self.is_ready[row] = self.states[row] == READY
        self.matrix.set_capacity(row, capacity)
        self._count_capacity(row, +1)
        self._settle_devices(row)
        self._mend_masks(row)
        return row

    def set_state(self, row: int, state: int, deadline_ms: int) -> None:
        """Ready, cordoned, draining or lost."""
        self.states[row] = state
        self.deadlines_ms[row] = deadline_ms
        self.is_ready[row] = state == READY
        self.version += 1

    def remove(self, row: int) -> None:
        """Forget a row that nothing is on."""
        assert not self.allocations[row], "a row in use was removed"
        event = self.registered[row]
        assert event is not None, "a free row was removed"
        del self._rows[self.ids[row]]
        if event.provider:
            self._providers.remove(row)
            self.provider_count -= 1
        else:
            self.node_count -= 1
        self._count_capacity(row, -1)
        self.ids[row], self.registered[row], self._attributes[row] = "", None, {}
        self.states[row] = self.deadlines_ms[row] = self.serials[row] = 0
        self.serial[row] = 0
        self.is_node[row] = self.is_ready[row] = False
        self.matrix.set_capacity(row, {})
        self._settle_devices(row)
        self._mend_masks(row)
        self.free_rows.append(row)

    def change_device(self, row: int, device: int, *, used: int = 0, held: int = 0) -> None:
        """Add to what is used and held of one device."""
        self.device_used[row, device] += used
        self.device_held[row, device] += held
        assert self.device_used[row, device] >= 0, "more of a device was given back than was used"
        assert self.device_held[row, device] >= 0, "more of a device was drawn than was held"
        self._settle_devices(row)

    def restore_row(
        self,
        event: NodeRegistered | None,
        state: int,
        deadline_ms: int,
        serial: int,
        capacity: dict[int, int],
        kinds: int,
    ) -> None:
        """Append a row as a snapshot had it (None: a free row); capacity is set, use is not."""
        row = len(self.ids)
        self.ids.append(event.node_id if event else "")
        self.registered.append(event)
        self.states.append(state)
        self.deadlines_ms.append(deadline_ms)
        self.allocations.append(0)
        self.serials.append(serial)
        self._attributes.append(dict(event.attributes) if event else {})
        self._make_room(row + 1, kinds, len(event.devices) if event else 0)
        if event is None:
            return
        self._rows[event.node_id] = row
        self.serial[row] = serial
        self.is_node[row] = not event.provider
        self.is_ready[row] = state == READY
        if event.provider:
            self.provider_count += 1
            self._providers.append(row)
            self._providers.sort(key=self.serials.__getitem__)
        else:
            self.node_count += 1
        self.matrix.set_capacity(row, capacity)
        self._count_capacity(row, +1)
        self._settle_devices(row)

    def make_devices_room(self, devices: int) -> None:
        """Columns for so many devices, however many nodes have."""
        self._make_room(len(self.ids), 0, devices)

    # -- inside
    # ----------------------------------------------------------------------------------------------------------

    def _take_row(self, event: NodeRegistered) -> int:
        if self.free_rows:
            row = self.free_rows.pop()
        else:
            row = len(self.ids)
            self.ids.append("")
            self.registered.append(None)
            self._attributes.append({})
            for numbers in (self.states, self.deadlines_ms, self.allocations, self.serials):
                numbers.append(0)
        self.ids[row] = event.node_id
        self.states[row] = READY
        self.serials[row] = self.next_serial
        self.next_serial += 1
        self._rows[event.node_id] = row
        if event.provider:
            self.provider_count += 1
            self._providers.append(row)
        else:
            self.node_count += 1
        return row

    def _make_room(self, rows: int, kinds: int, devices: int) -> None:
        self.matrix.make_room(rows, kinds)
        have_rows, have_devices = self.device_used.shape
        new_rows, new_devices = len(self.matrix.score), have_devices
        while new_devices < devices:
            new_devices *= 2
        if (new_rows, new_devices) == (have_rows, have_devices):
            return
        for name in ("device_used", "device_held", "device_free"):
            grown = np.zeros((new_rows, new_devices), np.int64)
            grown[:have_rows, :have_devices] = getattr(self, name)
            setattr(self, name, grown)
        for name, kind in (("is_node", np.bool_), ("is_ready", np.bool_), ("serial", np.int64)):
            grown_row = np.zeros(new_rows, kind)
            grown_row[:have_rows] = getattr(self, name)
            setattr(self, name, grown_row)
        self._constraint_masks.clear()
        self._model_masks.clear()
        self._taint_counts.clear()
        self._domains.clear()

    def _count_capacity(self, row: int, sign: int) -> None:
        """Keep `totals`: the capacity of each kind over all rows, whatever their state; Python ints."""
        for kind, amount in enumerate(self.matrix.capacity[row].tolist()):
            if amount:
                self.totals[kind] += sign * amount

    def _settle_devices(self, row: int) -> None:
        event = self.registered[row]
        count = len(event.devices) if event else 0
        free = self.device_free[row]
        free[:] = -self.device_used[row] - self.device_held[row]
        free[:count] += DEVICE_UNITS

    def _mend_masks(self, row: int) -> None:
        self.version += 1
        self._taint_counts.clear()
        self._domains.clear()
        for constraints, mask in self._constraint_masks.items():
            mask[row] = bool(self.ids[row]) and satisfies(self._attributes[row], constraints)
        for models, model_mask in self._model_masks.items():
            self._mend_models(model_mask, row, models)

    def _mend_models(self, mask: Mask, row: int, models: tuple[str, ...]) -> None:
        event = self.registered[row]
        mask[row] = False
        for device, model in enumerate(event.devices if event else ()):
            mask[row, device] = not models or model in models


def tolerates(tolerations: Sequence[Toleration], taint: tuple[str, str]) -> bool:
    """Whether one of them is of the taint's key, or of any, and of its value, or of any."""
    key, value = taint
    return any(
        each.key in ("", key) and (not each.values or value in each.values) for each in tolerations
    )


def satisfies(attributes: dict[str, str], constraints: Sequence[Constraint]) -> bool:
    """Whether all constraints hold. GT and LT are false where the attribute is absent or no integer."""
    return all(_holds(attributes.get(constraint.key), constraint) for constraint in constraints)


def _holds(value: str | None, constraint: Constraint) -> bool:
    operator = constraint.operator
    if operator == IN:
        return value in constraint.values
    if operator == NOT_IN:
        return value not in constraint.values
    if operator == EXISTS:
        return value is not None
    number = integer_of(value)
    if number is None:
        return False
    bound = integer_of(constraint.values[0])
    assert bound is not None, "Gt and Lt are checked to have an integer where they enter"
    if operator == GT:
        return number > bound
    assert operator == LT, "operators are checked where they enter"
    return number < bound


def integer_of(text: str | None) -> int | None:
    """A decimal integer of at most 18 digits, or None."""
    if text is None:
        return None
    digits = text[1:] if text[:1] == "-" else text
    if not 1 <= len(digits) <= 18 or not digits.isascii() or not digits.isdigit():
        return None
    return int(text)
