"""Every "no" that the state decides, with the numbers that explain it.

A Rejection is a value: `decide` answers it, the log keeps it as an event (design 9.19). Its code is a storage format:
append, never rename. `describe` and `remedy_of` put it into words; they are not stored, so wording may improve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftalloc.core.quantities import BASE_KINDS, base_of, text_of, unit_of


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal.

    `subject` is the id, name or kind it is about; numbers in canonical units or counts, in a fixed order.
    """

    code: str
    field: str = ""
    subject: str = ""
    numbers: tuple[tuple[str, int], ...] = ()

    def number(self, name: str) -> int:
        """The number called `name`, or 0."""
        for key, value in self.numbers:
            if key == name:
                return value
        return 0


NUMBER_MAX: Final = (1 << 63) - 1
"""Numbers are int64: what all members of a request ask for together may be more, and is cut here."""

QUOTA_EXCEEDED: Final = "QUOTA_EXCEEDED"
NO_CAPACITY: Final = "NO_CAPACITY"
UNSATISFIABLE: Final = "UNSATISFIABLE"
UNKNOWN_KIND: Final = "UNKNOWN_KIND"
WRONG_SCOPE: Final = "WRONG_SCOPE"
LIMIT_REACHED: Final = "LIMIT_REACHED"
UNKNOWN_ALLOCATION: Final = "UNKNOWN_ALLOCATION"
ALREADY_ENDED: Final = "ALREADY_ENDED"
LEASE_EXPIRED: Final = "LEASE_EXPIRED"
STALE_TOKEN: Final = "STALE_TOKEN"
WRONG_OWNER: Final = "WRONG_OWNER"
NOT_WAITING: Final = "NOT_WAITING"
NO_LEASE: Final = "NO_LEASE"
UNKNOWN_NODE: Final = "UNKNOWN_NODE"
NODE_IN_USE: Final = "NODE_IN_USE"
NODE_STATE: Final = "NODE_STATE"
UNKNOWN_QUOTA: Final = "UNKNOWN_QUOTA"
QUOTA_IN_USE: Final = "QUOTA_IN_USE"
QUOTA_CYCLE: Final = "QUOTA_CYCLE"
UNKNOWN_RESERVATION: Final = "UNKNOWN_RESERVATION"
RESERVATION_NOT_OPEN: Final = "RESERVATION_NOT_OPEN"
RESERVATION_EXHAUSTED: Final = "RESERVATION_EXHAUSTED"
WINDOW_PAST: Final = "WINDOW_PAST"
KEY_EXPIRED: Final = "KEY_EXPIRED"
KEY_REUSED: Final = "KEY_REUSED"
KEYS_EXHAUSTED: Final = "KEYS_EXHAUSTED"
RULES_UNKNOWN: Final = "RULES_UNKNOWN"
NOT_RESIZABLE: Final = "NOT_RESIZABLE"

_SENTENCES: Final = {
    QUOTA_EXCEEDED: "quota {subject} allows {limit} of {kind}, {used} used, {asked} asked",
    NO_CAPACITY: "no feasible node or provider has {asked} of {kind} free; the most is {free_most}, {free} in all",
    UNSATISFIABLE: "no node or provider could ever serve {asked} of {kind}: the largest has {largest}",
    UNKNOWN_KIND: "nothing registered offers the kind {subject}",
    WRONG_SCOPE: "{subject} does not live on this sort of row",
    LIMIT_REACHED: "the limit of {limit} {subject} is reached",
    UNKNOWN_ALLOCATION: "there was never an allocation or request {subject}",
    ALREADY_ENDED: "allocation {subject} has already ended",
    LEASE_EXPIRED: "the lease of allocation {subject} expired",
    STALE_TOKEN: "fencing token {given} is not the one of allocation {subject}",
    WRONG_OWNER: "{subject} belongs to another principal or agent",
    NOT_WAITING: "nothing of request {subject} is waiting",
    NO_LEASE: "allocation {subject} has no lease to renew",
    UNKNOWN_NODE: "there is no node or provider {subject}",
    NODE_IN_USE: "node {subject} has {allocations} allocations and {reservations} reservations",
    NODE_STATE: "node {subject} is in a state that does not allow this",
    UNKNOWN_QUOTA: "there is no quota {subject}",
    QUOTA_IN_USE: "quota {subject} has {allocations} allocations charged and {children} quotas below it",
    QUOTA_CYCLE: "quota {subject} would come to stand above itself",
    UNKNOWN_RESERVATION: "there is no reservation {subject}",
    RESERVATION_NOT_OPEN: "the window of reservation {subject} is not open",
    RESERVATION_EXHAUSTED: "reservation {subject} has {left} of {kind} left, {asked} asked",
    WINDOW_PAST: "the window begins {late_ms} ms in the past",
    KEY_EXPIRED: "the outcome of this attempt is no longer kept",
    KEY_REUSED: "this idempotency was used for another command",
    KEYS_EXHAUSTED: "too many idempotency keys are in use ({limit})",
    RULES_UNKNOWN: "rules version {subject} cannot be switched to: the group decides by {now}",
    NOT_RESIZABLE: "allocation {subject} cannot be resized: node resources neither come nor go altogether",
}
_SENTENCES_BY_FIELD: Final = {
    (
        NOT_RESIZABLE,
        "reservation_id",
    ): "allocation {subject} was drawn from a reservation and keeps its size",
    (
        NOT_RESIZABLE,
        "preempt_ms",
    ): "allocation {subject} is a victim of preemption and keeps its size",
    (NO_CAPACITY, "gpu_models"): (
        "no feasible node has {asked} of {kind} free on suitable devices; the most is {free_most}"
    ),
    (
        NO_CAPACITY,
        "resources",
    ): "each kind asked is free somewhere, but no one of {nodes_ready} nodes has all",
    (
        NO_CAPACITY,
        "count",
    ): "no room for all {members} members at once; {nodes_able} nodes could take one",
    (NO_CAPACITY, "duration_ms"): (
        "{nodes_able} nodes have room now, but windows booked or starts promised ahead need it"
    ),
    (
        NO_CAPACITY,
        "extension_ms",
    ): "a window booked ahead needs {asked} of {kind} that a longer run would keep",
    (UNSATISFIABLE, "constraints"): (
        "no node that satisfies the constraints could ever serve {asked} of {kind}: "
        "{nodes_matching} do, the largest has {largest}"
    ),
    (UNSATISFIABLE, "pool"): "no node is in the pool {subject}",
    (UNSATISFIABLE, "tolerations"): (
        "each of the {nodes_matching} nodes that would do has a taint that the request does not tolerate"
    ),
    (UNSATISFIABLE, "gpu_models"): (
        "no node could ever serve {asked} of {kind} on suitable devices: the most on one is {largest}"
    ),
    (
        UNSATISFIABLE,
        "count",
    ): "the whole fleet could hold {members_possible} members, a gang of {members} was asked",
    (
        UNSATISFIABLE,
        "resources",
    ): "each kind asked is offered, but not all by one of {nodes_matching} nodes",
}
"""Where the field tells what is short, the sentence says it."""

