"""Filter, rank, choose: where one member of a request goes, if anywhere.

A request asks a NODE for its node-bound kinds, all from one, and PROVIDERS for its cluster-wide kinds, each
from any one. Filters, cheapest first: state, constraints, capacity of each kind, devices, windows booked ahead.
Ranking is by the node's score before placing (matrix.score): least for best_fit, most for worst_fit, none for
first_fit; ties, and first_fit, end at the node registered first. Providers are ranked the same way by what is
free of the kind.

GPUs: an amount below 1000 is a share of one device, best fit: the device with the least free that suffices; else whole
devices, the lowest numbers that are entirely free. Of the models named, or any.

Everything here reads and nothing writes. Cost on the common path: a handful of numpy passes over (rows,), about
1 us each per thousand nodes and kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.commands import BEST_FIT, FIRST_FIT, Constraint
from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column, score_of
from raftalloc.core.profiles import profile_of
from raftalloc.core.quantities import DEVICE_UNITS, GPU, NODE, Vector, scope_of
from raftalloc.core.state import CACHE_MAX, State


@dataclass(frozen=True, slots=True)
class Ask:
    """A demand by columns: what one member asks of a node and of providers. gpu: units, 0 for none."""

    demand: Vector
    node_parts: tuple[tuple[int, int], ...]
    provider_parts: tuple[tuple[int, int], ...]
    gpu: int
    models: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    policy: int

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """(column, amount) of every kind."""
        return self.node_parts + self.provider_parts


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one member goes. node: row or -1. suppliers: row per column. devices: (device number, units)."""

    node: int
    suppliers: dict[int, int]
    devices: tuple[tuple[int, int], ...]


class Room:
    """What is free, as a decision sees it: the state's own arrays, or a copy that a plan may take from."""

    __slots__ = ("device_free", "free", "score", "weights")

    def __init__(self, state: State) -> None:
        """See the state as it is; nothing is copied."""
        self.free = state.fleet.matrix.free
        self.score = state.fleet.matrix.score
        self.weights = state.fleet.matrix.weights
        self.device_free = state.fleet.device_free

    def copy(self) -> Room:
        """A room of one's own, to plan several members in."""
        twin = object.__new__(Room)
        twin.free = self.free.copy(order="F")
        twin.score = self.score.copy()
        twin.weights = self.weights
        twin.device_free = self.device_free.copy()
        return twin

    def take(self, ask: Ask, placement: Placement) -> None:
        """Take a placement out of a copied room."""
        for column, amount in ask.parts:
            self.free[placement.suppliers[column], column] -= amount
        if placement.node >= 0:
            row = placement.node
            self.score[row] = score_of(self.free[row], self.weights)
            for device, amount in placement.devices:
                self.device_free[row, device] -= amount


def compile_ask(
    state: State,
    demand: Vector,
    models: tuple[str, ...],
    constraints: tuple[Constraint, ...],
    policy: int,
) -> Ask | str:
    """A demand by the columns of this state; or the first kind that nothing has registered."""
    key = (demand, models, constraints, policy)
    ask = state.asks.get(key)
    if ask is not None:
        assert isinstance(ask, Ask), "only asks are kept there"
        return ask
    node_parts: list[tuple[int, int]] = []
    provider_parts: list[tuple[int, int]] = []
    for kind, amount in demand:
        column = state.kinds.column(kind)
        if column < 0:
            return kind
        parts = node_parts if scope_of(kind) == NODE else provider_parts
        parts.append((column, amount))
    gpu = dict(demand).get(GPU, 0)
    ask = Ask(demand, tuple(node_parts), tuple(provider_parts), gpu, models, constraints, policy)
    if len(state.asks) >= CACHE_MAX:
        state.asks.clear()
    state.asks[key] = ask
    return ask


def place(state: State, room: Room, ask: Ask, end_ms: int) -> Placement | None:
    """Where a member goes that runs from now to end_ms (0: for ever), or None."""
    suppliers: dict[int, int] = {}
    for column, amount in ask.provider_parts:
        row = _choose_provider(state, room, column, amount, ask.policy, end_ms)
        if row < 0:
            return None
        suppliers[column] = row
    if not ask.node_parts:
        return Placement(-1, suppliers, ())
    mask = feasible(state, room, ask)
    while True:
        row = choose(state, room, mask, ask.policy)
        if row < 0:
            return None
        devices = fit_in_time(state, room, row, ask, end_ms)
        if devices is not None:
            suppliers.update((column, row) for column, _ in ask.node_parts)
            return Placement(row, suppliers, devices)
        mask[row] = False


def feasible(state: State, room: Room, ask: Ask) -> Mask:
    """(rows,): nodes that could take the node-bound part now, windows booked ahead not looked at."""
    fleet = state.fleet
    mask = fleet.is_node & fleet.is_ready
    if ask.constraints:
        mask &= fleet.constraint_mask(ask.constraints)
    for column, amount in ask.node_parts:
        mask &= room.free[:, column] >= amount
    if ask.gpu:
        mask &= fits_devices(room.device_free, fleet.model_mask(ask.models), ask.gpu)
    return mask


