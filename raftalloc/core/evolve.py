"""The only writer of the state: what each event changes.

`evolve` never decides: whatever it needs to know is in the event. It asserts what the event promises, because
an event that does not fit the state is a bug or a damaged log, and either must stop the replica rather than
spread.
"""

from __future__ import annotations

from typing import assert_never

from raftalloc.core import deadlines
from raftalloc.core.claims import ahead, order_changed, promise_dropped
from raftalloc.core.events import (
    Aged,
    Answered,
    Ended,
    EntrySkipped,
    Event,
    Granted,
    KindDefined,
    LeaderTook,
    NodeRegistered,
    NodeRemoved,
    NodeStateChanged,
    Preempting,
    Promised,
    PromiseDropped,
    Queued,
    QueueSet,
    QuotaDeleted,
    QuotaSet,
    Refused,
    Renewed,
    ReservationEnded,
    ReservationMade,
    ReservationMoved,
    ReservationOpened,
    Resized,
    RulesSwitched,
    SessionOpened,
    SessionsExpired,
    Sought,
    Spared,
    WeightsSet,
    Withdrawn,
    WorkloadSet,
)
from raftalloc.core.formats import text_of_nested
from raftalloc.core.labels import labels_of_text
from raftalloc.core.leases import device_set
from raftalloc.core.queues import Waiting
from raftalloc.core.quotas import ROOT
from raftalloc.core.records import EndedRecord
from raftalloc.core.reservations import Reservation
from raftalloc.core.sessions import GAP_MS_MIN
from raftalloc.core.state import RULES_VERSION, NewerRules, State


def begin(state: State, index: int, at_ms: int) -> None:
    """An entry begins: its index, and its time, which never goes back."""
    assert index > state.index, f"index {index} after {state.index}"
    state.index = index
    state.now_ms = max(state.now_ms, at_ms)


def evolve(state: State, event: Event) -> None:
    """Change the state by one event."""
    match event:
        case Granted():
            _granted(state, event)
        case Ended():
            _ended(state, event)
        case Renewed():
            _renewed(state, event)
        case Resized():
            _resized(state, event)
        case Queued():
            _queued(state, event)
        case Withdrawn():
            _withdrawn(state, event)
        case Answered():
            state.sessions.record(event, state.index, state.now_ms)
        case SessionOpened():
            state.sessions.open(event.session, event.principal, state.now_ms)
            state.next_id = max(state.next_id, event.session + 1)
        case SessionsExpired():
            state.sessions.expire(event.before_ms)
        case Refused() | EntrySkipped():
            """It happened, and changed nothing."""
        case ReservationMade() | ReservationMoved() | ReservationOpened() | ReservationEnded():
            _reservation(state, event)
        case LeaderTook():
            _leader_took(state, event)
        case RulesSwitched():
            if event.version > RULES_VERSION:
                raise NewerRules(event.version)
            state.rules_version = event.version
        case QueueSet():
            _queue_set(state, event)
        case Aged():
            state.queue.age(event.request_id, event.level)
            state.watch_first(event.request_id)
            order_changed(state)
        case Promised() | PromiseDropped() | Sought() | Preempting() | Spared():
            ahead(state, event)
        case WorkloadSet():
            state.workload.set(event)
        case _:
            _fleet_or_quota(state, event)


def _fleet_or_quota(
    state: State,
    event: KindDefined
    | WeightsSet
    | NodeRegistered
    | NodeStateChanged
    | NodeRemoved
    | QuotaSet
    | QuotaDeleted,
) -> None:
    match event:
        case KindDefined():
            state.kinds.define(event.kind)
            state.fleet.matrix.make_room(0, len(state.kinds))
            state.quotas.make_room(0, len(state.kinds))
            state.queue.lines.make_room(len(state.kinds))
            state.forget_profiles()  # they are as wide as the matrix was
        case WeightsSet():
            state.fleet.matrix.set_weights(state.kinds.columns(event.weights))
        case NodeRegistered():
            capacity = state.kinds.columns(event.capacity)
            row = state.fleet.register(event, capacity, len(state.kinds))
            state.forget_profiles()  # it may have more devices than any node before
            _forget_fleet(state, row)
        case NodeStateChanged():
            row = state.fleet.row(event.node_id)
            state.fleet.set_state(row, event.state, event.deadline_ms)
            state.deadlines.push(event.deadline_ms, deadlines.DRAIN, event.node_id)
            _forget_fleet(state, row)
        case NodeRemoved():
            row = state.fleet.row(event.node_id)
            _forget_fleet(state, row)
            state.fleet.remove(row)
        case QuotaSet():
            _quota_set(state, event)
        case QuotaDeleted():
            # What waits under this name is charged to `default` from now on.
            state.quotas.remove(state.quotas.row(event.name))
            state.shares.clear()
            order_changed(state)
            state.freed.everything = True
        case _:
            assert_never(event)


