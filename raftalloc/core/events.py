"""What happened: one frozen record per event. `evolve` over these is the only thing that changes the state.

Events are a storage format (the event store keeps them for ever): append fields with defaults, never rename, reorder or
reuse. Each is whole in itself: history and the fold need no other entry to read it. Field types as for commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftalloc.core.commands import (
    CONSERVATIVE,
    NO_PREEMPTION,
    PRIORITY_WITH_FAIRSHARE,
    WEIGHT_ONE,
    Constraint,
)
from raftalloc.core.quantities import Vector
from raftalloc.core.terms import NO_TERMS, Label, Terms, Typical

READY: Final = 1
CORDONED: Final = 2
DRAINING: Final = 3
LOST: Final = 4
NODE_STATE_NAMES: Final = {READY: "READY", CORDONED: "CORDONED", DRAINING: "DRAINING", LOST: "LOST"}

RELEASED: Final = "RELEASED"
LEASE_EXPIRED: Final = "LEASE_EXPIRED"
DURATION_ENDED: Final = "DURATION_ENDED"
NODE_REMOVED: Final = "NODE_REMOVED"
DRAINED: Final = "DRAINED"
RESERVATION_ENDED: Final = "RESERVATION_ENDED"
CANCELLED: Final = "CANCELLED"
DEADLINE: Final = "DEADLINE"
GANG_REDUCED: Final = "GANG_REDUCED"
PREEMPTED: Final = "PREEMPTED"
END_REASONS: Final = (
    RELEASED,
    LEASE_EXPIRED,
    DURATION_ENDED,
    NODE_REMOVED,
    DRAINED,
    RESERVATION_ENDED,
    CANCELLED,
    DEADLINE,
    GANG_REDUCED,
    PREEMPTED,
)

HOUR_MS: Final = 3_600_000

COMPLETED: Final = "COMPLETED"
BROKEN: Final = "BROKEN"


@dataclass(frozen=True, slots=True)
class KindDefined:
    """A dotted kind got a column."""

    kind: str


@dataclass(frozen=True, slots=True)
class WeightsSet:
    """A new epoch of best_fit's weights: one integer per column, from the fleet's capacity (design 9.18)."""

    weights: Vector


@dataclass(frozen=True, slots=True)
class NodeRegistered:
    """A node or provider is there, or has other capacity, devices or attributes than before."""

    node_id: str
    provider: bool
    capacity: Vector
    devices: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    static: bool
    taints: tuple[tuple[str, str], ...] = ()
    soft_taints: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStateChanged:
    """deadline_ms: of a drain; 0: none."""

    node_id: str
    state: int
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class NodeRemoved:
    """The node is forgotten; nothing was on it any more."""

    node_id: str


@dataclass(frozen=True, slots=True)
class QuotaSet:
    """Limits and parent of a quota node; implicit: made for an agent type that nobody set a quota for."""

    name: str
    parent: str
    limits: Vector
    implicit: bool = False
    weight: int = WEIGHT_ONE


@dataclass(frozen=True, slots=True)
class QuotaDeleted:
    """The quota node is forgotten."""

    name: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A request waits (all of it, or the members of it that did not start)."""

    request_id: int
    count: int
    gang: bool
    agent_id: str
    agent_type: str
    workflow_id: str
    principal: str
    priority: int
    demand: Vector
    gpu_models: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    duration_ms: int
    lease_ttl_ms: int
    policy: int
    reservation_id: int
    deadline_ms: int
    started: int = 0
    protected: bool = False
    terms: Terms = NO_TERMS


@dataclass(frozen=True, slots=True)
class Granted:
    """One allocation. suppliers: the node or provider of each kind of `demand`, in its order.

    alternative: which of the request's alternatives `demand` is, from 1; 0: what it asked for first.
    """

    allocation_id: int
    request_id: int
    agent_id: str
    agent_type: str
    workflow_id: str
    principal: str
    priority: int
    demand: Vector
    node_id: str
    suppliers: tuple[str, ...]
    devices: Vector
    token: int
    expires_ms: int
    ends_ms: int
    lease_ttl_ms: int
    reservation_id: int
    waited_ms: int
    protected: bool = False
    labels: tuple[Label, ...] = ()
    alternative: int = 0


