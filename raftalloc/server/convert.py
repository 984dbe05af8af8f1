"""From API messages to commands of the core. What could never be meant is InvalidRequest here, before it costs much.

Fields are checked in the order of their cost: counts and bounds, then names, then the quantities. What depends on the
state of the group (an unknown node, a stale token) is no business of this module: the core decides it.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from google.protobuf.unknown_fields import UnknownFieldSet

from raftalloc.api.v1 import types_pb2
from raftalloc.core import commands
from raftalloc.core.promises import PROMISES_MAX
from raftalloc.core.quantities import (
    DEVICE_UNITS,
    DEVICES_PER_NODE_MAX,
    DURATION_MS_MAX,
    GPU,
    KINDS_MAX,
    KINDS_PER_REQUEST_MAX,
    Vector,
    text_of,
)
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert_terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.message import Message

    from raftalloc.api.v1 import (
        allocator_pb2,
        fleet_pb2,
        queue_pb2,
        quotas_pb2,
        reservations_pb2,
    )

CONSTRAINTS_MAX: Final = 16
CONSTRAINT_VALUES_MAX: Final = 64
MODELS_MAX: Final = 16
ATTRIBUTES_MAX: Final = 64
LEASE_TTL_MS_MIN: Final = 100
KEY_BYTES_MAX: Final = 256
BATCH_MAX: Final = 10_000
HEARTBEATS_MAX: Final = 1_000
DEFAULT_QUOTA: Final = "default"

_NUMBERED: Final = re.compile(r"(.+)_[0-9]+")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_OPERATORS: Final = {
    types_pb2.Constraint.OPERATOR_IN: commands.IN,
    types_pb2.Constraint.OPERATOR_NOT_IN: commands.NOT_IN,
    types_pb2.Constraint.OPERATOR_EXISTS: commands.EXISTS,
    types_pb2.Constraint.OPERATOR_GT: commands.GT,
    types_pb2.Constraint.OPERATOR_LT: commands.LT,
}


def no_surplus(message: Message) -> None:
    """Refuse fields that this server does not know: they were meant, and would be ignored."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        number = unknown[0].field_number
        known = message.DESCRIPTOR.full_name
        raise InvalidRequest(
            f"field {number}", f"is not known in {known}", "leave it out, or upgrade the server"
        )


def agent_type_of(agent_id: str) -> str:
    """The type of an agent that names none: its id without a trailing `_<digits>` (design 9.14)."""
    match = _NUMBERED.fullmatch(agent_id)
    return match[1] if match else agent_id


def origin(principal: str, idempotency: types_pb2.Idempotency) -> commands.Origin:
    """Who asks, and which attempt it is."""
    no_surplus(idempotency)
    session, sequence, key = idempotency.session, idempotency.sequence, idempotency.key
    if not (session or sequence or key):
        return commands.Origin(principal)
    if key:
        if session or sequence:
            problem = "is given beside session and sequence"
            raise InvalidRequest("idempotency.key", problem, "give the pair or the key")
        return keyed_origin(principal, "idempotency.key", key)
    for field, value in (("session", session), ("sequence", sequence)):
        if value <= 0:
            problem = f"{value} is not above 0"
            remedy = "give the session of OpenSession and a sequence from 1 on"
            raise InvalidRequest(f"idempotency.{field}", problem, remedy)
    return commands.Origin(principal, session, sequence)


def keyed_origin(principal: str, field: str, key: str) -> commands.Origin:
    """An attempt that is named by a free-form key, or by nothing."""
    if not key:
        return commands.Origin(principal)
    if len(key) > KEY_BYTES_MAX or len(key.encode()) > KEY_BYTES_MAX:
        problem = f"is {len(key)} characters long"
        raise InvalidRequest(field, problem, f"use at most {KEY_BYTES_MAX} bytes")
    # A key is its principal's own: nobody is answered with what another asked. No principal holds a NUL.
    named = f"{principal}\0{key}".encode()
    return commands.Origin(principal, key=blake2b(named, digest_size=16).hexdigest())


