"""Who counts: voters, majorities, what is committed, and whether a leader still has its quorum.

What pysyncobj counts in its tick is not used (`Quorum.take_turn` stands in its place): it counts a leader for what is
not on its disk, and everybody who is there for a voter. The class is mixed into SyncObj beneath `handlers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2
STALL_ELECTIONS: Final = 4
"""A leader whose disk has taken nothing for so many of the longest elections makes room for another."""


class Quorum:
    """The part of a SyncObj that counts. Names beginning with `_SyncObj__` are pysyncobj's own."""

    _SyncObj__raftState: int
    _SyncObj__raftCurrentTerm: int
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftElectionDeadline: float
    _SyncObj__transferInProgress: bool
    _SyncObj__raftLeader: Any
    _SyncObj__leaderCommitIndex: Any
    _SyncObj__raftLog: Any
    _SyncObj__otherNodes: set[Any]
    _SyncObj__selfNode: Any
    _SyncObj__transport: Any
    _SyncObj__raftMatchIndex: dict[Any, int]
    _SyncObj__lastResponseTime: dict[Any, float]
    _SyncObj__newAppendEntriesTime: float
    _SyncObj__setState: Callable[[int], None]
    _SyncObj__setCurrentTerm: Callable[[int, Any], None]
    _SyncObj__onBecomeLeader: Callable[[], None]
    _SyncObj__applyLogEntries: Callable[[], bool]
    _SyncObj__sendAppendEntries: Callable[[], None]
    _SyncObj__generateRaftTimeout: Callable[[], float]
    conf: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._voters: tuple[int, set[Any]] = (0, set())
        self._moved: tuple[int, float] = (-1, 0.0)
        super().__init__(*arguments, **options)

    def now(self) -> float:
        """Seconds, on the clock that pysyncobj reads."""
        raise NotImplementedError

    def take_commands(self) -> None:
        """Append what was proposed, and send it; refuse it, where this replica does not lead."""
        raise NotImplementedError

    # Voters

    def _is_voter(self, _node: Any) -> bool:
        """Whether that other member has a vote."""
        return True

    def _is_voter_itself(self) -> bool:
        """Whether this replica has a vote."""
        return True

    def _may_lead(self) -> bool:
        """Whether this replica may stand for election."""
        return True

    def _counts_for_commit(self, node: Any) -> bool:
        """Whether what that member has counts."""
        return self._is_voter(node)

    def _voter_count(self) -> int:
        """All voters of the group."""
        voters = sum(1 for node in self._SyncObj__otherNodes if self._is_voter(node))
        return voters + self._is_voter_itself()

    def _with_itself(self, nodes: Iterable[Any]) -> int:
        """How many voters these and this replica are."""
        return sum(1 for node in nodes if self._is_voter(node)) + self._is_voter_itself()

    def _is_majority(self, votes: int) -> bool:
        """Whether so many voters are more than half."""
        return 2 * votes > self._voter_count()

    # A turn

    def take_turn(self) -> None:
        """What is due: stand, commit, step back, apply, send. In place of pysyncobj's `_onTick`."""
        if self._SyncObj__raftState != LEADER and self._SyncObj__raftElectionDeadline < self.now():
            if self._may_lead():
                self._stand()
            else:
                self._put_off_election()
        if self._SyncObj__raftState == LEADER:
            self._commit()
            self._step_down_alone()
            self._step_down_stuck()
        self._SyncObj__applyLogEntries()
        if self._SyncObj__raftState == LEADER and self.now() > self._SyncObj__newAppendEntriesTime:
            self._SyncObj__sendAppendEntries()
        self.take_commands()

    def _stand(self) -> None:
        """For election, in a new term."""
        self._put_off_election()
        self._SyncObj__transferInProgress = False
        self._SyncObj__raftLeader = None
        self._SyncObj__setState(CANDIDATE)
        term = self._SyncObj__raftCurrentTerm + 1
        self._SyncObj__setCurrentTerm(term, self._SyncObj__selfNode.id)
        self._voters = (term, set())
        index, last_term = self._last()
        for node in self._in_order():
            self._SyncObj__transport.send(
                node,
                {
                    "type": "request_vote",
                    "term": term,
                    "last_log_index": index,
                    "last_log_term": last_term,
                },
            )
        if self._is_majority(self._with_itself(())):
            self._SyncObj__onBecomeLeader()

    def _commit(self) -> None:
        """Up to what a majority has durably, if that is of this term (Raft 5.3, 5.4.2)."""
        match = self._SyncObj__raftMatchIndex
        matches = [
            match[node] for node in self._SyncObj__otherNodes if self._counts_for_commit(node)
        ]
        if self._is_voter_itself():
            matches.append(self._own_match())
        matches.sort()
        # The middle one, or the one below: a majority has at least as much.
        commit = matches[(len(matches) - 1) // 2] if matches else 0
        # Nor what only the others have: it could not answer its callers yet.
        commit = min(commit, self._own_match())
        if commit > self._SyncObj__raftCommitIndex and self._may_commit(commit):
            self._SyncObj__raftCommitIndex = commit
            self._SyncObj__raftLog.setRaftCommitIndex(commit)
        self._SyncObj__leaderCommitIndex = self._SyncObj__raftCommitIndex

    def _may_commit(self, index: int) -> bool:
        """Entries of older terms are committed by one of this term behind them."""
        return self._term_at(index) == self._SyncObj__raftCurrentTerm

    def _own_match(self) -> int:
        """What this leader counts itself for: the last index on its disk."""
        return int(self._SyncObj__raftLog.durable_index)

    def _step_down_alone(self) -> None:
        """A leader that no majority has answered for the longest election: another may have been elected by now."""
        if not self._has_heard_majority(self.conf.raftMaxTimeout):
            self._SyncObj__setState(FOLLOWER)
            self._SyncObj__raftLeader = None
            self._put_off_election()

    def _step_down_stuck(self) -> None:
        """A leader whose disk hangs: its heartbeats keep the others quiet, and nothing is answered.

        It cannot be elected again before its disk moves, since the wish to be voted for waits for that.
        """
        journal, now = self._SyncObj__raftLog, self.now()
        if journal.durable_mark != self._moved[0] or journal.durable_mark == journal.mark:
            self._moved = (journal.durable_mark, now)
        elif (
            self._SyncObj__raftState == LEADER
            and now - self._moved[1] > STALL_ELECTIONS * self.conf.raftMaxTimeout
            and not self._is_majority(self._with_itself(()))
        ):
            self._SyncObj__setState(FOLLOWER)
            self._SyncObj__raftLeader = None
            self._put_off_election()

    def _has_heard_majority(self, seconds: float) -> bool:
        """Whether a leader was answered by a majority within the last so many seconds."""
        since = self.now() - seconds
        heard = [node for node, at in self._SyncObj__lastResponseTime.items() if at > since]
        return self._is_majority(self._with_itself(heard))

    # What the parts share

    def _put_off_election(self) -> None:
        self._SyncObj__raftElectionDeadline = self.now() + self._SyncObj__generateRaftTimeout()

    def _in_order(self) -> list[Any]:
        """The other members, in the same order on every run."""
        return sorted(self._SyncObj__otherNodes, key=lambda node: str(node.id))

    def _last(self) -> tuple[int, int]:
        """Index and term of the last entry."""
        _, index, term = self._SyncObj__raftLog[-1]
        return index, term

    def _term_at(self, index: int) -> int:
        """Of an entry that our log holds, or of the one before its first; -1 where it does not."""
        return int(self._SyncObj__raftLog.term_at(index))