def _forget_fleet(state: State, row: int) -> None:
    """What was derived from the fleet as it was; and a row that is ready may have more room than before."""
    state.forget_profile(row)
    state.possible.clear()
    state.shares.clear()
    state.hopeless.clear()
    order_changed(state)
    if state.fleet.is_ready[row]:
        state.freed.rows[row] = None


# -- allocations -----------------------------------------------------------------------------------


def _granted(state: State, event: Granted) -> None:
    assert event.token == state.token + 1, "fencing tokens rise by one"
    state.token = event.token
    state.next_id = max(state.next_id, event.allocation_id + 1)
    _fill(state, event)
    row = state.leases.row(event.allocation_id)
    state.leases.link(row)
    state.labelled.add(row, event.labels)
    if state.queue.lines.followers:
        state.freed.granted = True
    _charge(state, row, +1)
    state.deadlines.push(state.leases.deadline_ms(row), deadlines.ALLOCATION, event.allocation_id)
    order_changed(state, event.agent_type)
    waiting = state.queue.requests.get(event.request_id)
    if waiting is not None:
        promise_dropped(state, event.request_id)
        waiting.started += 1
        if not waiting.left:
            _leave_queue(state, event.request_id)


def _fill(state: State, event: Granted) -> None:
    leases, names, fleet = state.leases, state.names, state.fleet
    row = leases.add(event.allocation_id)
    _fill_demand(state, row, event)
    columns = leases.table.columns
    for column, value in (
        ("request_id", event.request_id),
        ("agent", names.acquire(event.agent_id)),
        ("agent_type", names.acquire(event.agent_type)),
        ("workflow", names.acquire(event.workflow_id)),
        ("principal", names.acquire(event.principal)),
        ("quota", _quota_row(state, event.agent_type, event.reservation_id)),
        ("priority", event.priority),
        ("node", fleet.row(event.node_id) if event.node_id else -1),
        ("token", event.token),
        ("granted_ms", state.now_ms),
        ("expires_ms", event.expires_ms),
        ("ends_ms", event.ends_ms),
        ("lease_ttl_ms", event.lease_ttl_ms),
        ("reservation_id", event.reservation_id),
        ("index", state.index),
        ("protected", event.protected),
        ("labels", names.acquire(text_of_nested(event.labels)) if event.labels else 0),
    ):
        columns[column][row] = value


def _fill_demand(state: State, row: int, event: Granted | Resized) -> None:
    """What it holds, and from whom."""
    columns = state.leases.table.columns
    for name in ("kinds", "amounts", "suppliers"):
        columns[name][row] = 0
    for place, ((kind, amount), supplier) in enumerate(
        zip(event.demand, event.suppliers, strict=True)
    ):
        columns["kinds"][row, place] = state.kinds.column(kind)
        columns["amounts"][row, place] = amount
        columns["suppliers"][row, place] = state.fleet.row(supplier)
    columns["kind_count"][row] = len(event.demand)
    columns["devices"][row] = device_set(int(device) for device, _ in event.devices)
    columns["device_amount"][row] = event.devices[0][1] if event.devices else 0


def _quota_row(state: State, agent_type: str, reservation_id: int) -> int:
    """What is drawn from a reservation is charged where the reservation was."""
    if reservation_id:
        agent_type = state.reservations.by_id[reservation_id].made.agent_type
    return state.quotas.row(agent_type)


