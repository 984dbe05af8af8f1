"""Resizing a live allocation: up or down, in one step or not at all, where it is.

What it has it keeps: its node, its devices as far as they are still asked for, its providers, its fencing token, its
end. What it gives back is free at once; what it wants more of must be free where it is, until its end, beside windows
and promised starts, and within its quotas. Devices that come are of the models it has.
"""

from __future__ import annotations

from raftalloc.core import rejections
from raftalloc.core.commands import FIRST_FIT, Origin, Resize
from raftalloc.core.events import READY, Resized
from raftalloc.core.headroom import booked_peak
from raftalloc.core.matrix import Column
from raftalloc.core.placement import Room, free_until
from raftalloc.core.placement.providers import choose_provider
from raftalloc.core.quantities import DEVICE_UNITS, GPU, NODE, Vector, scope_of
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import DONE, Outcome
from raftalloc.core.refusals import quota_rejection
from raftalloc.core.rejections import NUMBER_MAX, Rejection
from raftalloc.core.requests import Decision, find_held
from raftalloc.core.state import State

Devices = tuple[tuple[int, int], ...]


def resize(state: State, command: Resize, origin: Origin) -> Decision:
    """Another demand for a live allocation, or why it cannot be."""
    row = find_held(state, command.allocation_id, command.token, command.agent_id, origin)
    if isinstance(row, Rejection):
        return row
    blocked = _not_resizable(state, row, command.demand) or _over_quota(state, row, command.demand)
    if blocked is not None:
        return blocked
    room = Room(state)
    room.ahead = tuple(state.promises.by_id.values())
    suppliers = _suppliers(state, room, row, command.demand)
    if isinstance(suppliers, Rejection):
        return suppliers
    devices = _devices(state, room, row, dict(command.demand).get(GPU, 0))
    if devices is None:
        return _no_devices(state, room, row, command.demand)
    if command.demand != _held(state, row):
        yield _resized(state, row, command.demand, suppliers, devices)
    return Outcome(DONE, command.allocation_id, 1, command.token)


def _held(state: State, row: int) -> Vector:
    return tuple((state.kinds.names[kind], amount) for kind, amount, _ in state.leases.parts(row))


def _resized(
    state: State, row: int, demand: Vector, suppliers: tuple[str, ...], devices: Devices
) -> Resized:
    leases, names = state.leases, state.names
    node = leases.get(row, "node")
    return Resized(
        allocation_id=leases.get(row, "id"),
        demand=demand,
        suppliers=suppliers,
        devices=tuple((str(device), units) for device, units in devices),
        agent_id=names.text(leases.get(row, "agent")),
        workflow_id=names.text(leases.get(row, "workflow")),
        node_id=state.fleet.ids[node] if node >= 0 else "",
    )


def _not_resizable(state: State, row: int, demand: Vector) -> Rejection | None:
    """What no room would help: an unknown kind, a draw, a victim, node kinds that come or go altogether."""
    leases, ident = state.leases, str(state.leases.get(row, "id"))
    for kind, _ in demand:
        if state.kinds.column(kind) < 0:
            return Rejection(rejections.UNKNOWN_KIND, f"resources.{kind}", kind)
    if leases.get(row, "reservation_id"):
        return Rejection(rejections.NOT_RESIZABLE, "reservation_id", ident)
    if leases.get(row, "preemptor"):
        return Rejection(rejections.NOT_RESIZABLE, "preempt_ms", ident)
    on_node = any(scope_of(kind) == NODE for kind, _ in demand)
    if on_node != (leases.get(row, "node") >= 0):
        return Rejection(rejections.NOT_RESIZABLE, "resources", ident)
    return None


def _more(state: State, row: int, demand: Vector) -> list[tuple[int, int]]:
    """(column, amount) of what it would hold more of."""
    held = dict(_held(state, row))
    grown = [(kind, amount - held.get(kind, 0)) for kind, amount in demand]
    return [(state.kinds.column(kind), more) for kind, more in grown if more > 0]


