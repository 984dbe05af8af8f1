"""Fragments: GPU capacity of a node that is free, and of no use to what is typically asked for.

After Weng et al., "Beware of Fragmentation" (FGD), USENIX ATC'23, section 3: to a typical demand that the node cannot
hold, all that is free of its devices is a fragment; to one that it can hold, the devices with less free than the demand
takes of one; to one that takes no GPU, all. The node's fragments are the mean over typical demands, by frequency.

Unit: thousandths of a device times 2^20 (the frequencies are 20-bit fractions); a node of 64 devices stays under 2^36.

Results are kept row by row until the row changes (matrix.changed) or the workload does: a shape that is asked for again
costs only the rows that changed since. Cold, one decision costs about a pass of 150 numpy operations over the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.room import Room
from raftalloc.core.quantities import DEVICE_UNITS, GPU, NODE, scope_of
from raftalloc.core.state import State

FREQUENCY_BITS = 20
FEW_ROWS = 256
"""Up to here the number of numpy operations counts, beyond it their length."""
_KEPT_MAX = 1 << 22
"""Numbers kept for shapes that were asked for: 32 MB a state at most."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """A typical demand: its frequency, what it takes of each of how many devices, and of other columns."""

    frequency: int
    units: int
    devices: int
    parts: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Kept:
    """By row: fragments with a member there, what is free of the device that it would take, and as of which change."""

    after: Column
    level: Column
    seen: Column


class Fragments:
    """The fragments of one state's nodes under one workload."""

    def __init__(self, state: State) -> None:
        """Bring the workload into columns."""
        self.key = key_of(state)
        self.columns = np.zeros(0, np.int64)
        self.without_gpu = 0
        self.shapes: list[_Shape] = []
        self._compile(state)
        rows = len(state.fleet.is_node)
        self.now = np.zeros(rows, np.int64)
        self.now_seen = np.full(rows, -1, np.int64)
        self.kept: dict[object, _Kept] = {}

    def _compile(self, state: State) -> None:
        shapes = state.workload.shapes
        total = sum(shape.count for shape in shapes)
        place: dict[int, int] = {}
        for shape in shapes:
            frequency = (shape.count << FREQUENCY_BITS) // total
            demand = dict(shape.demand)
            gpu = demand.pop(GPU, 0)
            if not gpu:
                self.without_gpu += frequency
                continue
            on_node = [(state.kinds.column(k), a) for k, a in demand.items() if scope_of(k) == NODE]
            local = tuple((place.setdefault(column, len(place)), a) for column, a in on_node)
            units, devices = (gpu, 1) if gpu < DEVICE_UNITS else (DEVICE_UNITS, gpu // DEVICE_UNITS)
            self.shapes.append(_Shape(frequency, units, devices, local))
        self.columns = np.array(list(place), np.int64)
        self._by_shape = _by_shape(self.shapes, len(place))

    def amount(self, free: Column, devices: Column) -> Column:
        """(rows,) fragments of rows with free (rows, len(self.columns)) and devices (rows, devices) units free."""
        if len(devices) <= FEW_ROWS:
            return self.amount_of_few(free, devices)
        return self.amount_of_many(free, devices)

    def amount_of_few(self, free: Column, devices: Column) -> Column:
        """All shapes at once: a few numpy operations, on arrays of (rows, shapes, devices)."""
        frequency, units, number, asked = self._by_shape
        devices = np.maximum(devices, 0)
        total = devices.sum(axis=1)
        large = devices[:, None, :] >= units[:, None]
        holds = large.sum(axis=2) >= number
        holds &= (free[:, None, :] >= asked).all(axis=2)
        below = np.where(large, 0, devices[:, None, :]).sum(axis=2)
        useless = np.where(holds, below, total[:, None])
        few: Column = total * self.without_gpu + (useless * frequency).sum(axis=1)
        return few

    def amount_of_many(self, free: Column, devices: Column) -> Column:
        """Shape by shape, on arrays of (rows,)."""
        devices = np.maximum(devices, 0)
        total = devices.sum(axis=1)
        fragments: Column = total * self.without_gpu
        levels: dict[int, tuple[Column, Column]] = {}
        for shape in self.shapes:
            if shape.units not in levels:
                large = devices >= shape.units
                levels[shape.units] = large.sum(axis=1), np.where(large, 0, devices).sum(axis=1)
            count, below = levels[shape.units]
            holds = count >= shape.devices
            for column, asked in shape.parts:
                holds &= free[:, column] >= asked
            fragments += shape.frequency * np.where(holds, below, total)
        return fragments

    def keep(self, ask: Ask) -> _Kept:
        """What is kept for demands of this shape."""
        key = (ask.node_parts, ask.gpu, ask.models)
        kept = self.kept.get(key)
        if kept is None:
            rows = len(self.now)
            if (len(self.kept) + 1) * rows * 3 > _KEPT_MAX:
                self.kept.clear()
            zeros = np.zeros(rows, np.int64)
            kept = self.kept[key] = _Kept(zeros, zeros.copy(), np.full(rows, -1, np.int64))
        return kept


def _by_shape(shapes: list[_Shape], columns: int) -> tuple[Column, Column, Column, Column]:
    """Frequencies, units and devices (shapes,), and what is asked of other columns (shapes, columns)."""
    asked = np.full((len(shapes), columns), np.iinfo(np.int64).min, np.int64)
    for row, shape in enumerate(shapes):
        for column, amount in shape.parts:
            asked[row, column] = amount
    numbers = [(shape.frequency, shape.units, shape.devices) for shape in shapes]
    frequency, units, devices = np.array(numbers, np.int64).reshape(-1, 3).T
    return frequency, units, devices, asked


def key_of(state: State) -> tuple[int, ...]:
    """What the columns of Fragments depend on."""
    return state.workload.epoch, len(state.kinds), *state.fleet.device_free.shape


def fragments_of(state: State) -> Fragments:
    """Those of the state as it is."""
    fragments = state.fragments
    if not isinstance(fragments, Fragments) or fragments.key != key_of(state):
        fragments = state.fragments = Fragments(state)
    return fragments


def fragments_more(state: State, room: Room, ask: Ask, rows: Column) -> tuple[Column, Column]:
    """(rows,), (rows,): the fragments with a member there less those now; what is free of the device it would take.

    rows: nodes that could take it. The second is 0 where no share of a device is asked for.
    """
    fragments, changed = fragments_of(state), state.fleet.matrix.changed
    kept = fragments.keep(ask)
    stale = rows[kept.seen[rows] < changed[rows]]
    if len(stale):
        after, kept.level[stale] = _after(state, fragments, Room(state), ask, stale)
        kept.after[stale] = after
        kept.seen[stale] = changed[stale]
    stale = rows[fragments.now_seen[rows] < changed[rows]]
    if len(stale):
        fragments.now[stale] = _now(fragments, Room(state), stale)
        fragments.now_seen[stale] = changed[stale]
    more, level = kept.after[rows] - fragments.now[rows], kept.level[rows]
    own = _differs(state, room, rows)
    if own is not None and own.any():
        # What a plan has changed is as the plan has it, and nobody else's.
        theirs = rows[own]
        after, level[own] = _after(state, fragments, room, ask, theirs)
        more[own] = after - _now(fragments, room, theirs)
    return more, level


def _differs(state: State, room: Room, rows: Column) -> Mask | None:
    """(rows,): where a plan's room is another than the state's; None: it is the state's own."""
    fleet = state.fleet
    if room.free is fleet.matrix.free and room.device_free is fleet.device_free:
        return None
    differs: Mask = (room.free[rows] != fleet.matrix.free[rows]).any(axis=1)
    differs |= (room.device_free[rows] != fleet.device_free[rows]).any(axis=1)
    return differs


def least_fragmenting(
    state: State, room: Room, row: int, ask: Ask, device_free: NDArray[np.int64]
) -> int:
    """The device of a node where a share leaves the least fragments, or -1; ties: the least free, then the lowest."""
    models = state.fleet.model_mask(ask.models)[row]
    fits = [d for d in np.flatnonzero(models).tolist() if device_free[d] >= ask.gpu]
    if not fits:
        return -1
    fragments = fragments_of(state)
    free = np.repeat(_free_after(fragments, room, ask, np.array([row])), len(fits), axis=0)
    devices = np.repeat(room.device_free[row : row + 1], len(fits), axis=0)
    devices[np.arange(len(fits)), fits] -= ask.gpu
    left = fragments.amount(free, devices).tolist()
    best = min(range(len(fits)), key=lambda at: (left[at], int(room.device_free[row, fits[at]])))
    return fits[best]


def _now(fragments: Fragments, room: Room, rows: Column) -> Column:
    return fragments.amount(room.free[np.ix_(rows, fragments.columns)], room.device_free[rows])


def _free_after(fragments: Fragments, room: Room, ask: Ask, rows: Column) -> Column:
    asked = dict(ask.node_parts)
    free = room.free[np.ix_(rows, fragments.columns)]
    return free - np.array(
        [asked.get(column, 0) for column in fragments.columns.tolist()], np.int64
    )


def _after(
    state: State, fragments: Fragments, room: Room, ask: Ask, rows: Column
) -> tuple[Column, Column]:
    free, devices = _free_after(fragments, room, ask, rows), room.device_free[rows]
    none = np.zeros(len(rows), np.int64)
    if not ask.gpu:
        return fragments.amount(free, devices), none
    models = state.fleet.model_mask(ask.models)[rows]
    if ask.gpu < DEVICE_UNITS:
        return _after_share(fragments, free, devices, models, ask.gpu)
    whole = models & (devices == DEVICE_UNITS)
    taken = whole & (np.cumsum(whole, axis=1) <= ask.gpu // DEVICE_UNITS)
    return fragments.amount(free, np.where(taken, 0, devices)), none


def _after_share(
    fragments: Fragments, free: Column, devices: Column, models: Mask, gpu: int
) -> tuple[Column, Column]:
    """The least over the devices it fits; equally free ones are tried once."""
    fits = models & (devices >= gpu)
    best = np.full(len(devices), np.iinfo(np.int64).max, np.int64)
    for device in range(devices.shape[1]):
        tried = fits[:, device].copy()
        for earlier in range(device):
            tried &= ~(fits[:, earlier] & (devices[:, earlier] == devices[:, device]))
        at = np.flatnonzero(tried)
        if not len(at):
            continue
        after = devices[at]
        after[:, device] -= gpu
        # The level lies in the low ten bits: at most 1000.
        found = (fragments.amount(free[at], after) << 10) | devices[at, device]
        best[at] = np.minimum(best[at], found)
    return best >> 10, best & 1023
