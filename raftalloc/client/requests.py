"""What a caller of ResourceManager asks, in whole units and seconds, and the message it becomes.

Everything that is wrong with a request whatever the state is said here, before anything is sent, as InvalidRequest with
the path of the field. The replica checks the same again: it serves other clients too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, TypeVar

from raftalloc.api.v1 import reservations_pb2, types_pb2
from raftalloc.api.v1.allocator_pb2 import AllocateRequest
from raftalloc.client.names import check_name
from raftalloc.client.quantities import Amount, vector_of
from raftalloc.client.terms import Terms
from raftalloc.client.times import Length, Moment, length_ms, moment_ms
from raftalloc.core.quantities import DEVICE_UNITS, GPU, text_of
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Member = TypeVar("Member", bound=Enum)
Item = TypeVar("Item")

COUNT_MAX: Final = 10_000
LEASE_TTL_MS_MIN: Final = 100
CONSTRAINTS_MAX: Final = 16


class Priority(IntEnum):
    """How urgent a request is; higher goes first."""

    LOW = types_pb2.PRIORITY_LOW
    MEDIUM = types_pb2.PRIORITY_MEDIUM
    HIGH = types_pb2.PRIORITY_HIGH
    CRITICAL = types_pb2.PRIORITY_CRITICAL


class Policy(IntEnum):
    """Which of the feasible nodes is taken. DEFAULT: what the group is configured for."""

    DEFAULT = types_pb2.POLICY_UNSPECIFIED
    BEST_FIT = types_pb2.POLICY_BEST_FIT
    FIRST_FIT = types_pb2.POLICY_FIRST_FIT
    WORST_FIT = types_pb2.POLICY_WORST_FIT
    BALANCED = types_pb2.POLICY_BALANCED
    FGD = types_pb2.POLICY_FGD
    SPREAD = types_pb2.POLICY_SPREAD
    LEAST_WASTE = types_pb2.POLICY_LEAST_WASTE


class Operator(IntEnum):
    """How a Constraint compares."""

    IN = types_pb2.Constraint.OPERATOR_IN
    NOT_IN = types_pb2.Constraint.OPERATOR_NOT_IN
    EXISTS = types_pb2.Constraint.OPERATOR_EXISTS
    GT = types_pb2.Constraint.OPERATOR_GT
    LT = types_pb2.Constraint.OPERATOR_LT


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on a node's attribute: `Constraint("zone", Operator.IN, ("a", "b"))`. GT and LT take one integer."""

    key: str
    operator: Operator
    values: Sequence[str | int] = ()

    def to_message(self, path: str) -> types_pb2.Constraint:
        """The message. Raises InvalidRequest."""
        operator = member_of(Operator, self.operator, field=f"{path}.operator")
        texts = [str(value) for value in _items(self.values, f"{path}.values")]
        wanted = {Operator.EXISTS: (0, 0), Operator.GT: (1, 1), Operator.LT: (1, 1)}
        least, most = wanted.get(operator, (1, 64))
        if not least <= len(texts) <= most:
            raise InvalidRequest(
                f"{path}.values", f"has {len(texts)}", f"{operator.name} takes {least} to {most}"
            )
        return types_pb2.Constraint(
            key=check_name(self.key, field=f"{path}.key"),
            operator=types_pb2.Constraint.Operator.ValueType(operator),
            values=[check_name(text, field=f"{path}.values") for text in texts],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """Resources for one agent, granted whole or not at all.

    resources: whole units by kind, `{"cpu": 4, "memory": 8, "api_quota.openai": 1000}`, at most 8 kinds.
    duration: seconds (or a timedelta, or "1h") after which it ends at the latest; 0: until released.
    wait: how long it may wait in the queue; 0: granted or refused now.
    lease_ttl: liveness; the manager renews the lease three times within it. 0: no lease.
    agent_type: the quota it is charged to; absent: agent_id without a trailing `_<digits>`.
    count, gang: that many equal allocations, each of which may start alone; a gang starts whole or not.
    reservation_id: draw from this reservation while its window is open.
    non_preemptible: never a victim of preemption.
    terms: pools, taints, labels, spread, affinity, gang layouts, alternatives.
    idempotency_key: a name of your own for this attempt; the same again is answered as the first time.
    """

    agent_id: str
    resources: Mapping[str, Amount]
    workflow_id: str = ""
    priority: Priority = Priority.MEDIUM
    duration: Length = 0
    wait: Length = 0
    lease_ttl: Length = 0
    agent_type: str = ""
    gpu_models: Sequence[str] = ()
    constraints: Sequence[Constraint] = ()
    count: int = 1
    gang: bool = False
    policy: Policy = Policy.DEFAULT
    reservation_id: int = 0
    terms: Terms | None = None
    idempotency_key: str = field(default="", repr=False)
    non_preemptible: bool = False

    def to_message(self) -> AllocateRequest:
        """The message, in canonical units. Raises InvalidRequest."""
        ttl_ms = length_ms(self.lease_ttl, field="lease_ttl")
        if 0 < ttl_ms < LEASE_TTL_MS_MIN:
            raise InvalidRequest("lease_ttl", f"{ttl_ms} ms is too short", "0.1 s is the least")
        key = check_name(self.idempotency_key, field="idempotency_key", optional=True)
        return AllocateRequest(
            agent_id=check_name(self.agent_id, field="agent_id"),
            agent_type=check_name(self.agent_type, field="agent_type", optional=True),
            workflow_id=check_name(self.workflow_id, field="workflow_id", optional=True),
            priority=_priority(self.priority),
            resources=_demand(self.resources),
            gpu_models=_names(self.gpu_models, "gpu_models"),
            constraints=_constraints(self.constraints),
            count=_whole(self.count, "count", 1, COUNT_MAX),
            gang=_flag(self.gang, "gang"),
            non_preemptible=_flag(self.non_preemptible, "non_preemptible"),
            duration_ms=length_ms(self.duration, field="duration"),
            lease_ttl_ms=ttl_ms,
            wait_ms=length_ms(self.wait, field="wait"),
            policy=types_pb2.Policy.ValueType(member_of(Policy, self.policy, field="policy")),
            reservation_id=_whole(self.reservation_id, "reservation_id", 0, (1 << 63) - 1),
            terms=self.terms.to_message() if self.terms else None,
            idempotency=types_pb2.Idempotency(key=key) if key else None,
        )


def reserve_message(
    *,
    workflow_id: str,
    start_time: Moment,
    duration: Length,
    resources: Mapping[str, Amount],
    priority: Priority,
    agent_id: str,
    agent_type: str,
    gpu_models: Sequence[str],
    constraints: Sequence[Constraint],
) -> reservations_pb2.ReserveRequest:
    """The message that books one window. Raises InvalidRequest."""
    duration_ms = length_ms(duration, field="duration")
    if not duration_ms:
        raise InvalidRequest("duration", "is 0", "a window has a length: write seconds")
    return reservations_pb2.ReserveRequest(
        workflow_id=check_name(workflow_id, field="workflow_id"),
        agent_id=check_name(agent_id, field="agent_id", optional=True),
        agent_type=check_name(agent_type, field="agent_type", optional=True),
        priority=_priority(priority),
        resources=_demand(resources),
        gpu_models=_names(gpu_models, "gpu_models"),
        constraints=_constraints(constraints),
        start_ms=moment_ms(start_time, field="start_time"),
        duration_ms=duration_ms,
    )


def member_of(kind: type[Member], value: object, *, field: str) -> Member:
    """A member of an enum, by itself, its number or its name. Raises InvalidRequest that lists them."""
    try:
        if isinstance(value, str):
            return kind[value.upper()]
        return kind(None if isinstance(value, bool) else value)
    except (KeyError, ValueError):
        known = ", ".join(member.name for member in kind)
        shown = f"{value!r:.40}"
        raise InvalidRequest(field, f"{shown} is no {kind.__name__}", f"one of {known}") from None


def _demand(resources: Mapping[str, Amount]) -> dict[str, int]:
    """What is asked of each kind; GPUs are a share of one device or whole devices."""
    demand = vector_of(resources)
    gpu = demand.get(GPU, 0)
    if gpu > DEVICE_UNITS and gpu % DEVICE_UNITS:
        raise InvalidRequest(
            f"resources.{GPU}",
            f"{text_of(GPU, gpu)} is neither a share of one device nor whole devices",
            "ask for less than 1, or a whole number",
        )
    return demand


def _priority(value: object) -> types_pb2.Priority.ValueType:
    """The message's own enum."""
    return types_pb2.Priority.ValueType(member_of(Priority, value, field="priority"))


def _names(values: Sequence[str], path: str) -> list[str]:
    """A list of names."""
    return [check_name(value, field=path) for value in _items(values, path)]


def _constraints(values: Sequence[Constraint]) -> list[types_pb2.Constraint]:
    """At most CONSTRAINTS_MAX of them."""
    found = _items(values, "constraints")
    if len(found) > CONSTRAINTS_MAX:
        raise InvalidRequest("constraints", f"has {len(found)}", f"at most {CONSTRAINTS_MAX}")
    for position, value in enumerate(found):
        if not isinstance(value, Constraint):
            raise InvalidRequest(
                f"constraints[{position}]",
                "is no Constraint",
                'Constraint("zone", Operator.IN, ("a",))',
            )
    return [value.to_message(f"constraints[{at}]") for at, value in enumerate(found)]


def _items(values: Sequence[Item], path: str) -> Sequence[Item]:
    """A list, and not the one string that is so easily written instead."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise InvalidRequest(path, f"{type(values).__name__} is no list", 'write ["a", "b"]')
    return values


def _whole(value: int, path: str, low: int, high: int) -> int:
    """An integer within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(path, "is no whole number in bounds", f"write {low} to {high}")
    return value


def _flag(value: bool, path: str) -> bool:
    """True or False, nothing that only looks so."""
    if not isinstance(value, bool):
        raise InvalidRequest(path, f"{type(value).__name__} is no bool", "write True or False")
    return value