def _over_quota(state: State, row: int, demand: Vector) -> Rejection | None:
    """The first quota, from its own up, that does not allow the rest."""
    ends_ms = state.leases.get(row, "ends_ms")
    for quota in state.quotas.chain(state.leases.get(row, "quota")):
        for column, more in _more(state, row, demand):
            if state.quotas.limit[quota, column] == NO_LIMIT:
                continue
            booked = booked_peak(state, quota, column, state.now_ms, ends_ms)
            if state.quotas.free(quota, column) - booked < more:
                used = state.quotas.taken(quota, column) + booked
                return quota_rejection(state, quota, column, more, used)
    return None


def _suppliers(state: State, room: Room, row: int, demand: Vector) -> tuple[str, ...] | Rejection:
    """Who gives each kind: who gives it now, its node, or for a cluster-wide kind that is new the first that can."""
    leases, ids = state.leases, state.fleet.ids
    now = {state.kinds.names[kind]: supplier for kind, _, supplier in leases.parts(row)}
    more, ends_ms = dict(_more(state, row, demand)), leases.get(row, "ends_ms")
    suppliers: list[str] = []
    for kind, _ in demand:
        column = state.kinds.column(kind)
        supplier = now.get(kind, leases.get(row, "node") if scope_of(kind) == NODE else -1)
        wanted = more.get(column, 0)
        if supplier < 0:
            supplier = choose_provider(state, room, column, wanted, FIRST_FIT, ends_ms)
        refused = _no_room(state, room, supplier, column, wanted, ends_ms) if wanted else None
        if refused is not None:
            return refused
        suppliers.append(ids[supplier])
    return tuple(suppliers)


def _no_room(
    state: State, room: Room, supplier: int, column: int, wanted: int, ends_ms: int
) -> Rejection | None:
    """Why a row cannot give so much more until then; None: it can."""
    kind = state.kinds.names[column]
    free = int(free_until(state, room, supplier, ends_ms)[0][column]) if supplier >= 0 else 0
    if supplier >= 0 and state.fleet.states[supplier] != READY:
        return Rejection(rejections.NODE_STATE, "allocation_id", state.fleet.ids[supplier])
    if free >= wanted:
        return None
    most = max(0, free)
    numbers = (
        (f"asked.{kind}", min(wanted, NUMBER_MAX)),
        (f"free_most.{kind}", most),
        (f"free.{kind}", most),
    )
    return Rejection(rejections.NO_CAPACITY, f"resources.{kind}", kind, numbers)


def _devices(state: State, room: Room, row: int, gpu: int) -> Devices | None:
    """Devices that make up a GPU demand, its own first; None: they are not free."""
    if not gpu:
        return ()
    leases, node = state.leases, state.leases.get(row, "node")
    free = free_until(state, room, node, leases.get(row, "ends_ms"))[1].copy()
    own = leases.devices(row)
    for device in own:
        free[device] += leases.get(row, "device_amount")
    candidates = _candidates(state, node, own)
    if gpu < DEVICE_UNITS:
        fits = [d for d in candidates if free[d] >= gpu and (not own or d in own)]
        return ((fits[0], gpu),) if fits else None
    whole = [d for d in candidates if free[d] == DEVICE_UNITS][: gpu // DEVICE_UNITS]
    kept = all(d in whole for d in own[: len(whole)])
    if len(whole) * DEVICE_UNITS != gpu or not kept:
        return None
    return tuple((device, DEVICE_UNITS) for device in sorted(whole))


def _candidates(state: State, node: int, own: list[int]) -> list[int]:
    """Its own devices, then the others of their models; all of the node's where it has none."""
    event = state.fleet.registered[node]
    models = event.devices if event else ()
    of_own = dict.fromkeys(models[device] for device in own if device < len(models))
    others = [d for d, model in enumerate(models) if d not in own and (model in of_own or not own)]
    return [device for device in own if device < len(models)] + others


def _no_devices(state: State, room: Room, row: int, demand: Vector) -> Rejection:
    free: Column = room.device_free[state.leases.get(row, "node")]
    numbers = (("asked.gpu", dict(demand)[GPU]), ("free_most.gpu", int(free.max(initial=0))))
    return Rejection(rejections.NO_CAPACITY, "gpu_models", GPU, numbers)