def _charge(state: State, row: int, sign: int) -> None:
    """Put an allocation on its rows, devices and quotas, or take it off. A draw moves between held and used."""
    leases = state.leases
    reservation = state.reservations.by_id.get(leases.get(row, "reservation_id"))
    from_held = -sign if reservation is not None else 0
    quota = leases.get(row, "quota")
    rows: dict[int, None] = {}
    for kind, amount, supplier in leases.parts(row):
        state.fleet.matrix.change(supplier, kind, used=sign * amount, held=from_held * amount)
        state.quotas.change(quota, kind, used=sign * amount, held=from_held * amount)
        rows[supplier] = None
        if reservation is not None:
            reservation.remaining[state.kinds.names[kind]] -= sign * amount
    _charge_devices(state, row, sign, reservation)
    state.quotas.count_allocation(quota, sign)
    _forget_shares(state, quota)
    for supplier in rows:
        state.fleet.allocations[supplier] += sign
        state.forget_profile(supplier)
        if sign < 0:
            state.freed.rows[supplier] = None
    if sign < 0:
        state.freed.quotas.update(dict.fromkeys(state.quotas.chain(quota)))


def _forget_shares(state: State, quota: int) -> None:
    for above in state.quotas.chain(quota):
        state.shares.pop(above, None)


def _charge_devices(state: State, row: int, sign: int, reservation: Reservation | None) -> None:
    node, amount = state.leases.get(row, "node"), state.leases.get(row, "device_amount")
    for device in state.leases.devices(row):
        if reservation is None:
            state.fleet.change_device(node, device, used=sign * amount)
        else:
            state.fleet.change_device(node, device, used=sign * amount, held=-sign * amount)
            reservation.devices[device] -= sign * amount


def _ended(state: State, event: Ended) -> None:
    row = state.leases.row(event.allocation_id)
    assert row >= 0, f"allocation {event.allocation_id} ended twice"
    if not state.leases.known_end_ms(row):
        state.hopeless.clear()
    order_changed(state)
    _charge(state, row, -1)
    labels = state.leases.get(row, "labels")
    if labels:
        state.labelled.remove(row, labels_of_text(state.names.text(labels)))
        state.names.release(labels)
    for column in ("agent", "agent_type", "workflow", "principal"):
        state.names.release(state.leases.get(row, column))
    state.leases.remove(row, event.reason, state.now_ms)


def _resized(state: State, event: Resized) -> None:
    leases = state.leases
    row = leases.row(event.allocation_id)
    if not leases.get(row, "ends_ms"):
        state.hopeless.clear()
    order_changed(state)
    _charge(state, row, -1)
    leases.unlink(row)
    _fill_demand(state, row, event)
    leases.link(row)
    _charge(state, row, +1)


def _renewed(state: State, event: Renewed) -> None:
    row = state.leases.row(event.allocation_id)
    if state.leases.get(row, "ends_ms") != event.ends_ms:
        for _, _, supplier in state.leases.parts(row):
            state.forget_profile(supplier)
    state.leases.set(row, "expires_ms", event.expires_ms)
    state.leases.set(row, "ends_ms", event.ends_ms)
    state.deadlines.push(state.leases.deadline_ms(row), deadlines.ALLOCATION, event.allocation_id)


def _leader_took(state: State, event: LeaderTook) -> None:
    """Every lease gets the gap back, but none past its end; so do sessions and keys, where it matters."""
    if event.gap_ms >= GAP_MS_MIN:
        state.sessions.give_back(event.gap_ms, state.now_ms)
    columns = state.leases.table.columns
    for allocation_id, row in state.leases.rows.items():
        expires, ends = int(columns["expires_ms"][row]), int(columns["ends_ms"][row])
        if not expires or not event.gap_ms:
            continue
        later = expires + event.gap_ms
        columns["expires_ms"][row] = min(later, ends) if ends else later
        state.deadlines.push(state.leases.deadline_ms(row), deadlines.ALLOCATION, allocation_id)


# -- waiting ---------------------------------------------------------------------------------------


def _queued(state: State, event: Queued) -> None:
    state.next_id = max(state.next_id, event.request_id + event.count)
    node_needs, provider_needs = state.needs_of(event.demand)
    waiting = Waiting(event, event.started, state.now_ms, state.index, seek_ms=state.now_ms)
    if state.queue.add(waiting, node_needs, provider_needs):
        state.watch_first(event.request_id)
    if state.reservations.any_booked() or state.promises.by_id:
        # It may run shorter than the others of its line, and be blocked by something else (`turns`).
        state.queue.lines.forget(event)
    state.deadlines.push(event.deadline_ms, deadlines.WAIT, event.request_id)


