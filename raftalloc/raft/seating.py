"""Who counts now: the configurations in this replica's log, the latest of which holds, and how a leader changes it.

A configuration holds from the moment it is appended, committed or not, and is undone with its entry. The next change is
refused until the last one is committed, and until the leader has committed an entry of its own term (Raft dissertation,
4.1, with the correction of 2015). A learner that keeps up is given its vote by the leader; a leader without a seat
steps down once that is committed.

What a member answers counts only if it comes from the data directory that has the seat (its incarnation). Requests are
answered whoever makes them: who leads, or stands, may have been added by entries that this replica does not have yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from raftalloc.errors import Rejected
from raftalloc.raft import membership
from raftalloc.raft.membership import CHANGE_UNDER_WAY, MEMBERSHIP, QUORUM_AT_RISK
from raftalloc.raft.quorum import FOLLOWER, LEADER
from raftalloc.raft.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Seat
    from raftalloc.raft.membership import Seats

logger = logging.getLogger(__name__)

ANSWERS: Final = ("next_node_idx", "response_vote", "pre_vote_answer", "snapshot_answer")
"""What counts for somebody, and so must come from the data directory that has the seat."""


@dataclass(slots=True)
class _Round:
    """A learner catches up with what the log was when the round began."""

    goal: int
    began: float


class Seating(Reading):
    """The part of a SyncObj that knows its group."""

    _SyncObj__raftNextIndex: dict[Any, int]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._configurations: list[tuple[int, Seats]] = []
        self._voting: frozenset[str] | None = None
        self._incarnations: dict[str, bytes] = {}
        self._heard_incarnations: dict[str, bytes] = {}
        self._rounds: dict[str, _Round] = {}
        self._left: list[Any] = []
        super().__init__(*arguments, **options)

    # Who is there

    @property
    def replica_id(self) -> str:
        """Of this replica."""
        return str(self._SyncObj__selfNode.id)

    @property
    def incarnation(self) -> bytes:
        """Of this replica's data directory."""
        return b""

    @property
    def seats(self) -> Seats:
        """The configuration that holds here; empty before there is one."""
        return self._configurations[-1][1] if self._configurations else ()

    def members_at(self, index: int) -> bytes:
        """The configuration as of an entry, for a snapshot; empty where there was none yet."""
        found: Seats = ()
        for since, seats in self._configurations:
            if since <= index:
                found = seats
        return membership.encode(found) if found else b""

    def restore_members(self, index: int, members: bytes) -> None:
        """A snapshot of `index` has taken the place of the log up to there."""
        if members:
            last = self._SyncObj__raftLog.last_index
            later = [each for each in self._configurations if index < each[0] <= last]
            self._configurations = [(index, membership.decode(members)), *later]
            self.take_seats()

    def find_members(self) -> None:
        """Once, when the log has been read: what it says."""
        log = self._SyncObj__raftLog
        if log.base_members:
            found = membership.decode(log.base_members)
            self._configurations = [(log.first_index - 1, found)]
        for command, index, _ in log[:]:
            if command[:1] == MEMBERSHIP:
                self._configurations.append((index, membership.decode(command[1:])))
        self.take_seats()

    def _appended(self, command: bytes, index: int) -> None:
        """An entry that a follower takes into its log."""
        if command[:1] == MEMBERSHIP:
            self._configurations.append((index, membership.decode(command[1:])))
            self.take_seats()

    def _cut(self, index: int) -> None:
        """The log was cut off from there on."""
        if self._configurations and self._configurations[-1][0] >= index:
            kept = [each for each in self._configurations if each[0] < index]
            self._configurations = kept
            self.take_seats()

    def take_seats(self) -> None:
        """Speak to those, and count those, that the latest configuration names."""
        if not self._configurations:
            return
        seats = {seat.replica_id: seat for seat in self.seats}
        before, self._voting = self._incarnations, membership.voters_of(self.seats)
        self._incarnations = {name: seat.incarnation for name, seat in seats.items()}
        for node in self._in_order():
            if node.id not in seats:
                self._SyncObj__otherNodes.discard(node)
                self._forget(node)
            elif self._incarnations[node.id] not in (
                before.get(node.id, b""),
                self._heard_incarnations.get(node.id, b""),
            ):
                self._forget(node)
        here = {node.id: node for node in self._SyncObj__otherNodes}
        for name, seat in seats.items():
            if name == self.replica_id:
                continue
            if name not in here:
                node = self.node_of(seat)
                self._left = [each for each in self._left if each != node]
                self._SyncObj__otherNodes.add(node)
                self._welcome(node)
        self.on_seats()

    def node_of(self, seat: Seat) -> Any:
        """The node of a member, known to the transport."""
        raise NotImplementedError

    def is_named(self, node: Any) -> bool:
        """Whether this replica's own file names it: an entry of long ago may not yet know it."""
        raise NotImplementedError

    def on_seats(self) -> None:
        """The configuration has changed."""

    def _welcome(self, node: Any) -> None:
        """Nothing is known of what it has."""
        self._SyncObj__raftNextIndex[node] = self._last()[0] + 1
        self._SyncObj__raftMatchIndex[node] = 0
        self._SyncObj__lastResponseTime[node] = self.now()

    def _forget(self, node: Any) -> None:
        """What it confirmed is of no worth any more."""
        self._heard_incarnations.pop(node.id, None)
        self._rounds.pop(node.id, None)
        self._echoes.pop(node, None)
        self._voters[1].discard(node)
        if node in self._SyncObj__otherNodes:
            self._welcome(node)
            return
        self._left.append(node)
        self._SyncObj__raftNextIndex.pop(node, None)
        self._SyncObj__raftMatchIndex.pop(node, None)
        self._SyncObj__lastResponseTime.pop(node, None)

    def drop_links(self) -> None:
        """To those that are gone, once that is committed; who leads is heard to the end."""
        gone = [node for node in self._left if node != self._SyncObj__raftLeader]
        self._left = [node for node in self._left if node not in gone]
        for node in gone:
            if not self.is_named(node):
                self._SyncObj__transport.dropNode(node)

    def progress(self) -> dict[str, tuple[int, float]]:
        """Of each other member: the last index that it has confirmed, and seconds since it answered."""
        now, heard = self.now(), self._SyncObj__lastResponseTime
        return {
            str(node.id): (self._SyncObj__raftMatchIndex.get(node, 0), now - heard.get(node, now))
            for node in self._in_order()
        }

    # Who counts

    def _is_voter(self, node: Any) -> bool:
        return self._voting is None or node.id in self._voting

    def _is_voter_itself(self) -> bool:
        return self._voting is None or self.replica_id in self._voting

    def _may_lead(self) -> bool:
        """Only a voter stands, in the data directory that has the vote."""
        if self._voting is None:
            return False
        seat = self._incarnations.get(self.replica_id, b"")
        return self.replica_id in self._voting and seat in (b"", self.incarnation)

    def _may_vote(self) -> bool:
        """Whether this replica knows a configuration: before, it may be one that has forgotten what it voted."""
        return bool(self._configurations)

    def _counts(self, node: Any, message: dict[str, Any]) -> bool:
        """Whether an answer is of a member, and of the data directory that has its seat."""
        if node not in self._SyncObj__otherNodes:
            return False
        if not self._has_seat(node, message.get("inc", b"")):
            return False
        heard = message.get("inc", b"")
        if self._heard_incarnations.setdefault(node.id, heard) != heard:
            # A learner whose disk was emptied once more.
            self._forget(node)
            self._heard_incarnations[node.id] = heard
        return True

    def _has_seat(self, node: Any, incarnation: bytes) -> bool:
        """A seat that is nobody's yet is for whoever comes."""
        return self._incarnations.get(node.id, b"") in (b"", incarnation)

    # Changes, on the leader

    def check_change(self) -> None:
        """Raises Rejected while a change is under way."""
        since = self._configurations[-1][0] if self._configurations else 0
        if self._is_changing(since):
            raise Rejected(
                CHANGE_UNDER_WAY,
                f"the change at index {since} is not committed yet",
                remedy="try again in a moment",
            )

    def _is_changing(self, since: int) -> bool:
        return since > self._SyncObj__raftCommitIndex

    def check_quorum(self, seats: Seats) -> None:
        """Raises Rejected where those who would vote are not there to do it."""
        voters = membership.voters_of(seats)
        since = self.now() - self.conf.raftMaxTimeout
        there = {node.id for node, at in self._SyncObj__lastResponseTime.items() if at > since}
        there = (there | {self.replica_id}) & voters
        if 2 * len(there) <= len(voters):
            raise Rejected(
                QUORUM_AT_RISK,
                f"of the {len(voters)} that would vote then, only {len(there)} answer",
                field="replica_id",
                remedy="start the others first",
                numbers={"voters": len(voters), "answering": len(there)},
            )

    def change_seats(self, seats: Seats, answer: Callable[[object, int], None] | None) -> int:
        """Append a configuration; it holds at once. Only on a leader, after `check_change`."""
        term, index = self._SyncObj__raftCurrentTerm, self._last()[0] + 1
        command = MEMBERSHIP + membership.encode(seats)
        self._SyncObj__raftLog.add(command, index, term)
        if answer is not None:
            self.call_back(index, term, answer)
        self._configurations.append((index, seats))
        self.take_seats()
        self._SyncObj__sendAppendEntries()
        return index

    def call_back(self, index: int, term: int, answer: Callable[[object, int], None]) -> None:
        """Once the entry is applied, or another in its place."""
        raise NotImplementedError

    def look_after_members(self) -> None:
        """On a leader, every turn: give votes to learners that keep up; go, where the seat is gone."""
        if self._SyncObj__raftState != LEADER or not self._configurations:
            return
        if self._is_changing(self._configurations[-1][0]):
            return
        if self.replica_id not in self._incarnations:
            self._leave()
            return
        for node in self._in_order():
            if not self._is_voter(node) and self._keeps_up(node):
                logger.info("replica %s has caught up: it votes from now on", node.id)
                incarnation = self._heard_incarnations.get(node.id, b"")
                self.change_seats(membership.promoted(self.seats, node.id, incarnation), None)
                return

    def _leave(self) -> None:
        """The configuration without this replica is committed: whoever has all of the log takes over."""
        logger.info("replica %s is no member any more: it steps down", self.replica_id)
        self.hand_over()
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None

    def hand_over(self, to_replica_id: str = "") -> bool:
        """Tell a voter that has all of the log to stand, that one if named; False where there is none."""
        last, match = self._last()[0], self._SyncObj__raftMatchIndex
        for node in self._in_order():
            is_wanted = to_replica_id in ("", node.id)
            if is_wanted and self._is_voter(node) and match.get(node, 0) == last:
                message = {"type": "timeout_now", "term": self._SyncObj__raftCurrentTerm}
                return bool(self._SyncObj__transport.send(node, message))
        return False

    def _keeps_up(self, node: Any) -> bool:
        """In rounds: it has what the log was at the round's beginning, and that took less than an election."""
        if (
            node.id not in self._heard_incarnations
            or self._term_at(self._SyncObj__raftCommitIndex) != self._SyncObj__raftCurrentTerm
        ):
            return False
        now, match = self.now(), self._SyncObj__raftMatchIndex[node]
        current = self._rounds.get(node.id)
        if current is None or match >= current.goal:
            if current is not None and now - current.began < self.conf.raftMinTimeout:
                return True
            self._rounds[node.id] = _Round(self._last()[0], now)
        return False
