"""What may be asked of the machine: one frozen record per command, and the entry that carries a block of them.

Commands are a storage format (the Raft log holds them): append fields with defaults, never rename, reorder or reuse.
They speak in names, never in rows or columns, so that an entry means the same against any state.

Field types are limited to what `codec.py` can lay out as columns: int, bool, str, Vector, tuple[str, ...],
tuple[tuple[str, str], ...], tuple[Constraint, ...] and Terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftalloc.core.quantities import Vector
from raftalloc.core.terms import NO_TERMS, Terms

LOW: Final = 1
MEDIUM: Final = 2
HIGH: Final = 3
CRITICAL: Final = 4
PRIORITIES: Final = (LOW, MEDIUM, HIGH, CRITICAL)
PRIORITY_NAMES: Final = {LOW: "LOW", MEDIUM: "MEDIUM", HIGH: "HIGH", CRITICAL: "CRITICAL"}

BEST_FIT: Final = 1
FIRST_FIT: Final = 2
WORST_FIT: Final = 3
BALANCED: Final = 4
FGD: Final = 5
SPREAD: Final = 6
LEAST_WASTE: Final = 7
POLICY_NAMES: Final = {
    BEST_FIT: "best_fit",
    FIRST_FIT: "first_fit",
    WORST_FIT: "worst_fit",
    BALANCED: "balanced",
    FGD: "fgd",
    SPREAD: "spread",
    LEAST_WASTE: "least_waste",
}
POLICIES: Final = tuple(POLICY_NAMES)
POLICY_NUMBERS: Final = {name: number for number, name in POLICY_NAMES.items()}

FIFO: Final = 1
PRIORITY: Final = 2
FAIR_SHARE: Final = 3
PRIORITY_WITH_FAIRSHARE: Final = 4
ORDERS: Final = (FIFO, PRIORITY, FAIR_SHARE, PRIORITY_WITH_FAIRSHARE)
ORDER_NAMES: Final = {
    FIFO: "fifo",
    PRIORITY: "priority",
    FAIR_SHARE: "fair_share",
    PRIORITY_WITH_FAIRSHARE: "priority_with_fairshare",
}
GREEDY: Final = 1
EASY: Final = 2
CONSERVATIVE: Final = 3
BACKFILLS: Final = (GREEDY, EASY, CONSERVATIVE)
BACKFILL_NAMES: Final = {GREEDY: "greedy", EASY: "easy", CONSERVATIVE: "conservative"}
NO_PREEMPTION: Final = 1
LOWER_PRIORITY: Final = 2
PREEMPTIONS: Final = (NO_PREEMPTION, LOWER_PRIORITY)
PREEMPTION_NAMES: Final = {NO_PREEMPTION: "none", LOWER_PRIORITY: "lower_priority"}
LEAVE: Final = -1
"""In SetQueue: this setting stays as it is."""
WEIGHT_ONE: Final = 1000
"""The weight of a quota that nobody gave one, in thousandths."""
WEIGHT_MAX: Final = 1_000_000_000

IN: Final = 1
NOT_IN: Final = 2
EXISTS: Final = 3
GT: Final = 4
LT: Final = 5
OPERATOR_NAMES: Final = {IN: "In", NOT_IN: "NotIn", EXISTS: "Exists", GT: "Gt", LT: "Lt"}

COUNT_MAX: Final = 10_000
"""Members of one array request."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A condition on a node's attribute. IN and NOT_IN take values, GT and LT one integer in values[0], EXISTS none."""

    key: str
    operator: int
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks, and which attempt of theirs this is.

    (session, sequence), or the hash of a free-form key, or neither.
    """

    principal: str = "local"
    session: int = 0
    sequence: int = 0
    key: str = ""


@dataclass(frozen=True, slots=True)
class Allocate:
    """Resources for `count` equal members. wait_ms 0: granted or refused now. protected: never preempted."""

    agent_id: str
    agent_type: str
    workflow_id: str
    priority: int
    demand: Vector
    gpu_models: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    count: int = 1
    gang: bool = False
    duration_ms: int = 0
    lease_ttl_ms: int = 0
    wait_ms: int = 0
    policy: int = BEST_FIT
    reservation_id: int = 0
    protected: bool = False
    terms: Terms = NO_TERMS


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend a lease; extension_ms asks for more duration."""

    allocation_id: int
    token: int
    agent_id: str
    extension_ms: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Give an allocation back."""

    allocation_id: int
    token: int
    agent_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Withdraw what still waits of a request."""

    request_id: int
    agent_id: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """Book one guaranteed window [start_ms, start_ms + duration_ms)."""

    agent_id: str
    agent_type: str
    workflow_id: str
    priority: int
    demand: Vector
    start_ms: int
    duration_ms: int
    gpu_models: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelReservation:
    """End a reservation and what was drawn from it."""

    reservation_id: int


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """Add or bring up to date a node, or a provider. devices: one model name per GPU.

    taints: (key, value) pairs that keep away who does not tolerate them; from a soft one they stay away while they can.
    """

    node_id: str
    provider: bool
    capacity: Vector
    devices: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    static: bool = False
    taints: tuple[tuple[str, str], ...] = ()
    soft_taints: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Cordon:
    """No new grants there."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Uncordon:
    """Grants again; also ends a drain."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Cordon, and end what is left there at deadline_ms (0: never)."""

    node_id: str
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """Forget a node; force ends what is there."""

    node_id: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class MarkLost:
    """The leader has not heard of the node for too long."""

    node_id: str


