"""How a leader sends its log: a bounded window for each follower, and heartbeats that nothing holds up.

A follower is either probed - one message, until its answer says where the logs meet - or sent to ahead of its
answers, up to WINDOW_BYTES. What is lost shows with the next heartbeat, whose previous entry the follower then lacks;
it is probed again from there. A follower that needs what the log has forgotten is offered a snapshot (offering.py), and
gets its heartbeats meanwhile. pysyncobj's own sending is not used: it has no window, and pickles what is larger than a
batch.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from raftalloc.raft.handlers import Handlers
from raftalloc.raft.quorum import LEADER

if TYPE_CHECKING:
    from raftalloc.raft.contents import Entry

WINDOW_BYTES: Final = 8 << 20
"""Of entries that are sent and not confirmed, for one follower; one message may go beyond it."""
BATCH_BYTES: Final = 1 << 20
"""A message holds no more, unless one entry does."""


@dataclass(slots=True)
class Flight:
    """What is under way to one follower, in one term.

    probing: nobody knows yet where the logs meet. sent: (last index, bytes) of each message, oldest first.
    """

    term: int
    probing: bool = True
    probed: bool = False
    heartbeat_at: float = 0.0
    size: int = 0
    sent: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, last_index: int, size: int) -> None:
        """A message left."""
        self.sent.append((last_index, size))
        self.size += size

    def confirm(self, match: int) -> None:
        """The follower has all up to `match`."""
        self.probing = False
        sent = self.sent
        while sent and sent[0][0] <= match:
            self.size -= sent.popleft()[1]

    def probe(self) -> None:
        """Whatever was under way did not arrive where it should."""
        self.probing, self.probed = True, False
        self.sent.clear()
        self.size = 0


class Sending(Handlers):
    """The part of a SyncObj that sends entries. Names beginning with `_SyncObj__` are pysyncobj's own."""

    _SyncObj__connectedNodes: set[Any]
    _SyncObj__newAppendEntriesTime: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._flights: dict[Any, Flight] = {}
        super().__init__(*arguments, **options)

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        """To everybody what they may have; where that is nothing, a heartbeat if one is due. A round (reading.py)."""
        self.begin_round()
        now = self.now()
        self._SyncObj__newAppendEntriesTime = now + self.conf.appendEntriesPeriod
        batches: dict[int, tuple[list[Entry], int]] = {}
        for node in tuple(self._SyncObj__otherNodes):
            if node in self._SyncObj__connectedNodes:
                self._send(node, self._flight_of(node), now, batches)
            else:
                self._flights.pop(node, None)

    def _flight_of(self, node: Any) -> Flight:
        flight = self._flights.get(node)
        term = self._SyncObj__raftCurrentTerm
        if flight is None or flight.term != term:
            flight = self._flights[node] = Flight(term)
        return flight

    def _send(
        self,
        node: Any,
        flight: Flight,
        now: float,
        batches: dict[int, tuple[list[Entry], int]],
    ) -> None:
        """`batches`: those put together for others in the same turn, by their first index."""
        log, ahead = self._SyncObj__raftLog, self._SyncObj__raftNextIndex
        has_sent = False
        if ahead[node] < log.first_index:
            self._send_snapshot(node)
        else:
            while ahead[node] <= log.last_index and self._may_send(flight):
                first = ahead[node]
                if first not in batches:
                    batches[first] = log.batch_from(first, BATCH_BYTES)
                entries, size = batches[first]
                has_sent = True
                if flight.probing:
                    flight.probed = True
                else:
                    ahead[node] = entries[-1][1] + 1
                    flight.add(entries[-1][1], size)
                self._send_append(node, first, entries)
                if node not in self._SyncObj__connectedNodes:
                    return
        if has_sent:
            flight.heartbeat_at = now + self.conf.appendEntriesPeriod
        elif now >= flight.heartbeat_at or self._readers:
            # Readers wait for a word of a majority (reading.py).
            flight.heartbeat_at = now + self.conf.appendEntriesPeriod
            self._send_append(node, max(ahead[node], log.first_index), [])

    def _may_send(self, flight: Flight) -> bool:
        return not flight.probed if flight.probing else flight.size < WINDOW_BYTES

    def _send_append(self, node: Any, first: int, entries: list[Entry]) -> None:
        self._SyncObj__transport.send(
            node,
            {
                "type": "append_entries",
                "term": self._SyncObj__raftCurrentTerm,
                "commit_index": self._SyncObj__raftCommitIndex,
                "entries": entries,
                "prevLogIdx": first - 1,
                "prevLogTerm": self._term_at(first - 1),
            },
        )

    def _forget(self, node: Any) -> None:
        super()._forget(node)
        self._flights.pop(node, None)

    def _send_snapshot(self, node: Any) -> None:
        """The log has forgotten what `node` needs next."""
        raise NotImplementedError

    def _advance(self, node: Any, next_index: int, *, success: bool) -> None:
        """See Handlers; then there is room for more, or another place to try."""
        before = self._SyncObj__raftNextIndex[node]
        super()._advance(node, next_index, success=success)
        if self._SyncObj__raftState != LEADER or node not in self._SyncObj__connectedNodes:
            return
        flight = self._flight_of(node)
        ahead = self._SyncObj__raftNextIndex[node]
        if success:
            flight.confirm(self._SyncObj__raftMatchIndex[node])
        elif flight.probing and ahead == before:
            return  # one of several answers that say the same
        else:
            flight.probe()
        if ahead <= self._SyncObj__raftLog.last_index:
            self._send(node, flight, self.now(), {})