def allocate(request: allocator_pb2.AllocateRequest, default_policy: int) -> commands.Allocate:
    """One request; `default_policy` (core.commands) stands in where it names none."""
    no_surplus(request)
    count = checks.whole("count", request.count, 0, commands.COUNT_MAX) or 1
    agent_id = checks.required_name("agent_id", request.agent_id)
    agent_type = checks.name("agent_type", request.agent_type)
    demand, models = _demand(request.resources, request.gpu_models)
    terms = convert_terms.terms_of(request.terms, _demand, count=count, gang=request.gang)
    return commands.Allocate(
        agent_id=agent_id,
        agent_type=agent_type or agent_type_of(agent_id),
        workflow_id=checks.name("workflow_id", request.workflow_id),
        priority=_priority(request.priority),
        demand=demand,
        gpu_models=models,
        constraints=_constraints(request.constraints),
        count=count,
        gang=request.gang,
        duration_ms=checks.duration_ms("duration_ms", request.duration_ms),
        lease_ttl_ms=checks.duration_ms("lease_ttl_ms", request.lease_ttl_ms, LEASE_TTL_MS_MIN),
        wait_ms=checks.duration_ms("wait_ms", request.wait_ms),
        policy=_policy(request.policy, default_policy),
        reservation_id=checks.identifier("reservation_id", request.reservation_id),
        protected=request.non_preemptible,
        terms=terms,
    )


def allocate_asked(
    request: allocator_pb2.AllocateRequest, principal: str, default_policy: int
) -> commands.Asked:
    """One request and who asks it."""
    command = allocate(request, default_policy)
    return commands.Asked(command, origin(principal, request.idempotency))


def batch_asked(
    requests: Sequence[allocator_pb2.AllocateRequest], principal: str, default_policy: int
) -> list[commands.Asked]:
    """1..10000 requests with together at most 10000 members; errors name `requests[3].resources.cpu`."""
    if not requests:
        raise InvalidRequest("requests", "is empty", f"give 1 to {BATCH_MAX}")
    checks.at_most("requests", requests, BATCH_MAX)
    asked = []
    members = 0
    for row, request in enumerate(requests):
        try:
            asked.append(allocate_asked(request, principal, default_policy))
        except InvalidRequest as error:
            field = f"requests[{row}].{error.field}"
            raise InvalidRequest(field, error.problem, error.remedy) from error
        members += max(request.count, 1)
    if members > BATCH_MAX:
        problem = f"count adds up to {members} members"
        raise InvalidRequest("requests", problem, f"at most {BATCH_MAX} in one batch")
    return asked


def renew(request: allocator_pb2.RenewRequest) -> commands.Renew:
    """Extend a lease."""
    no_surplus(request)
    return commands.Renew(
        allocation_id=checks.required_identifier("allocation_id", request.allocation_id),
        token=_token(request.fencing_token),
        agent_id=checks.required_name("agent_id", request.agent_id),
        extension_ms=checks.duration_ms("extension_ms", request.extension_ms),
    )


def resize(request: allocator_pb2.ResizeRequest) -> commands.Resize:
    """Another size."""
    no_surplus(request)
    demand, _ = _demand(request.resources, ())
    return commands.Resize(
        allocation_id=checks.required_identifier("allocation_id", request.allocation_id),
        token=_token(request.fencing_token),
        agent_id=checks.required_name("agent_id", request.agent_id),
        demand=demand,
    )


def release(request: allocator_pb2.ReleaseRequest) -> commands.Release:
    """Give back."""
    no_surplus(request)
    return commands.Release(
        allocation_id=checks.required_identifier("allocation_id", request.allocation_id),
        token=_token(request.fencing_token),
        agent_id=checks.required_name("agent_id", request.agent_id),
    )


def cancel(request: allocator_pb2.CancelRequest) -> commands.Cancel:
    """Withdraw what waits."""
    no_surplus(request)
    return commands.Cancel(
        request_id=checks.required_identifier("request_id", request.request_id),
        agent_id=checks.required_name("agent_id", request.agent_id),
    )


def reserve(request: reservations_pb2.ReserveRequest) -> commands.Reserve:
    """Book a window."""
    no_surplus(request)
    workflow_id = checks.required_name("workflow_id", request.workflow_id)
    agent_id = checks.name("agent_id", request.agent_id)
    agent_type = checks.name("agent_type", request.agent_type)
    if request.start_ms == 0:
        raise InvalidRequest("start_ms", "is missing", "give a time in the future")
    if request.duration_ms == 0:
        raise InvalidRequest("duration_ms", "is missing", "give a length above 0")
    demand, models = _demand(request.resources, request.gpu_models)
    return commands.Reserve(
        agent_id=agent_id,
        agent_type=agent_type or agent_type_of(agent_id) or DEFAULT_QUOTA,
        workflow_id=workflow_id,
        priority=_priority(request.priority),
        demand=demand,
        start_ms=checks.time_ms("start_ms", request.start_ms),
        duration_ms=checks.duration_ms("duration_ms", request.duration_ms),
        gpu_models=models,
        constraints=_constraints(request.constraints),
    )


