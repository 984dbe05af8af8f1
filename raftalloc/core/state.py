"""The sum of the parts: everything a replica knows, at one index of the log. No rules live here.

Invariants that `invariants.check` proves of every state:
1. For every row and kind: used = sum over live allocations, held = sum over open reservations of what is not drawn.
2. The same for every device, and for every quota node over what is charged at and below it.
3. free = capacity - used - held; score = sum of weight x free, where free is above 0.
4. Ids and tokens only rise; every id below `next_id` that is not in a table has ended.
5. A request waits in exactly one line, and none whose line is not blocked fits (after `settle`).

`evolve` is the only writer. `freed`, `asks`, `profiles`, `possible`, `fragments`, `labelled`, `shares`, `hopeless`,
`weighed_version` and the deadlines are derived: they are not part of the state's bytes, and a state read back from
bytes decides the same without them.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from raftalloc.core import deadlines
from raftalloc.core.deadlines import Deadlines
from raftalloc.core.fleet import Fleet
from raftalloc.core.kinds import Kinds
from raftalloc.core.labels import Labelled
from raftalloc.core.leases import Leases
from raftalloc.core.names import Names
from raftalloc.core.promises import Promises
from raftalloc.core.quantities import NODE, Vector, scope_of
from raftalloc.core.queues import Queue
from raftalloc.core.quotas import Quotas
from raftalloc.core.reservations import Reservations
from raftalloc.core.sessions import Sessions
from raftalloc.core.workload import Workload

GENESIS_RULES = 1
"""The rules of an empty group, for ever: its log does not say otherwise."""
RULES_VERSION = 1
"""The newest rules that this build knows. A state that asks for newer ones is not for this build."""
CACHE_MAX = 4096


class NewerRules(Exception):
    """From here on the log is decided by rules that this build does not know: it must go no further."""

    def __init__(self, version: int) -> None:
        """Name the version that the log asks for."""
        super().__init__(
            f"the group decides by rules {version} from here on, and this build knows {RULES_VERSION}"
        )


@dataclass(slots=True)
class Freed:
    """What has got more room since waiting requests were last looked at. everything: look at all of them.

    granted: something started, and what waits goes by where others live.
    """

    everything: bool = True
    rows: dict[int, None] = field(default_factory=dict)
    quotas: dict[int, None] = field(default_factory=dict)
    granted: bool = False

    def any(self) -> bool:
        """Whether there is a reason to look."""
        return self.everything or self.granted or bool(self.rows) or bool(self.quotas)

    def clear(self) -> None:
        """They have been looked at."""
        self.everything = self.granted = False
        self.rows.clear()
        self.quotas.clear()


class State:
    """One replica's state. Make the first with `State()`; read others with `codec.decode_state`."""

    def __init__(self) -> None:
        """The state before the first entry: no nodes, no limits, time 0."""
        self.index = 0
        self.now_ms = 0
        self.rules_version = GENESIS_RULES
        self.token = 0
        self.next_id = 1
        self.kinds = Kinds()
        self.fleet = Fleet()
        self.quotas = Quotas()
        self.names = Names()
        self.leases = Leases()
        self.queue = Queue()
        self.reservations = Reservations()
        self.sessions = Sessions()
        self.workload = Workload()
        self.labelled = Labelled()
        self.deadlines = Deadlines(self.deadline_of)
        self.freed = Freed()
        self.asks: dict[Hashable, Any] = {}
        self.profiles: dict[int, Any] = {}
        self.weighed_version = 0
        self.possible: dict[Hashable, Any] = {}
        self.shares: dict[int, tuple[int, int]] = {}
        self.promises = Promises()
        self.hopeless: dict[int, None] = {}
        self.preemptions: dict[str, tuple[int, int]] = {}
        self.fragments: Any = None

    @classmethod
    def genesis(cls) -> State:
        """The state before the first entry."""
        return cls()

    def needs_of(self, demand: Vector) -> tuple[dict[int, int], dict[int, int]]:
        """What a demand asks of a node and of providers, by column."""
        node = tuple(pair for pair in demand if scope_of(pair[0]) == NODE)
        provider = tuple(pair for pair in demand if scope_of(pair[0]) != NODE)
        return self.kinds.columns(node), self.kinds.columns(provider)

    def live_count(self) -> int:
        """Live allocations."""
        return len(self.leases.rows)

    def waiting_count(self) -> int:
        """Requests of which at least one member waits."""
        return len(self.queue.requests)

    def node_count(self) -> int:
        """Nodes, without providers."""
        return self.fleet.node_count

    def deadline_of(self, sort: int, subject: int | str) -> int:
        """When this subject is due now; 0: not at all."""
        if isinstance(subject, str):
            row = self.fleet.row(subject)
            return self.fleet.deadlines_ms[row] if row >= 0 else 0
        if sort == deadlines.ALLOCATION:
            row = self.leases.row(subject)
            return self.leases.deadline_ms(row) if row >= 0 else 0
        if sort in (deadlines.WAIT, deadlines.AGE, deadlines.SEEK):
            return self._waiting_deadline(sort, subject)
        reservation = self.reservations.by_id.get(subject)
        if reservation is None:
            return 0
        if sort == deadlines.RESERVATION_END:
            return reservation.made.end_ms
        return 0 if reservation.open else reservation.made.start_ms

    def _waiting_deadline(self, sort: int, request_id: int) -> int:
        waiting = self.queue.requests.get(request_id)
        if waiting is None:
            return 0
        if sort == deadlines.WAIT:
            return waiting.queued.deadline_ms
        if not self.queue.is_first(waiting.queued):
            return 0
        return (
            self.queue.ages_ms(waiting) if sort == deadlines.AGE else self.queue.seeks_ms(waiting)
        )

    def watch_first(self, request_id: int) -> None:
        """A request has come to the front of its line, or stands there and its time to age or to seek has changed."""
        for sort in (deadlines.AGE, deadlines.SEEK):
            self.deadlines.push(self._waiting_deadline(sort, request_id), sort, request_id)

    def forget_profile(self, row: int) -> None:
        """A row has changed: what was known of its times to come, and whether promises on it can be kept."""
        self.profiles.pop(row, None)
        self.promises.touch(self.fleet.ids[row])

    def forget_profiles(self) -> None:
        """All rows may have changed."""
        self.profiles.clear()
        self.promises.touch_all()

    def free_promise(self, request_id: int) -> None:
        """Its rows have more room for those behind it."""
        promise = self.promises.by_id.get(request_id)
        for node_id in promise.takes if promise else ():
            row = self.fleet.row(node_id)
            if row >= 0:
                self.freed.rows[row] = None

    def rebuild_deadlines(self) -> None:
        """Fill the heap from the tables, after a restore."""
        push = self.deadlines.push
        self.deadlines.clear()
        for allocation_id, row in self.leases.rows.items():
            push(self.leases.deadline_ms(row), deadlines.ALLOCATION, allocation_id)
        for request_id, waiting in self.queue.requests.items():
            push(waiting.queued.deadline_ms, deadlines.WAIT, request_id)
            self.watch_first(request_id)
        for ident, reservation in self.reservations.by_id.items():
            push(reservation.made.end_ms, deadlines.RESERVATION_END, ident)
            if not reservation.open:
                push(reservation.made.start_ms, deadlines.RESERVATION_START, ident)
        for node_id, deadline_ms in zip(self.fleet.ids, self.fleet.deadlines_ms, strict=True):
            push(deadline_ms, deadlines.DRAIN, node_id)