@dataclass(frozen=True, slots=True)
class Renewed:
    """Lease and end as they are now."""

    allocation_id: int
    expires_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An allocation gave its resources back; reason is one of END_REASONS."""

    allocation_id: int
    reason: str
    agent_id: str
    workflow_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What waited of a request waits no more: CANCELLED, DEADLINE, RESERVATION_ENDED, GANG_REDUCED."""

    request_id: int
    reason: str
    count: int
    agent_id: str
    workflow_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A command was answered with a Rejection."""

    code: str
    field: str
    subject: str
    numbers: tuple[tuple[str, int], ...]
    agent_id: str = ""
    workflow_id: str = ""


@dataclass(frozen=True, slots=True)
class ReservationMade:
    """A window is booked, on these suppliers and devices."""

    reservation_id: int
    agent_id: str
    agent_type: str
    workflow_id: str
    principal: str
    priority: int
    demand: Vector
    node_id: str
    suppliers: tuple[str, ...]
    devices: Vector
    start_ms: int
    end_ms: int
    gpu_models: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class ReservationMoved:
    """Its node or provider can no longer serve it; another does from now on."""

    reservation_id: int
    node_id: str
    suppliers: tuple[str, ...]
    devices: Vector


@dataclass(frozen=True, slots=True)
class ReservationOpened:
    """The window begins: what was booked is now held."""

    reservation_id: int


@dataclass(frozen=True, slots=True)
class ReservationEnded:
    """COMPLETED, CANCELLED or BROKEN; nothing drawn from it is left."""

    reservation_id: int
    reason: str
    agent_id: str
    workflow_id: str


@dataclass(frozen=True, slots=True)
class LeaderTook:
    """A new leader; every live lease is longer by gap_ms."""

    replica_id: str
    gap_ms: int


@dataclass(frozen=True, slots=True)
class RulesSwitched:
    """From here on these rules decide."""

    version: int


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An idempotency session of this principal."""

    session: int
    principal: str


@dataclass(frozen=True, slots=True)
class SessionsExpired:
    """Sessions and keys last used before before_ms are forgotten (keys leave a tombstone)."""

    before_ms: int


@dataclass(frozen=True, slots=True)
class WorkloadSet:
    """What is typically asked for, by which fgd and least_waste tell what is left in useless pieces.

    live: allocations that were live when it was counted. declared: said by someone, not counted, and so never stale.
    """

    live: int
    shapes: tuple[Typical, ...]
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The outcome of an attempt that carried an idempotency, kept for its retries. `digest` tells its command apart."""

    session: int
    sequence: int
    key: str
    digest: str
    status: int
    subject: int
    count: int
    token: int
    rejection_code: str = ""
    rejection_field: str = ""
    rejection_subject: str = ""
    rejection_numbers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSet:
    """How the queue is served from here on."""

    order: int = PRIORITY_WITH_FAIRSHARE
    ageing_ms: int = 3_600_000
    backfill: int = CONSERVATIVE
    depth: int = 4
    preemption: int = NO_PREEMPTION
    grace_ms: int = 30_000
    min_run_ms: int = 60_000
    per_hour: int = 60


@dataclass(frozen=True, slots=True)
class Aged:
    """A request has waited so long that it stands `level` priority classes above its own."""

    request_id: int
    level: int


@dataclass(frozen=True, slots=True)
class EntrySkipped:
    """An entry that no replica could apply was passed over (`raftalloc log skip`). digest: of its bytes, hex."""

    digest: str


@dataclass(frozen=True, slots=True)
class Promised:
    """A waiting request will start at start_ms at the latest, as far as known ends tell.

    It then runs until end_ms (0: for ever).
    Per member: its node ('' where only providers serve it), the supplier of each kind of `demand`, its devices; one
    member after the other. held: nobody else may take it at any time before, either (a preemptor's claim).
    """

    request_id: int
    start_ms: int
    end_ms: int
    held: bool
    members: int
    demand: Vector
    nodes: tuple[str, ...]
    suppliers: tuple[str, ...]
    devices: Vector


@dataclass(frozen=True, slots=True)
class PromiseDropped:
    """Nothing is promised to this request any more."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Sought:
    """A waiting request has looked for victims, and looks again at next_ms."""

    request_id: int
    next_ms: int


@dataclass(frozen=True, slots=True)
class Preempting:
    """A victim: it ends at deadline_ms, unless its holder gives it back before or its preemptor goes away."""

    allocation_id: int
    preemptor: int
    deadline_ms: int
    agent_id: str
    workflow_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Spared:
    """It is not preempted after all."""

    allocation_id: int
    agent_id: str
    workflow_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Resized:
    """A live allocation holds this from now on; suppliers and devices as in Granted."""

    allocation_id: int
    demand: Vector
    suppliers: tuple[str, ...]
    devices: Vector
    agent_id: str
    workflow_id: str
    node_id: str


Event = (
    KindDefined
    | WeightsSet
    | NodeRegistered
    | NodeStateChanged
    | NodeRemoved
    | QuotaSet
    | QuotaDeleted
    | Queued
    | Granted
    | Renewed
    | Ended
    | Withdrawn
    | Refused
    | ReservationMade
    | ReservationMoved
    | ReservationOpened
    | ReservationEnded
    | LeaderTook
    | RulesSwitched
    | SessionOpened
    | SessionsExpired
    | Answered
    | QueueSet
    | Aged
    | EntrySkipped
    | Promised
    | PromiseDropped
    | Sought
    | Preempting
    | Spared
    | WorkloadSet
    | Resized
)


@dataclass(frozen=True, slots=True)
class Happened:
    """One event, and the row of the entry's command that caused it (-1: `settle` did)."""

    event: Event
    cause: int