def register_node(request: fleet_pb2.RegisterNodeRequest) -> commands.RegisterNode:
    """Add or bring up to date a node or provider. A kind with capacity 0 is one that is not offered."""
    no_surplus(request)
    checks.at_most("devices", request.devices, DEVICES_PER_NODE_MAX)
    checks.at_most("attributes", request.attributes, ATTRIBUTES_MAX)
    node_id = checks.required_name("node_id", request.node_id)
    devices = _names("devices", request.devices)
    if request.provider and devices:
        problem = "are given for a provider"
        raise InvalidRequest("devices", problem, "GPUs belong to nodes; leave them or provider out")
    attributes = tuple(
        (checks.required_name("attributes", key), checks.name(f"attributes.{key}", value))
        for key, value in sorted(request.attributes.items())
    )
    return commands.RegisterNode(
        node_id=node_id,
        provider=request.provider,
        capacity=_capacity(request, len(devices) * DEVICE_UNITS),
        devices=devices,
        attributes=attributes,
        static=request.static,
        taints=_taints("taints", request.taints),
        soft_taints=_taints("soft_taints", request.soft_taints),
    )


def _taints(field: str, taints: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    checks.at_most(field, taints, convert_terms.TOLERATIONS_MAX)
    return tuple(
        (checks.required_name(field, key), checks.name(f"{field}.{key}", value))
        for key, value in sorted(taints.items())
    )


def node_ids(values: Sequence[str]) -> list[str]:
    """The nodes of a heartbeat."""
    if not values:
        raise InvalidRequest("node_ids", "is empty", f"give 1 to {HEARTBEATS_MAX}")
    checks.at_most("node_ids", values, HEARTBEATS_MAX)
    return [checks.required_name("node_ids", value) for value in values]


def drain(request: fleet_pb2.DrainRequest) -> commands.Drain:
    """Empty a node."""
    no_surplus(request)
    return commands.Drain(
        node_id=checks.required_name("node_id", request.node_id),
        deadline_ms=checks.time_ms("deadline_ms", request.deadline_ms),
    )


def set_quota(request: quotas_pb2.SetQuotaRequest) -> commands.SetQuota:
    """Replace limits; 0 forbids a kind."""
    no_surplus(request)
    return commands.SetQuota(
        name=checks.required_name("agent_type", request.agent_type),
        parent=checks.name("parent", request.parent),
        limits=checks.vector("limits", request.limits, KINDS_MAX, 0),
        weight=checks.whole("weight", request.weight, 0, commands.WEIGHT_MAX),
    )


def set_queue(request: queue_pb2.SetQueueRequest) -> commands.SetQueue:
    """Serve the queue otherwise; an absent field stays as it is."""
    no_surplus(request)
    _one_of("order", request.order, commands.ORDER_NAMES)
    _one_of("backfill", request.backfill, commands.BACKFILL_NAMES)
    _one_of("preemption", request.preemption, commands.PREEMPTION_NAMES)
    return commands.SetQueue(
        order=request.order or commands.LEAVE,
        ageing_ms=_unless_absent(request, "ageing_ms"),
        backfill=request.backfill or commands.LEAVE,
        depth=_unless_absent(request, "backfill_depth", 1, PROMISES_MAX),
        preemption=request.preemption or commands.LEAVE,
        grace_ms=_unless_absent(request, "grace_ms"),
        min_run_ms=_unless_absent(request, "min_run_ms"),
        per_hour=_unless_absent(request, "preemptions_per_hour", 0, 1_000_000),
    )


def _one_of(field: str, value: int, names: Mapping[int, str]) -> None:
    """An enum that is absent, or one of these."""
    if value and value not in names:
        raise InvalidRequest(
            field, f"{value} is not known", f"there are {', '.join(names.values())}"
        )


def _unless_absent(
    request: queue_pb2.SetQueueRequest, field: str, low: int = 0, high: int = DURATION_MS_MAX
) -> int:
    """A number within its bounds, or LEAVE."""
    if not request.HasField(field):  # type: ignore[arg-type]  # one of its own fields
        return commands.LEAVE
    return checks.whole(field, getattr(request, field), low, high)


def _demand(resources: Mapping[str, int], models: Sequence[str]) -> tuple[Vector, tuple[str, ...]]:
    """What is asked of each kind, and the device models that will do."""
    if not resources:
        raise InvalidRequest("resources", "is empty", "ask for at least one kind")
    demand = checks.vector("resources", resources, KINDS_PER_REQUEST_MAX, 1)
    checks.at_most("gpu_models", models, MODELS_MAX)
    gpu = resources.get(GPU, 0)
    if gpu > DEVICE_UNITS and gpu % DEVICE_UNITS:
        problem = (
            f"{gpu} ({text_of(GPU, gpu)} GPUs) is neither a share of one device nor whole devices"
        )
        remedy = f"ask for less than {DEVICE_UNITS}, or a multiple of it"
        raise InvalidRequest("resources.gpu", problem, remedy)
    if models and not gpu:
        problem = "is given, but no gpu is asked for"
        raise InvalidRequest("gpu_models", problem, "leave it out, or ask for gpu")
    return demand, _names("gpu_models", models)


def _names(field: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(checks.required_name(f"{field}[{row}]", value) for row, value in enumerate(values))


def _priority(value: int) -> int:
    """PRIORITY_* and the core's numbers are the same, but for 0."""
    if value == types_pb2.PRIORITY_UNSPECIFIED:
        return commands.MEDIUM
    if value not in commands.PRIORITIES:
        known = ", ".join(commands.PRIORITY_NAMES.values())
        raise InvalidRequest("priority", f"{value} is not known", f"there are {known}")
    return value


def _policy(value: int, default: int) -> int:
    """POLICY_* and the core's numbers are the same, but for 0."""
    if value == types_pb2.POLICY_UNSPECIFIED:
        return default
    if value not in commands.POLICIES:
        known = ", ".join(commands.POLICY_NAMES.values())
        raise InvalidRequest("policy", f"{value} is not known", f"there are {known}")
    return value


def _token(value: int) -> int:
    if value <= 0:
        problem = "is missing" if value == 0 else f"{value} is no token"
        raise InvalidRequest("fencing_token", problem, "give the fencing_token of the grant")
    return value


def _constraints(values: Sequence[types_pb2.Constraint]) -> tuple[commands.Constraint, ...]:
    checks.at_most("constraints", values, CONSTRAINTS_MAX)
    return tuple(_constraint(f"constraints[{row}]", value) for row, value in enumerate(values))


def _constraint(field: str, value: types_pb2.Constraint) -> commands.Constraint:
    """One condition, with as many values as its operator takes."""
    no_surplus(value)
    operator = _OPERATORS.get(value.operator)
    if operator is None:
        known = ", ".join(commands.OPERATOR_NAMES.values())
        problem = "is missing" if value.operator == 0 else f"{value.operator} is not known"
        raise InvalidRequest(f"{field}.operator", problem, f"there are {known}")
    low, high = {
        commands.EXISTS: (0, 0),
        commands.GT: (1, 1),
        commands.LT: (1, 1),
    }.get(operator, (1, CONSTRAINT_VALUES_MAX))
    if not low <= len(value.values) <= high:
        problem = f"has {len(value.values)} items"
        wanted = str(low) if low == high else f"{low} to {high}"
        remedy = f"{commands.OPERATOR_NAMES[operator]} takes {wanted}"
        raise InvalidRequest(f"{field}.values", problem, remedy)
    key = checks.required_name(f"{field}.key", value.key)
    values = tuple(checks.name(f"{field}.values", item) for item in value.values)
    if operator in (commands.GT, commands.LT) and not _INTEGER.fullmatch(values[0]):
        problem = f"{checks.shown(values[0])} is not a whole number"
        raise InvalidRequest(f"{field}.values", problem, "give up to 18 digits")
    return commands.Constraint(key, operator, values)


def _capacity(request: fleet_pb2.RegisterNodeRequest, devices: int) -> Vector:
    """What is offered; `gpu` is what the devices amount to."""
    capacity = dict(checks.vector("capacity", request.capacity, KINDS_MAX, 0))
    if capacity.setdefault(GPU, devices) != devices:
        problem = f"{capacity[GPU]} is not what {len(request.devices)} devices amount to, {devices}"
        remedy = "list one model name per GPU in devices, and leave gpu out"
        raise InvalidRequest("capacity.gpu", problem, remedy)
    offered = tuple(sorted((kind, amount) for kind, amount in capacity.items() if amount))
    if not offered:
        raise InvalidRequest("capacity", "is empty", "offer at least one kind, or cordon the node")
    return offered