@dataclass(frozen=True, slots=True)
class MarkReturned:
    """A lost node has been heard of again."""

    node_id: str


@dataclass(frozen=True, slots=True)
class SetQuota:
    """Replace the limits of one quota node; a kind that is absent is not limited. Empty parent: root.

    weight: of its share, in thousandths; 0: stays as it is.
    """

    name: str
    parent: str
    limits: Vector
    weight: int = 0


@dataclass(frozen=True, slots=True)
class DeleteQuota:
    """Forget a quota node that nothing is charged to."""

    name: str


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Give the caller an idempotency session."""


@dataclass(frozen=True, slots=True)
class SwitchRules:
    """From this entry on decide by these rules (state.rules_version)."""

    version: int


@dataclass(frozen=True, slots=True)
class TakeLead:
    """A new leader's first command: leases get back the gap without a leader (design 9.21)."""

    replica_id: str
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but the entry's time: fires what is due."""


@dataclass(frozen=True, slots=True)
class SetQueue:
    """How the queue is served from now on; what is LEAVE stays. initial: only if nobody has set anything before.

    order: one of ORDERS. ageing_ms: a request rises by one priority class for each that it waits; 0: never.
    backfill: one of BACKFILLS; depth: lines that conservative backfill protects. preemption: one of PREEMPTIONS;
    grace_ms: how long victims have; min_run_ms: for how long nobody is preempted; per_hour: victims per agent type
    and hour, 0: any number.
    """

    initial: bool = False
    order: int = LEAVE
    ageing_ms: int = LEAVE
    backfill: int = LEAVE
    depth: int = LEAVE
    preemption: int = LEAVE
    grace_ms: int = LEAVE
    min_run_ms: int = LEAVE
    per_hour: int = LEAVE


@dataclass(frozen=True, slots=True)
class Resize:
    """Another demand for a live allocation, where it is: all of it or nothing."""

    allocation_id: int
    token: int
    agent_id: str
    demand: Vector


Command = (
    Allocate
    | Renew
    | Release
    | Cancel
    | Reserve
    | CancelReservation
    | RegisterNode
    | Cordon
    | Uncordon
    | Drain
    | RemoveNode
    | MarkLost
    | MarkReturned
    | SetQuota
    | DeleteQuota
    | OpenSession
    | SwitchRules
    | TakeLead
    | Tick
    | SetQueue
    | Resize
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One command and who asked it."""

    command: Command
    origin: Origin = Origin()


@dataclass(frozen=True, slots=True)
class Entry:
    """What one index of the Raft log holds: a block of commands, stamped by the leader that proposed it."""

    at_ms: int
    proposer: str
    asked: tuple[Asked, ...]
