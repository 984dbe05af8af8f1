"""From records of the core to API messages. Total and without checks: the core's values are right by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import (
    allocator_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.core import records
from raftalloc.core.events import CORDONED, DRAINING, LOST, READY, QueueSet
from raftalloc.core.quantities import scale_of, text_of, unit_of
from raftalloc.server.status import rejection_message

if TYPE_CHECKING:
    from raftalloc.core.commands import Allocate
    from raftalloc.core.quantities import Vector
    from raftalloc.service.query import Past

_LIVE: Final = types_pb2.Allocation.STATE_LIVE
_PREEMPTING: Final = types_pb2.Allocation.STATE_PREEMPTING
_WAITING: Final = types_pb2.Allocation.STATE_WAITING
_ENDED: Final = types_pb2.Allocation.STATE_ENDED
_NODE_STATES: Final = {
    READY: fleet_pb2.Node.STATE_READY,
    CORDONED: fleet_pb2.Node.STATE_CORDONED,
    DRAINING: fleet_pb2.Node.STATE_DRAINING,
    LOST: fleet_pb2.Node.STATE_LOST,
}
_VERDICTS: Final = {
    records.FITS_NOW: allocator_pb2.ExplainResponse.VERDICT_FITS_NOW,
    records.MUST_WAIT: allocator_pb2.ExplainResponse.VERDICT_MUST_WAIT,
    records.NEVER_FITS: allocator_pb2.ExplainResponse.VERDICT_NEVER_FITS,
}
_PRIORITIES: Final = {value: types_pb2.Priority.ValueType(value) for value in range(5)}


def allocation(record: records.Allocation) -> types_pb2.Allocation:
    """A live allocation."""
    return types_pb2.Allocation(
        id=record.allocation_id,
        request_id=record.request_id,
        state=_PREEMPTING if record.preempt_ms else _LIVE,
        agent_id=record.agent_id,
        agent_type=record.agent_type,
        workflow_id=record.workflow_id,
        principal=record.principal,
        priority=_PRIORITIES[record.priority],
        resources=dict(record.demand),
        node_id=record.node_id,
        suppliers=suppliers(record.demand, record.suppliers),
        devices=device_numbers(record.devices),
        fencing_token=record.token,
        granted_ms=record.granted_ms,
        expires_ms=record.expires_ms,
        ends_ms=record.ends_ms,
        lease_ttl_ms=record.lease_ttl_ms,
        reservation_id=record.reservation_id,
        index=record.index,
        preempt_ms=record.preempt_ms,
        preemptor_id=record.preemptor,
        non_preemptible=record.protected,
    )


def waiting(record: records.Waiting) -> types_pb2.Allocation:
    """A request that waits; its id is the request's."""
    return types_pb2.Allocation(
        id=record.request_id,
        request_id=record.request_id,
        state=_WAITING,
        agent_id=record.agent_id,
        agent_type=record.agent_type,
        workflow_id=record.workflow_id,
        principal=record.principal,
        priority=_PRIORITIES[record.priority],
        resources=dict(record.demand),
        lease_ttl_ms=record.lease_ttl_ms,
        reservation_id=record.reservation_id,
        position=record.position,
        deadline_ms=record.deadline_ms,
        queued_ms=record.queued_ms,
        waiting_count=record.count - record.started,
    )


def past(number: int, record: Past) -> types_pb2.Allocation:
    """What ended, from the event store."""
    source = record.granted or record.queued
    message = types_pb2.Allocation(
        id=number,
        state=_ENDED,
        end_reason=record.reason,
        ended_ms=record.ended_ms,
        index=record.index,
    )
    if source is None:
        return message
    message.request_id = source.request_id
    message.agent_id = source.agent_id
    message.agent_type = source.agent_type
    message.workflow_id = source.workflow_id
    message.principal = source.principal
    message.priority = _PRIORITIES[source.priority]
    message.resources.update(dict(source.demand))
    message.lease_ttl_ms = source.lease_ttl_ms
    message.reservation_id = source.reservation_id
    if record.granted is not None:
        grant = record.granted
        message.node_id = grant.node_id
        message.suppliers.update(suppliers(grant.demand, grant.suppliers))
        message.devices.extend(device_numbers(grant.devices))
        message.fencing_token = grant.token
        message.granted_ms = record.granted_ms
        message.expires_ms = grant.expires_ms
        message.ends_ms = grant.ends_ms
    return message


def ended_member(
    command: Allocate,
    principal: str,
    number: int,
    outcome: records.Outcome,
    record: records.EndedRecord | None,
) -> types_pb2.Allocation:
    """A member of an earlier grant that has ended since: a retry carries the request it came from."""
    return types_pb2.Allocation(
        id=number,
        request_id=outcome.subject,
        state=_ENDED,
        agent_id=command.agent_id,
        agent_type=command.agent_type,
        workflow_id=command.workflow_id,
        principal=principal,
        priority=_PRIORITIES[command.priority],
        resources=dict(command.demand),
        # The members of one grant got their tokens one after the other.
        fencing_token=outcome.token + number - outcome.subject,
        lease_ttl_ms=command.lease_ttl_ms,
        reservation_id=command.reservation_id,
        index=outcome.index,
        end_reason=record.reason if record else "",
        ended_ms=record.ended_ms if record else 0,
    )


def suppliers(demand: Vector, rows: tuple[str, ...]) -> dict[str, str]:
    """Kind -> the node or provider that gives it."""
    return {kind: row for (kind, _), row in zip(demand, rows, strict=True)}