def fits_devices(device_free: Column, models: Mask, gpu: int) -> Mask:
    """(rows,): whether a share fits one device, or whole devices are free, among the devices of `models`."""
    fits: Mask
    if gpu < DEVICE_UNITS:
        fits = np.any((device_free >= gpu) & models, axis=1)
    else:
        whole = np.sum((device_free == DEVICE_UNITS) & models, axis=1)
        fits = whole * DEVICE_UNITS >= gpu
    return fits


def choose(state: State, room: Room, mask: Mask, policy: int) -> int:
    """The best of the rows in `mask`, or -1. Ties: the row registered first."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return -1
    if policy != FIRST_FIT:
        score = room.score[rows]
        rows = rows[score == (score.min() if policy == BEST_FIT else score.max())]
    return int(rows[state.fleet.serial[rows].argmin()])


def choose_devices(
    free: NDArray[np.int64],
    models: Mask,
    gpu: int,
) -> tuple[tuple[int, int], ...] | None:
    """Devices of one node: `free` and `models` are (devices,). None: they do not fit."""
    if gpu < DEVICE_UNITS:
        candidates = [d for d in np.flatnonzero(models).tolist() if free[d] >= gpu]
        if not candidates:
            return None
        return ((min(candidates, key=lambda device: (int(free[device]), device)), gpu),)
    whole = np.flatnonzero(models & (free == DEVICE_UNITS)).tolist()
    count = gpu // DEVICE_UNITS
    return (
        tuple((device, DEVICE_UNITS) for device in whole[:count]) if len(whole) >= count else None
    )


def fit_in_time(
    state: State, room: Room, row: int, ask: Ask, end_ms: int
) -> tuple[tuple[int, int], ...] | None:
    """The devices to take on a feasible node, or None where a window booked ahead needs the room."""
    free, device_free = free_until(state, room, row, end_ms)
    if any(free[column] < amount for column, amount in ask.node_parts):
        return None
    if not ask.gpu:
        return ()
    return choose_devices(device_free, state.fleet.model_mask(ask.models)[row], ask.gpu)


def free_until(state: State, room: Room, row: int, end_ms: int) -> tuple[Column, Column]:
    """(kinds,), (devices,): the least that is free of each on one row from now until end_ms (0: for ever)."""
    free, device_free = room.free[row], room.device_free[row]
    if not state.reservations.any_booked():
        return free, device_free
    # What the plan has taken from its own room so far is taken at every later moment too.
    taken = state.fleet.matrix.free[row] - free
    devices_taken = state.fleet.device_free[row] - device_free
    for start_ms, free_then, device_free_then in profile_of(state, row):
        if end_ms and start_ms >= end_ms:
            break
        free = np.minimum(free, free_then - taken)
        device_free = np.minimum(device_free, device_free_then - devices_taken)
    return free, device_free


def _choose_provider(
    state: State, room: Room, column: int, amount: int, policy: int, end_ms: int
) -> int:
    """The provider row for one cluster-wide kind, or -1. Providers are few: a plain loop."""
    best, best_free = -1, 0
    for row in state.fleet.providers():
        if not state.fleet.is_ready[row] or room.free[row, column] < amount:
            continue
        free = int(free_until(state, room, row, end_ms)[0][column])
        if free < amount:
            continue
        better = free < best_free if policy == BEST_FIT else free > best_free
        if best < 0 or (policy != FIRST_FIT and better):
            best, best_free = row, free
    return best


def possible_members(state: State, ask: Ask) -> int:
    """How many members an empty fleet could hold at once, cordoned and lost nodes included.

    Exact: members are equal.
    """
    key = (ask.demand, ask.models, ask.constraints)
    known = state.possible.get(key)
    if known is not None:
        assert isinstance(known, int), "only counts are kept there"
        return known
    fleet = state.fleet
    counts = [
        sum(int(fleet.matrix.capacity[row, column]) // amount for row in fleet.providers())
        for column, amount in ask.provider_parts
    ]
    if ask.node_parts:
        counts.append(_possible_on_nodes(state, ask))
    if len(state.possible) >= CACHE_MAX:
        state.possible.clear()
    state.possible[key] = min(counts)
    return min(counts)


def _possible_on_nodes(state: State, ask: Ask) -> int:
    fleet = state.fleet
    mask = fleet.is_node & fleet.constraint_mask(ask.constraints)
    rows = np.flatnonzero(mask)
    members = np.full(len(rows), 1 << 40, np.int64)
    for column, amount in ask.node_parts:
        members = np.minimum(members, fleet.matrix.capacity[rows, column] // amount)
    if ask.gpu:
        devices = fleet.model_mask(ask.models)[rows].sum(axis=1)
        if ask.gpu < DEVICE_UNITS:
            members = np.minimum(members, devices * (DEVICE_UNITS // ask.gpu))
        else:
            members = np.minimum(members, devices // (ask.gpu // DEVICE_UNITS))
    return sum(members.tolist())