def _withdrawn(state: State, event: Withdrawn) -> None:
    started = state.queue.requests[event.request_id].started
    _leave_queue(state, event.request_id)
    if (
        not started
    ):  # else the id is that of its first member, which ends or ended for a reason of its own
        state.leases.remember(EndedRecord(event.request_id, event.reason, state.now_ms))


def _leave_queue(state: State, request_id: int) -> None:
    promise_dropped(state, request_id)
    state.hopeless.pop(request_id, None)
    now_first = state.queue.remove(request_id)
    if now_first:
        state.watch_first(now_first)


def _queue_set(state: State, event: QueueSet) -> None:
    state.queue.settings, state.queue.was_set = event, True
    for line in state.queue.lines.by_shape.values():
        state.watch_first(line.first)
    order_changed(state)


# -- quotas ----------------------------------------------------------------------------------------


def _quota_set(state: State, event: QuotaSet) -> None:
    quotas = state.quotas
    parent = quotas.row(event.parent) if event.name != ROOT else -1
    row = quotas.row(event.name)
    if row < 0:
        row = quotas.add(event.name, parent, implicit=event.implicit)
    elif parent != quotas.parents[row]:
        # Other ancestors may refuse, and allow, what the old ones did.
        state.freed.everything = True
    if parent >= 0:
        quotas.set(row, parent, state.kinds.columns(event.limits), implicit=event.implicit)
    else:
        quotas.set_limits(row, state.kinds.columns(event.limits))
    quotas.weights[row] = event.weight
    state.shares.clear()
    order_changed(state)
    state.freed.quotas[row] = None


# -- reservations ----------------------------------------------------------------------------------


def _reservation(
    state: State,
    event: ReservationMade | ReservationMoved | ReservationOpened | ReservationEnded,
) -> None:
    reservations = state.reservations
    match event:
        case ReservationMade():
            reservations.add(event, state.index)
            ident = event.reservation_id
            state.next_id = max(state.next_id, ident + 1)
            state.deadlines.push(event.start_ms, deadlines.RESERVATION_START, ident)
            state.deadlines.push(event.end_ms, deadlines.RESERVATION_END, ident)
        case ReservationMoved():
            _forget_profiles(state, reservations.by_id[event.reservation_id])
            _free_window(state, reservations.by_id[event.reservation_id])
            reservations.move(event)
            state.freed.everything = True
        case ReservationOpened():
            _hold(state, reservations.open(event.reservation_id), +1)
        case ReservationEnded():
            reservation = reservations.by_id[event.reservation_id]
            if reservation.open:
                _hold(state, reservation, -1)
            reservations.remove(event.reservation_id)
            _forget_profiles(state, reservation)
            _free_window(state, reservation)
            state.leases.remember(EndedRecord(event.reservation_id, event.reason, state.now_ms))
            return
        case _:
            assert_never(event)
    _forget_profiles(state, reservations.by_id[event.reservation_id])


def _hold(state: State, reservation: Reservation, sign: int) -> None:
    """Hold what remains of an open window, or let it go."""
    made = reservation.made
    quota = state.quotas.row(made.agent_type)
    for (kind, _), supplier in zip(made.demand, made.suppliers, strict=True):
        amount = sign * reservation.remaining[kind]
        column = state.kinds.column(kind)
        state.fleet.matrix.change(state.fleet.row(supplier), column, held=amount)
        state.quotas.change(quota, column, held=amount)
    _forget_shares(state, quota)
    order_changed(state)
    for device, units in reservation.devices.items():
        state.fleet.change_device(state.fleet.row(made.node_id), device, held=sign * units)


def _free_window(state: State, reservation: Reservation) -> None:
    """Its rows and quotas have more room, now or in the time that was booked."""
    made = reservation.made
    for supplier in made.suppliers:
        state.freed.rows[state.fleet.row(supplier)] = None
    state.freed.quotas.update(dict.fromkeys(state.quotas.chain(state.quotas.row(made.agent_type))))


def _forget_profiles(state: State, reservation: Reservation) -> None:
    for supplier in reservation.made.suppliers:
        state.forget_profile(state.fleet.row(supplier))
