"""How a group begins, and why a replica that lost its disk does not begin it again.

A replica without a configuration neither stands nor votes: it follows whoever leads, and waits. A group begins when all
its first replicas, those of `cluster.toml`, are there and empty. Each says so, with its incarnation; who has heard all
of them promises the configuration made of these incarnations, once and for ever, on its disk; who has heard the same
promise from all others holds it for the group's, and may stand.

No two such configurations can come of one set of replicas: they would differ in somebody's incarnation, and everybody
else would have had to promise both. A replica that comes back empty has a new incarnation: it is in no configuration
and in no promise, so it never counts until `replica replace` gives it its seat. Replicas that crash half way keep their
promise and go on. One that loses its disk half way leaves a promise that cannot be met: nothing was decided yet, so
all start anew.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from raftalloc.raft import membership
from raftalloc.raft.seating import Seating

if TYPE_CHECKING:
    from raftalloc.raft.membership import Seats

logger = logging.getLogger(__name__)

GREETING: Final = "greeting"
HEARTBEATS: Final = 2
"""Between two greetings."""
WAIT_SECONDS: Final = 5.0
"""After so long without a beginning the log says who is missing."""


@dataclass(frozen=True, slots=True)
class _Met:
    """What another said of itself: whether it is new, and what it has promised."""

    incarnation: bytes
    is_new: bool
    promise: bytes


class Founding(Seating):
    """The part of a SyncObj that begins a group, or waits to be led."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._first: Seats = ()
        self._met: dict[str, _Met] = {}
        self._greets_at = 0.0
        self._waits_until: float | None = None
        super().__init__(*arguments, **options)

    def begin_with(self, seats: Seats, *, is_known: bool) -> None:
        """Once, when the log has been read. seats: the first members. is_known: it is of before there were seats."""
        self._first = seats
        self.find_members()
        if is_known and not self._configurations:
            self._found_group(membership.encode(seats))

    def greet(self) -> None:
        """Every turn: while there is no configuration, greet the others now and then."""
        if self._configurations or self.now() < self._greets_at:
            return
        self._greets_at = self.now() + HEARTBEATS * self.conf.appendEntriesPeriod
        self._consider()
        for node in self._in_order():
            self._SyncObj__transport.send(node, self._greeting(asks=True))
        self._complain()

    def _greeting(self, *, asks: bool) -> dict[str, Any]:
        log = self._SyncObj__raftLog
        founded = log.base_members if log.first_index == 1 else b""
        return {
            "type": GREETING,
            "inc": self.incarnation,
            "new": self._is_new(),
            "promise": log.promise,
            "founded": founded,
            "asks": asks,
        }

    def _is_new(self) -> bool:
        """Nothing was ever voted on here, nor taken into the log."""
        return (
            not self._configurations
            and self._SyncObj__raftCurrentTerm == 0
            and self._last()[0] <= 1
        )

    def _on_greeting(self, node: Any, message: dict[str, Any]) -> None:
        if message["asks"]:
            self._SyncObj__transport.send(node, self._greeting(asks=False))
        if self._configurations:
            return
        promise = self._SyncObj__raftLog.promise
        if promise and message["founded"] == promise:
            self._found_group(promise)  # somebody has heard all of them
            return
        self._met[node.id] = _Met(message["inc"], message["new"], message["promise"])
        self._consider()

    def _consider(self) -> None:
        """Promise, and begin, if everybody has said what that takes."""
        if self._configurations:
            return
        others = [seat.replica_id for seat in self._first if seat.replica_id != self.replica_id]
        met = [self._met.get(name) for name in others]
        log = self._SyncObj__raftLog
        if not log.promise:
            if not self._is_new() or not all(each is not None and each.is_new for each in met):
                return
            log.set_promise(membership.encode(self._seats_of_the_met()))
            self._greets_at = 0.0
        if all(each is not None and each.promise == log.promise for each in met):
            self._found_group(log.promise)

    def _seats_of_the_met(self) -> Seats:
        incarnations = {name: met.incarnation for name, met in self._met.items()}
        incarnations[self.replica_id] = self.incarnation
        return tuple(
            replace(seat, incarnation=incarnations[seat.replica_id]) for seat in self._first
        )

    def _found_group(self, members: bytes) -> None:
        """From here on there is a configuration; it is as of before the first entry."""
        log = self._SyncObj__raftLog
        assert log.first_index == 1, "a log without a configuration was never compacted"
        log.rebase(1, 0, members)
        self._configurations = [(0, membership.decode(members))]
        self._met.clear()
        self.take_seats()

    def _complain(self) -> None:
        if self._waits_until is None:
            self._waits_until = self.now() + WAIT_SECONDS
        elif self.now() > self._waits_until:
            self._waits_until = float("inf")
            missing = [
                seat.replica_id
                for seat in self._first
                if seat.replica_id != self.replica_id and seat.replica_id not in self._met
            ]
            logger.warning(
                "replica %s has no seat in the group yet: a new group begins when all its first replicas are there "
                "and empty (not heard of: %s); one that lost its disk waits for `raftalloc replica replace`",
                self.replica_id,
                ", ".join(missing) or "nobody",
            )
