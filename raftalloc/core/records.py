"""What the core answers: outcomes of commands, and read-only views of what the state holds.

Views are made on request from the columns of the state and never change afterwards; the shell turns them into messages.
All times are ms of the group's clock, all amounts canonical units, 0 means none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftalloc.core.commands import Constraint
from raftalloc.core.quantities import Vector
from raftalloc.core.rejections import Rejection

GRANTED: Final = 1
QUEUED: Final = 2
REJECTED: Final = 3
DONE: Final = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one command.

    GRANTED: allocations subject .. subject + count - 1, of which the first has `token`; members that did not
    start wait. QUEUED: request `subject` waits, count 0, `rejection` is what stood in the way. REJECTED:
    `rejection`. DONE: `subject` is the id that the command made or changed (0 where it has only a name), count
    what it says there.
    """

    status: int
    subject: int = 0
    count: int = 0
    token: int = 0
    rejection: Rejection | None = None
    index: int = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Allocation:
    """A live allocation. devices: (device number as text, canonical units) pairs. preempt_ms: a victim's end."""

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
    granted_ms: int
    expires_ms: int
    ends_ms: int
    lease_ttl_ms: int
    reservation_id: int
    index: int
    protected: bool
    preempt_ms: int
    preemptor: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request with members that have not started. position: 1 is next."""

    request_id: int
    count: int
    started: int
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
    queued_ms: int
    deadline_ms: int
    position: int


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A waiting request in the order of the queue. standing: its class; share: of its agent type, weighted.

    promised_ms: the start that nobody behind may delay; 0: none. claim: victims make room for it.
    """

    request: Waiting
    standing: int
    share_millionths: int
    promised_ms: int
    claim: bool


@dataclass(frozen=True, slots=True)
class EndedRecord:
    """One of the latest allocations or requests that ended."""

    allocation_id: int
    reason: str
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node or provider. devices: (model, used units) per device."""

    node_id: str
    provider: bool
    state: int
    capacity: Vector
    used: Vector
    held: Vector
    devices: tuple[tuple[str, int], ...]
    attributes: tuple[tuple[str, str], ...]
    static: bool
    deadline_ms: int
    allocations: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota node: `limits` has only the kinds that are limited. weight: in thousandths; share: dominant, weighted."""

    name: str
    parent: str
    implicit: bool
    limits: Vector
    used: Vector
    allocations: int
    weight: int
    share_millionths: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """A booked or open window."""

    reservation_id: int
    open: bool
    agent_id: str
    agent_type: str
    workflow_id: str
    principal: str
    priority: int
    demand: Vector
    remaining: Vector
    node_id: str
    suppliers: tuple[str, ...]
    devices: Vector
    start_ms: int
    end_ms: int
    index: int


@dataclass(frozen=True, slots=True)
class KindUse:
    """The fleet's figures for one kind. available: over rows that are ready."""

    kind: str
    capacity: int
    used: int
    held: int
    available: int


@dataclass(frozen=True, slots=True)
class Utilization:
    """The whole fleet."""

    kinds: tuple[KindUse, ...]
    allocations_live: int
    requests_waiting: int
    nodes_ready: int
    nodes_total: int
    providers_total: int


FITS_NOW: Final = 1
MUST_WAIT: Final = 2
NEVER_FITS: Final = 3


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that stands in the way; amounts in canonical units of `kind`, or counts where kind is empty."""

    code: str
    subject: str
    kind: str
    asked: int
    available: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a request is granted, waits or never could be. filtered: (filter, nodes that fell to it) in filter order."""

    verdict: int
    blockers: tuple[Blocker, ...]
    nodes: int
    filtered: tuple[tuple[str, int], ...]
    feasible: int
    chosen: str
    position: int


RAISE_QUOTA: Final = "RAISE_QUOTA"
FREE: Final = "FREE"
GROW: Final = "GROW"
READY: Final = "READY"
ADD: Final = "ADD"
FEWER: Final = "FEWER"
SHORTER: Final = "SHORTER"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would have to be otherwise. amount in canonical units of `kind`, a count, or ms.

    RAISE_QUOTA of `subject` by, FREE so much on it, GROW its capacity by, make it READY; ADD a row with so much (of
    each kind one Change) that satisfies the constraints; ask for so many FEWER members, or for ms at most (SHORTER).
    """

    what: str
    subject: str
    kind: str
    amount: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof that a request cannot start now, that needs no trust in whoever gives it.

    sets: each alone keeps it from starting, and none of its blockers could be left out of it. changes: the least that
    would let it start, all of them together; empty where nothing could.
    """

    sets: tuple[tuple[Blocker, ...], ...]
    changes: tuple[Change, ...]