_REMEDIES: Final = {
    QUOTA_EXCEEDED: "release something, wait (wait_ms), or raise the quota",
    NO_CAPACITY: "wait (wait_ms), ask for less, or add nodes",
    UNSATISFIABLE: "ask for less per request, drop constraints, or add a larger node",
    UNKNOWN_KIND: "register a node or provider that offers it, or use one that is offered",
    WRONG_SCOPE: "db_connections, query_capacity and api_quota come from providers, all else from nodes",
    LIMIT_REACHED: "remove what is no longer used",
    UNKNOWN_ALLOCATION: "check the id",
    ALREADY_ENDED: "ask again with a new allocate; events history says why it ended",
    LEASE_EXPIRED: "ask again with a new allocate, and renew in time",
    STALE_TOKEN: "use the token of the latest grant",
    WRONG_OWNER: "act as the agent that it was granted to",
    NOT_WAITING: "release what was granted of it instead",
    NO_LEASE: "allocate with lease_ttl_ms, or ask for an extension",
    UNKNOWN_NODE: "check the id, or register it",
    NODE_IN_USE: "drain it first, or remove it with force",
    NODE_STATE: "uncordon it, or wait until it returns",
    UNKNOWN_QUOTA: "set it first",
    QUOTA_IN_USE: "wait until nothing is charged to it",
    QUOTA_CYCLE: "choose a parent that is not below it",
    UNKNOWN_RESERVATION: "check the id; reservations that ended are in the events",
    RESERVATION_NOT_OPEN: "allocate between start_ms and end_ms",
    RESERVATION_EXHAUSTED: "release something drawn from it, or ask for less",
    WINDOW_PAST: "choose a start in the future",
    KEY_EXPIRED: "look the allocation up by agent, then use a new session or key",
    KEY_REUSED: "use a new sequence or key for each command",
    KEYS_EXHAUSTED: "use sessions instead of free-form keys",
    RULES_UNKNOWN: "rules only rise, once every replica knows them: upgrade first",
    NOT_RESIZABLE: "allocate what else is needed by itself",
}
_REMEDIES_BY_FIELD: Final = {
    (
        NO_CAPACITY,
        "gpu_models",
    ): "wait (wait_ms), accept other gpu_models, or ask for a smaller share",
    (
        NO_CAPACITY,
        "count",
    ): "wait (wait_ms), or ask without gang, so that each member may start alone",
    (
        NO_CAPACITY,
        "duration_ms",
    ): "ask for a shorter duration, or wait (wait_ms) until the window or the promised start is over",
    (NO_CAPACITY, "extension_ms"): "ask for a shorter extension",
    (UNSATISFIABLE, "constraints"): "drop or widen a constraint, or ask for less",
    (UNSATISFIABLE, "gpu_models"): "accept other gpu_models, or ask for fewer devices",
    (UNSATISFIABLE, "pool"): "name a pool that is the attribute `pool` of a node, or none",
    (UNSATISFIABLE, "tolerations"): "tolerate the taint, or offer nodes without it",
    (UNSATISFIABLE, "count"): "ask for a smaller gang, or add nodes",
}
CODES: Final = tuple(_SENTENCES)
"""All codes there are."""


class _Numbers(dict[str, str]):
    """Leaves what a rejection did not say out of its sentence."""

    def __missing__(self, key: str) -> str:
        """A dash for a number that was not given."""
        return "-"


def describe(rejection: Rejection) -> str:
    """One sentence with the numbers, amounts in whole units."""
    kind = rejection.subject if base_of(rejection.subject) in BASE_KINDS else ""
    words = _Numbers(subject=rejection.subject)
    for name, value in rejection.numbers:
        # A number called `asked.cpu` speaks of that kind, and in its units.
        plain, _, about = name.partition(".")
        kind = about or kind
        amount = plain in ("asked", "free", "free_most", "largest", "limit", "used", "left")
        words[plain] = text_of(kind, value) if amount and kind else str(value)
    words["kind"] = f"{kind} ({unit_of(kind)})" if kind else "resources"
    by_field = _SENTENCES_BY_FIELD.get((rejection.code, rejection.field))
    return (by_field or _SENTENCES[rejection.code]).format_map(words)


def remedy_of(rejection: Rejection) -> str:
    """What would help, in one phrase."""
    return _REMEDIES_BY_FIELD.get((rejection.code, rejection.field)) or _REMEDIES[rejection.code]
