"""The whole state <-> bytes.

Written down is what cannot be derived; use, headroom, scores, lines and deadlines are computed again when it is
read, so a snapshot cannot disagree with itself. Orders that decisions depend on (rows, free lists, ages) are
written as they are: state -> bytes -> state -> bytes gives the same bytes, and the digest of the bytes is the
digest of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from raftalloc.core.commands import WEIGHT_ONE
from raftalloc.core.events import (
    Answered,
    NodeRegistered,
    Promised,
    Queued,
    QueueSet,
    ReservationMade,
    WorkloadSet,
)
from raftalloc.core.kinds import Kinds
from raftalloc.core.labels import labels_of_text
from raftalloc.core.layout import (
    DAMAGE,
    FORMAT,
    Layout,
    Strings,
    check_list,
    check_types,
    pack,
    unpack,
)
from raftalloc.core.leases import devices_of
from raftalloc.core.names import Names
from raftalloc.core.quantities import DEVICES_PER_NODE_MAX, KINDS_MAX, is_kind
from raftalloc.core.queues import Waiting
from raftalloc.core.records import EndedRecord
from raftalloc.core.reservations import Reservation
from raftalloc.core.sessions import Session
from raftalloc.core.state import RULES_VERSION, State


def encode_state(state: State) -> bytes:
    """The state as bytes; equal states give equal bytes. O(state)."""
    strings = Strings()
    body = {
        "counters": [state.index, state.now_ms, state.rules_version, state.token, state.next_id],
        "kinds": state.kinds.names,
        "fleet": _pack_fleet(state, strings),
        "quotas": _pack_quotas(state),
        "names": list(state.names.parts()),
        "leases": list(state.leases.table.parts()),
        "ended": _pack_records(EndedRecord, list(state.leases.ended.values()), strings),
        "queue": _pack_queue(state, strings),
        "reservations": _pack_reservations(state, strings),
        "sessions": _pack_sessions(state, strings),
    }
    if state.workload.shapes:
        workload = state.workload
        event = WorkloadSet(workload.live, workload.shapes, workload.declared)
        body["workload"] = _pack_records(WorkloadSet, [event], strings)
    return pack([FORMAT, strings.texts, body])


def decode_state(data: bytes) -> State:
    """The inverse. Raises ValueError for garbage, a newer format or rules that this build does not know.

    What is damaged beyond reading is refused; bytes that read well but lie are for checksums to find, and for
    `invariants.check`.
    """
    _, strings, body = unpack(data, 3, "state snapshot")
    try:
        check_list("texts", strings, str)
        return _decode(strings, body)
    except (AssertionError, *DAMAGE) as error:
        raise ValueError(f"a damaged state snapshot: {error!r}") from error


def _decode(strings: list[str], body: dict[str, Any]) -> State:
    state = State()
    check_list("counters", body["counters"], int)
    state.index, state.now_ms, state.rules_version, state.token, state.next_id = body["counters"]
    if state.rules_version > RULES_VERSION:
        raise ValueError(
            f"the state decides by rules {state.rules_version}; this build knows {RULES_VERSION}"
        )
    check_list("kinds", body["kinds"], str)
    if not all(map(is_kind, body["kinds"])) or len(body["kinds"]) > KINDS_MAX:
        raise ValueError(f"a damaged state snapshot: kinds {body['kinds']!r:.80}")
    state.kinds = Kinds(body["kinds"])
    _unpack_fleet(state, body["fleet"], strings)
    _unpack_quotas(state, body["quotas"])
    state.names = Names(*body["names"])
    state.leases.table.restore(*body["leases"])
    state.leases.relink()
    for record in _unpack_records(EndedRecord, body["ended"], strings):
        state.leases.ended[record.allocation_id] = record
    _unpack_queue(state, body["queue"], strings)
    _unpack_reservations(state, body["reservations"], strings)
    _unpack_sessions(state, body["sessions"], strings)
    if "workload" in body:
        for event in _unpack_records(WorkloadSet, body["workload"], strings):
            state.workload.set(event)
    _derive(state)
    return state


def content_digest(state: State) -> str:
    """64 hexadecimal digits over everything the state holds. O(state)."""
    return blake2b(encode_state(state), digest_size=32).hexdigest()


def _pack_records(record_type: type[Any], records: Sequence[Any], strings: Strings) -> list[Any]:
    return [len(records), *Layout(record_type).pack(records, strings)]


def _unpack_records(
    record_type: type[Any], packed: Sequence[Any], strings: Sequence[str]
) -> list[Any]:
    return Layout(record_type).unpack(packed[1:], strings, packed[0])


# -- fleet and quotas ------------------------------------------------------------------------------


def _pack_fleet(state: State, strings: Strings) -> list[Any]:
    fleet = state.fleet
    used = [event for event in fleet.registered if event is not None]
    return [
        _pack_records(NodeRegistered, used, strings),
        [event is not None for event in fleet.registered],
        fleet.states,
        fleet.deadlines_ms,
        fleet.serials,
        fleet.free_rows,
        fleet.next_serial,
        fleet.matrix.weights[: len(state.kinds)].tolist(),
    ]


def _unpack_fleet(state: State, packed: Sequence[Any], strings: Sequence[str]) -> None:
    used, is_used, states, deadlines_ms, serials, free_rows, next_serial, weights = packed
    fleet, kinds = state.fleet, state.kinds
    for numbers in (states, deadlines_ms, serials, free_rows, weights):
        check_list("rows", numbers, int)
    events = iter(_unpack_records(NodeRegistered, used, strings))
    for row, there in enumerate(is_used):
        event = next(events) if there else None
        capacity = kinds.columns(event.capacity) if event else {}
        fleet.restore_row(event, states[row], deadlines_ms[row], serials[row], capacity, len(kinds))
    fleet.free_rows, fleet.next_serial = free_rows, next_serial
    fleet.matrix.make_room(0, len(kinds))
    state.quotas.make_room(0, len(kinds))
    state.queue.lines.make_room(len(kinds))
    fleet.matrix.set_weights(dict(enumerate(weights)))


def _pack_quotas(state: State) -> list[Any]:
    quotas = state.quotas
    rows = len(quotas.names)
    limits = np.ascontiguousarray(quotas.limit[:rows, : len(state.kinds)])
    return [
        quotas.names,
        quotas.parents,
        quotas.implicit,
        quotas.rows_in_order(),
        quotas.free_rows,
        limits.tobytes(),
        quotas.weights,
    ]


def _unpack_quotas(state: State, packed: Sequence[Any]) -> None:
    names, parents, implicit, order, free_rows, limits, *more = packed
    weights = more[0] if more else [WEIGHT_ONE] * len(names)
    check_list("quotas", names, str)
    for numbers in (parents, order, free_rows, weights):
        check_list("quotas", numbers, int)
    _check_tree(parents, order)
    state.quotas.restore(names, parents, implicit, order, free_rows, weights)
    shape = (len(names), len(state.kinds))
    state.quotas.limit[: shape[0], : shape[1]] = np.frombuffer(limits, np.int64).reshape(shape)


def _check_tree(parents: list[int], order: list[int]) -> None:
    """Every quota leads up to root: a circle would never end."""
    for start in order:
        row, steps = start, 0
        while row >= 0:
            row, steps = parents[row], steps + 1
            if steps > len(order):
                raise ValueError("a damaged state snapshot: quotas stand in a circle")


# -- queue, reservations, sessions -----------------------------------------------------------------


def _pack_queue(state: State, strings: Strings) -> list[Any]:
    waiting = list(state.queue.requests.values())
    return [
        _pack_records(Queued, [one.queued for one in waiting], strings),
        [one.started for one in waiting],
        [one.queued_ms for one in waiting],
        [one.index for one in waiting],
        [one.level for one in waiting],
        _pack_records(QueueSet, [state.queue.settings], strings),
        state.queue.was_set,
        [one.seek_ms for one in waiting],
        _pack_records(Promised, [one.made for one in state.promises.by_id.values()], strings),
        [[name, hour, count] for name, (hour, count) in state.preemptions.items()],
    ]


def _unpack_queue(state: State, packed: Sequence[Any], strings: Sequence[str]) -> None:
    queued = _unpack_records(Queued, packed[0], strings)
    started_of, since, indices, *more = packed[1:]
    zeros = [0] * len(queued)
    levels, settings, was_set, seeks, promises, preemptions = more or (
        zeros,
        [],
        False,
        zeros,
        [],
        [],
    )
    check_list("levels", levels, int)
    check_list("seeks", seeks, int)
    if settings:
        (state.queue.settings,) = _unpack_records(QueueSet, settings, strings)
    state.queue.was_set = was_set
    for one, *rest in zip(queued, started_of, since, indices, levels, seeks, strict=True):
        waiting = Waiting(one, *rest)
        state.queue.add(waiting, *state.needs_of(one.demand))
    for made in _unpack_records(Promised, promises, strings) if promises else ():
        state.promises.make(made)
    state.promises.touch_all()
    state.preemptions = {str(name): (int(hour), int(count)) for name, hour, count in preemptions}


def _pack_reservations(state: State, strings: Strings) -> list[Any]:
    all_of_them = list(state.reservations.by_id.values())
    return [
        _pack_records(ReservationMade, [one.made for one in all_of_them], strings),
        [
            [one.index, one.open, list(one.remaining.items()), list(one.devices.items())]
            for one in all_of_them
        ],
    ]


def _unpack_reservations(state: State, packed: Sequence[Any], strings: Sequence[str]) -> None:
    made = _unpack_records(ReservationMade, packed[0], strings)
    for one, (index, is_open, remaining, devices) in zip(made, packed[1], strict=True):
        reservation: Reservation = state.reservations.add(one, index)
        if is_open:
            state.reservations.open(one.reservation_id)
            reservation.remaining = dict(remaining)
            reservation.devices = dict(devices)


def _pack_sessions(state: State, strings: Strings) -> list[Any]:
    sessions = state.sessions
    outcomes = [
        answered for one in sessions.sessions.values() for answered, _ in one.outcomes.values()
    ]
    outcomes += [answered for answered, _, _ in sessions.keys.values()]
    return [
        [
            [
                s.session,
                s.principal,
                s.used_ms,
                s.floor,
                [index for _, index in s.outcomes.values()],
            ]
            for s in sessions.sessions.values()
        ],
        [[index, at_ms] for _, index, at_ms in sessions.keys.values()],
        list(sessions.tombstones.items()),
        _pack_records(Answered, outcomes, strings),
    ]


def _unpack_sessions(state: State, packed: Sequence[Any], strings: Sequence[str]) -> None:
    opened, keys, tombstones, records = packed
    outcomes = iter(_unpack_records(Answered, records, strings))
    for ident, principal, used_ms, floor, indices in opened:
        check_types("session", (ident, int), (principal, str), (used_ms, int), (floor, int))
        session = Session(ident, principal, used_ms, floor)
        for index in indices:
            answered = next(outcomes)
            session.outcomes[answered.sequence] = (answered, index)
        state.sessions.sessions[ident] = session
    for index, at_ms in keys:
        answered = next(outcomes)
        state.sessions.keys[answered.key] = (answered, index, at_ms)
    for key, at_ms in tombstones:
        state.sessions.tombstones[key] = at_ms


# -- what follows from the rest --------------------------------------------------------------------


def _derive(state: State) -> None:
    """Use, headroom and counts, from what is live and what is held; then deadlines."""
    leases, fleet, quotas = state.leases, state.fleet, state.quotas
    fleet.make_devices_room(_devices_in_use(state))
    for row in leases.rows.values():
        quota = leases.get(row, "quota")
        quotas.count_allocation(quota, +1)
        for kind, amount, supplier in leases.parts(row):
            fleet.matrix.used[supplier, kind] += amount
            quotas.change(quota, kind, used=amount)
        for supplier in {s: None for _, _, s in leases.parts(row)}:
            fleet.allocations[supplier] += 1
        labels = leases.get(row, "labels")
        if labels:
            state.labelled.add(row, labels_of_text(state.names.text(labels)))
        for device in leases.devices(row):
            units = leases.get(row, "device_amount")
            fleet.change_device(leases.get(row, "node"), device, used=units)
    for reservation in state.reservations.by_id.values():
        if reservation.open:
            _hold(state, reservation)
    fleet.matrix.settle_all()
    state.rebuild_deadlines()


def _devices_in_use(state: State) -> int:
    """One more than the highest device number in use or promised: its node may have fewer devices by now."""
    in_use = [
        devices_of(bits)[-1] for bits in state.leases.table.columns["devices"].tolist() if bits
    ]
    for reservation in state.reservations.by_id.values():
        in_use += [int(device) for device, _ in reservation.made.devices]
    highest = max(in_use, default=0)
    if not 0 <= highest < DEVICES_PER_NODE_MAX:
        raise ValueError(f"a damaged state snapshot: device {highest}")
    return 1 + highest


def _hold(state: State, reservation: Reservation) -> None:
    made = reservation.made
    quota = state.quotas.row(made.agent_type)
    for (kind, _), supplier in zip(made.demand, made.suppliers, strict=True):
        column, amount = state.kinds.column(kind), reservation.remaining[kind]
        state.fleet.matrix.held[state.fleet.row(supplier), column] += amount
        state.quotas.change(quota, column, held=amount)
    for device, units in reservation.devices.items():
        state.fleet.change_device(state.fleet.row(made.node_id), device, held=units)
