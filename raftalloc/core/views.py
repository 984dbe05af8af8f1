"""Read-only views of the state, by id or by page. Nothing here changes anything, and no view refers to the state."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from raftalloc.core import fairness, ordering, queues
from raftalloc.core.leases import devices_of
from raftalloc.core.quantities import Vector
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import (
    Allocation,
    EndedRecord,
    KindUse,
    Node,
    QueueRow,
    Quota,
    Reservation,
    Utilization,
    Waiting,
)
from raftalloc.core.state import State


def allocation(state: State, allocation_id: int) -> Allocation | None:
    """A live allocation."""
    row = state.leases.row(allocation_id)
    return _allocation(state, row) if row >= 0 else None


def _allocation(state: State, row: int) -> Allocation:
    leases, names, ids = state.leases, state.names, state.fleet.ids
    parts = leases.parts(row)
    node = leases.get(row, "node")
    units = leases.get(row, "device_amount")
    return Allocation(
        allocation_id=leases.get(row, "id"),
        request_id=leases.get(row, "request_id"),
        agent_id=names.text(leases.get(row, "agent")),
        agent_type=names.text(leases.get(row, "agent_type")),
        workflow_id=names.text(leases.get(row, "workflow")),
        principal=names.text(leases.get(row, "principal")),
        priority=leases.get(row, "priority"),
        demand=tuple((state.kinds.names[kind], amount) for kind, amount, _ in parts),
        node_id=ids[node] if node >= 0 else "",
        suppliers=tuple(ids[supplier] for _, _, supplier in parts),
        devices=tuple((str(d), units) for d in devices_of(leases.get(row, "devices"))),
        token=leases.get(row, "token"),
        granted_ms=leases.get(row, "granted_ms"),
        expires_ms=leases.get(row, "expires_ms"),
        ends_ms=leases.get(row, "ends_ms"),
        lease_ttl_ms=leases.get(row, "lease_ttl_ms"),
        reservation_id=leases.get(row, "reservation_id"),
        index=leases.get(row, "index"),
        protected=bool(leases.get(row, "protected")),
        preempt_ms=leases.get(row, "preempt_ms"),
        preemptor=leases.get(row, "preemptor"),
    )


def allocations(
    state: State,
    *,
    agent_id: str = "",
    agent_type: str = "",
    workflow_id: str = "",
    node_id: str = "",
    request_id: int = 0,
    after: int = 0,
    limit: int = 100,
) -> list[Allocation]:
    """Live allocations above id `after`, by id; every filter that is given must match. One numpy pass per filter."""
    table, names = state.leases.table, state.names
    columns = {name: column[: table.high] for name, column in table.columns.items()}
    mask = columns["id"] > after  # a free row has id 0
    for column, text in (
        ("agent", agent_id),
        ("agent_type", agent_type),
        ("workflow", workflow_id),
    ):
        if text:
            mask &= columns[column] == names.find(text)
    if node_id:
        mask &= columns["node"] == (
            state.fleet.row(node_id) if state.fleet.row(node_id) >= 0 else -2
        )
    if request_id:
        mask &= columns["request_id"] == request_id
    rows = np.flatnonzero(mask)
    rows = rows[np.argsort(columns["id"][rows], kind="stable")][:limit]
    return [_allocation(state, row) for row in rows.tolist()]


def waiting(state: State, request_id: int) -> Waiting | None:
    """A waiting request."""
    found = state.queue.requests.get(request_id)
    return _waiting(found, ordering.position(state, request_id)) if found else None


def _waiting(waiting_request: queues.Waiting, position: int) -> Waiting:
    queued = waiting_request.queued
    return Waiting(
        request_id=queued.request_id,
        count=queued.count,
        started=waiting_request.started,
        gang=queued.gang,
        agent_id=queued.agent_id,
        agent_type=queued.agent_type,
        workflow_id=queued.workflow_id,
        principal=queued.principal,
        priority=queued.priority,
        demand=queued.demand,
        gpu_models=queued.gpu_models,
        constraints=queued.constraints,
        duration_ms=queued.duration_ms,
        lease_ttl_ms=queued.lease_ttl_ms,
        policy=queued.policy,
        reservation_id=queued.reservation_id,
        queued_ms=waiting_request.queued_ms,
        deadline_ms=queued.deadline_ms,
        position=position,
    )


def waiting_requests(
    state: State,
    *,
    agent_id: str = "",
    agent_type: str = "",
    workflow_id: str = "",
    request_id: int = 0,
    after: int = 0,
    limit: int = 100,
) -> list[Waiting]:
    """Waiting requests above id `after`, by id; every filter that is given must match. O(waiting log waiting)."""
    wanted = (
        ("agent_id", agent_id),
        ("agent_type", agent_type),
        ("workflow_id", workflow_id),
        ("request_id", request_id),
    )
    matching = [
        ident
        for ident, one in state.queue.requests.items()
        if ident > after
        and all(not value or getattr(one.queued, name) == value for name, value in wanted)
    ]
    places = {ident: place for place, ident in enumerate(ordering.in_order(state), 1)}
    return [
        _waiting(state.queue.requests[ident], places[ident]) for ident in sorted(matching)[:limit]
    ]


def queue(state: State, *, after: int = 0, limit: int = 100) -> list[QueueRow]:
    """Waiting requests behind position `after`, next first. O(waiting log waiting)."""
    standing = ordering.keys(state)
    order = sorted(standing, key=standing.__getitem__)[after : after + limit]
    rows = []
    for place, ident in enumerate(order, after + 1):
        one = state.queue.requests[ident]
        share = fairness.share_of(state, one.queued.agent_type)
        request = _waiting(one, place)
        promise = state.promises.by_id.get(ident)
        made = promise.made if promise else None
        rows.append(
            QueueRow(
                request=request,
                standing=-standing[ident][0],
                share_millionths=fairness.millionths(share),
                promised_ms=made.start_ms if made else 0,
                claim=made.held if made else False,
            )
        )
    return rows


def ended(state: State, allocation_id: int) -> EndedRecord | None:
    """One of the latest that ended."""
    return state.leases.ended.get(allocation_id)


# -- fleet, quotas, reservations -------------------------------------------------------------------


def node(state: State, node_id: str) -> Node | None:
    """One node or provider."""
    row = state.fleet.row(node_id)
    return _node(state, row) if row >= 0 else None


def nodes(
    state: State, *, after: str = "", limit: int = 100, providers_only: bool = False
) -> list[Node]:
    """Nodes and providers by registration, behind the one called `after` (from the start if that is not there)."""
    rows: Iterable[int] = state.fleet.rows_in_order()
    behind = state.fleet.row(after)
    if behind >= 0:
        serial = state.fleet.serials[behind]
        rows = [row for row in rows if state.fleet.serials[row] > serial]
    if providers_only:
        rows = [row for row in rows if not state.fleet.is_node[row]]
    return [_node(state, row) for row in list(rows)[:limit]]


def _node(state: State, row: int) -> Node:
    fleet, kinds = state.fleet, state.kinds
    event = fleet.registered[row]
    assert event is not None, "a row in use is registered"
    return Node(
        node_id=event.node_id,
        provider=event.provider,
        state=fleet.states[row],
        capacity=kinds.vector(fleet.matrix.capacity[row].tolist()[: len(kinds)]),
        used=kinds.vector(fleet.matrix.used[row].tolist()[: len(kinds)]),
        held=kinds.vector(fleet.matrix.held[row].tolist()[: len(kinds)]),
        devices=tuple(
            (model, int(fleet.device_used[row, device]))
            for device, model in enumerate(event.devices)
        ),
        attributes=event.attributes,
        static=event.static,
        deadline_ms=fleet.deadlines_ms[row],
        allocations=fleet.allocations[row],
    )


def quota(state: State, name: str) -> Quota | None:
    """One quota node."""
    row = state.quotas.row(name)
    return _quota(state, row) if row >= 0 else None


def quotas(state: State, *, with_implicit: bool = False) -> list[Quota]:
    """Quota nodes in the order in which they were made known."""
    rows = state.quotas.rows_in_order()
    return [_quota(state, row) for row in rows if with_implicit or not state.quotas.implicit[row]]


def _quota(state: State, row: int) -> Quota:
    tree = state.quotas
    parent = tree.parents[row]
    limits = {
        kind: int(tree.limit[row, kind])
        for kind in range(len(state.kinds))
        if tree.limit[row, kind] != NO_LIMIT
    }
    used = (tree.used[row] + tree.held[row]).tolist()
    return Quota(
        name=tree.names[row],
        parent=tree.names[parent] if parent >= 0 else "",
        implicit=tree.implicit[row],
        limits=tuple(sorted((state.kinds.names[kind], limit) for kind, limit in limits.items())),
        used=state.kinds.vector(used[: len(state.kinds)]),
        allocations=tree.allocations[row],
        weight=tree.weights[row],
        share_millionths=fairness.millionths(fairness.share_of(state, tree.names[row])),
    )


def reservation(state: State, reservation_id: int) -> Reservation | None:
    """A booked or open window."""
    found = state.reservations.by_id.get(reservation_id)
    if found is None:
        return None
    made = found.made
    remaining: Vector = tuple(sorted((k, a) for k, a in found.remaining.items() if a))
    return Reservation(
        reservation_id=made.reservation_id,
        open=found.open,
        agent_id=made.agent_id,
        agent_type=made.agent_type,
        workflow_id=made.workflow_id,
        principal=made.principal,
        priority=made.priority,
        demand=made.demand,
        remaining=remaining if found.open else (),
        node_id=made.node_id,
        suppliers=made.suppliers,
        devices=made.devices,
        start_ms=made.start_ms,
        end_ms=made.end_ms,
        index=found.index,
    )


def reservations(state: State, *, workflow_id: str = "") -> list[Reservation]:
    """Booked and open windows by id."""
    found = (reservation(state, ident) for ident in sorted(state.reservations.by_id))
    return [one for one in found if one and (not workflow_id or one.workflow_id == workflow_id)]


def utilization(state: State) -> Utilization:
    """The whole fleet, per kind. Sums are Python ints."""
    fleet, matrix = state.fleet, state.fleet.matrix
    rows = fleet.rows_in_order()
    ready = [row for row in rows if fleet.is_ready[row]]
    kinds = []
    for column, kind in enumerate(state.kinds.names):
        capacity = sum(matrix.capacity[rows, column].tolist())
        used = sum(matrix.used[rows, column].tolist())
        held = sum(matrix.held[rows, column].tolist())
        free = sum(max(0, value) for value in matrix.free[ready, column].tolist())
        if capacity or used:
            kinds.append(KindUse(kind, capacity, used, held, free))
    return Utilization(
        kinds=tuple(kinds),
        allocations_live=state.live_count(),
        requests_waiting=state.waiting_count(),
        nodes_ready=sum(1 for row in ready if fleet.is_node[row]),
        nodes_total=fleet.node_count,
        providers_total=fleet.provider_count,
    )