def device_numbers(devices: Vector) -> list[int]:
    """Devices come as (number as text, units)."""
    return [int(number) for number, _ in devices]


def node(record: records.Node) -> fleet_pb2.Node:
    """A node or provider."""
    return fleet_pb2.Node(
        node_id=record.node_id,
        provider=record.provider,
        state=_NODE_STATES[record.state],
        capacity=dict(record.capacity),
        used=dict(record.used),
        reserved=dict(record.held),
        devices=[fleet_pb2.Device(model=model, used=used) for model, used in record.devices],
        attributes=dict(record.attributes),
        static=record.static,
        drain_deadline_ms=record.deadline_ms,
        allocations_count=record.allocations,
    )


def quota(record: records.Quota) -> quotas_pb2.QuotaUsage:
    """A quota node; every kind that is limited or used."""
    limits, used = dict(record.limits), dict(record.used)
    kinds = sorted(limits.keys() | {kind for kind, amount in used.items() if amount})
    return quotas_pb2.QuotaUsage(
        agent_type=record.name,
        parent=record.parent,
        kinds=[
            quotas_pb2.QuotaUsage.Kind(
                kind=kind,
                used=used.get(kind, 0),
                limited=kind in limits,
                limit=limits.get(kind, 0),
                scale=scale_of(kind),
            )
            for kind in kinds
        ],
        allocations_count=record.allocations,
        implicit=record.implicit,
        weight=record.weight,
        share_millionths=record.share_millionths,
    )


def reservation(record: records.Reservation) -> reservations_pb2.Reservation:
    """A window that is booked or open."""
    state = reservations_pb2.Reservation
    return reservations_pb2.Reservation(
        id=record.reservation_id,
        state=state.STATE_OPEN if record.open else state.STATE_BOOKED,
        agent_id=record.agent_id,
        agent_type=record.agent_type,
        workflow_id=record.workflow_id,
        principal=record.principal,
        priority=_PRIORITIES[record.priority],
        resources=dict(record.demand),
        remaining=dict(record.remaining),
        node_id=record.node_id,
        suppliers=suppliers(record.demand, record.suppliers),
        devices=device_numbers(record.devices),
        start_ms=record.start_ms,
        end_ms=record.end_ms,
        index=record.index,
    )


def utilization(
    record: records.Utilization, index: int, at_ms: int
) -> usage_pb2.UtilizationResponse:
    """The whole fleet."""
    return usage_pb2.UtilizationResponse(
        kinds=[
            usage_pb2.KindUtilization(
                kind=use.kind,
                capacity=use.capacity,
                used=use.used,
                reserved=use.held,
                available=use.available,
                scale=scale_of(use.kind),
            )
            for use in record.kinds
        ],
        active_allocations=record.allocations_live,
        waiting_requests=record.requests_waiting,
        nodes_ready=record.nodes_ready,
        nodes_total=record.nodes_total,
        providers_total=record.providers_total,
        index=index,
        at_ms=at_ms,
    )


def explanation(record: records.Explanation, index: int) -> allocator_pb2.ExplainResponse:
    """Why a request is granted, waits, or never could be."""
    return allocator_pb2.ExplainResponse(
        verdict=_VERDICTS[record.verdict],
        blockers=[blocker(each) for each in record.blockers],
        nodes_count=record.nodes,
        filtered=dict(record.filtered),
        feasible_count=record.feasible,
        chosen_node_id=record.chosen,
        position=record.position,
        index=index,
    )


def blocker(record: records.Blocker) -> allocator_pb2.Blocker:
    """One thing that stands in the way, in words too."""
    subject = record.subject or "the fleet"
    if record.kind:
        asked, available = (
            text_of(record.kind, record.asked),
            text_of(record.kind, record.available),
        )
        message = f"{subject}: {asked} of {record.kind} asked, {available} {unit_of(record.kind)} available"
    else:
        message = f"{subject}: {record.available} of the {record.asked} it would take"
    return allocator_pb2.Blocker(
        code=record.code,
        subject=record.subject,
        kind=record.kind,
        asked=record.asked,
        available=record.available,
        message=message,
    )


def queue_settings(record: QueueSet) -> queue_pb2.QueueSettings:
    """How the queue is served."""
    return queue_pb2.QueueSettings(
        order=queue_pb2.QueueSettings.Order.ValueType(record.order),
        ageing_ms=record.ageing_ms,
        backfill=queue_pb2.QueueSettings.Backfill.ValueType(record.backfill),
        backfill_depth=record.depth,
        preemption=queue_pb2.QueueSettings.Preemption.ValueType(record.preemption),
        grace_ms=record.grace_ms,
        min_run_ms=record.min_run_ms,
        preemptions_per_hour=record.per_hour,
    )


def queue_row(record: records.QueueRow) -> queue_pb2.ListQueueResponse.Row:
    """Who waits, and why there."""
    return queue_pb2.ListQueueResponse.Row(
        request=waiting(record.request),
        standing=record.standing,
        share_millionths=record.share_millionths,
        promised_start_ms=record.promised_ms,
        claim=record.claim,
    )


def queued(record: records.Waiting, outcome: records.Outcome) -> allocator_pb2.Queued:
    """What waits of a request."""
    why = rejection_message(outcome.rejection) if outcome.rejection else None
    return allocator_pb2.Queued(
        request_id=record.request_id,
        waiting_count=record.count - record.started,
        position=record.position,
        deadline_ms=record.deadline_ms,
        why=why,
    )
