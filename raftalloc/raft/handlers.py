"""Raft's message handlers, corrected: what pysyncobj does with appends, their answers, and votes is not used.

Each correction is a method of its own, so that the simulator can take it away again and show what then goes wrong
(tests/simulation/mutants.py; the table is in docs/consensus.md). The numbers are those of that table.

S1  A follower commits what this message verified against the leader's log, and not all that it has.
S2  A follower cuts its log only where an entry conflicts, and never at or below its commit index.
S3  Answers carry the term. Those of other terms are ignored; none takes back what was confirmed before.
S12 Votes are collected by voter, and only while standing in that term.
A2  Before a replica stands it asks whether anybody would vote for it; who hears a leader says no (pre-vote).
A3  Where logs differ, all of a conflicting term is stepped over at once.

Messages are dictionaries; `type` says what they are. To those of pysyncobj come `pre_vote` and `pre_vote_answer`, and
`next_node_idx` has a `term`. The class is mixed into pysyncobj's SyncObj by `replica.py`, the only module to import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftalloc.errors import DataDirectoryError
from raftalloc.raft.founding import GREETING, Founding
from raftalloc.raft.quorum import CANDIDATE, FOLLOWER, LEADER
from raftalloc.raft.seating import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Message = dict[str, Any]
LogEntry = tuple[bytes, int, int]
"""Command, index, term."""

BEGINNING: Final = 1
"""Every log begins with the same entry at this index: there is nothing to go back behind."""


class Handlers(Founding):
    """The part of a SyncObj that answers messages. Names beginning with `_SyncObj__` are pysyncobj's own."""

    _SyncObj__votedForNodeId: Any
    _SyncObj__deleteEntriesFrom: Callable[[int], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._supporters: tuple[int, set[Any]] = (0, set())
        self._may_stand = False
        self._heard_at = float("-inf")
        super().__init__(*arguments, **options)

    def handle(self, node: Any, message: Message) -> None:
        """A message of another replica; what is of no known type is dropped, and answers of who has no seat."""
        kind = message["type"]
        if kind in ANSWERS and not self._counts(node, message):
            return
        if kind == "append_entries":
            self._on_append(node, message)
        elif kind == "next_node_idx":
            self._on_append_answer(node, message)
        elif kind == "request_vote":
            self._on_vote_asked(node, message)
        elif kind == "response_vote":
            self._on_vote(node, message)
        elif kind == "pre_vote":
            self._on_pre_vote_asked(node, message)
        elif kind == "pre_vote_answer":
            self._on_pre_vote(node, message)
        elif kind == "timeout_now":
            self._on_timeout_now(node, message)
        elif kind == GREETING:
            self._on_greeting(node, message)
        else:
            self.handle_other(node, message)

    def handle_other(self, node: Any, message: Message) -> None:
        """What is not about appending or voting; here nothing."""

    # Appending, on a follower

    def _on_append(self, node: Any, message: Message) -> None:
        if message["term"] < self._SyncObj__raftCurrentTerm:
            # The term in the answer makes a deposed leader step back.
            self._answer_append(node, message, self._last()[0] + 1, success=False)
            return
        self._follow(node, message)
        if "prevLogIdx" not in message or "transmission" in message:
            return  # a snapshot, or a part of an entry: nothing here ever sends one
        previous, entries = message["prevLogIdx"], message["entries"]
        retry_at = self._mismatch(previous, message["prevLogTerm"])
        if retry_at:
            self._answer_append(node, message, retry_at, success=False)
            return
        self._take(previous, entries)
        verified = previous + len(entries)
        self._answer_append(node, message, verified + 1, success=True)
        commit = min(message["commit_index"], self._committable(verified))
        if commit > self._SyncObj__raftCommitIndex:
            self._SyncObj__raftCommitIndex = commit
            self._SyncObj__raftLog.setRaftCommitIndex(commit)

    def _follow(self, node: Any, message: Message) -> None:
        """This is the leader of its term, which is ours at the least."""
        if message["term"] > self._SyncObj__raftCurrentTerm:
            self._SyncObj__transferInProgress = False
            self._SyncObj__setCurrentTerm(message["term"], None)
        if not self._SyncObj__transferInProgress:
            # Else the leader that stands back would put off the election that it asked for.
            self._put_off_election()
        self._heard_at = self.now()
        self._may_stand = False
        self._SyncObj__raftLeader = node
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__leaderCommitIndex = message["commit_index"]

    def _mismatch(self, previous: int, previous_term: int) -> int:
        """0 where our log holds that entry; else the index from which the leader should try again.

        What a snapshot has is committed, so whoever leads has the same.
        """
        if previous < self._SyncObj__raftLog.first_index - 1:
            return 0
        last = self._last()[0]
        if previous > last:
            return last + 1
        term = self._term_at(previous)
        if term == previous_term:
            return 0
        commit = self._SyncObj__raftCommitIndex
        index = previous
        while index - 1 > commit and self._term_at(index - 1) == term:
            index -= 1
        return max(index, commit + 1)

    def _take(self, previous: int, entries: Sequence[LogEntry]) -> None:
        """Append what we do not have. What we have and matches stays: the message may be an old one."""
        assert not entries or entries[0][1] == previous + 1, "entries follow what was verified"
        first, last = self._SyncObj__raftLog.first_index, self._last()[0]
        for command, index, term in entries:
            if index <= last:
                if index < first or self._term_at(index) == term:
                    continue
                self._cut_from(index)
                last = index - 1
            self._SyncObj__raftLog.add(command, index, term)
            self._appended(command, index)
            last = index

    def _cut_from(self, index: int) -> None:
        """Drop a conflicting end of the log; what is committed cannot conflict, so then the log is damaged."""
        if index <= self._SyncObj__raftCommitIndex:
            raise DataDirectoryError(
                f"entry {index} of the log is committed, and the leader has another one: "
                "this replica's log has been damaged; replace the replica"
            )
        self._SyncObj__deleteEntriesFrom(index)
        self._cut(index)

    def _committable(self, verified: int) -> int:
        """Behind `verified` there may be entries of another term that the leader is yet to replace."""
        return verified

    def _answer_append(
        self, node: Any, message: Message, next_index: int, *, success: bool
    ) -> None:
        self._SyncObj__transport.send(
            node,
            {
                "type": "next_node_idx",
                "term": self._SyncObj__raftCurrentTerm,
                "next_node_idx": next_index,
                "reset": not success,
                "success": success,
                "round": message.get("round", 0),
                **self._also_answered(),
            },
        )

    def _also_answered(self) -> Message:
        """What an answer to an append says besides."""
        return {}

    # The answers, on the leader

    def _on_append_answer(self, node: Any, message: Message) -> None:
        if not self._is_of_this_term(message) or self._SyncObj__raftState != LEADER:
            return
        self._SyncObj__lastResponseTime[node] = self.now()
        self._advance(node, message["next_node_idx"], success=message["success"])
        self._heard_round(node, message.get("round", 0))

    def _is_of_this_term(self, message: Message) -> bool:
        """A higher one deposes us; a lower one speaks of a log that may have been cut since."""
        if message["term"] > self._SyncObj__raftCurrentTerm:
            self._step_back(message["term"])
        return bool(message["term"] == self._SyncObj__raftCurrentTerm)

    def _advance(self, node: Any, next_index: int, *, success: bool) -> None:
        """Within a term a follower's log never loses what it confirmed: whatever says less is older."""
        match, ahead = self._SyncObj__raftMatchIndex, self._SyncObj__raftNextIndex
        next_index = min(next_index, self._last()[0] + 1)
        if success:
            match[node] = max(match[node], next_index - 1)
            ahead[node] = max(ahead[node], next_index)
        else:
            lowest = max(match[node], BEGINNING) + 1
            ahead[node] = max(lowest, min(ahead[node], next_index))

    # Votes

    def _on_vote_asked(self, node: Any, message: Message) -> None:
        if message["term"] > self._SyncObj__raftCurrentTerm:
            self._step_back(message["term"])
        if message["term"] < self._SyncObj__raftCurrentTerm or self._SyncObj__raftState == LEADER:
            return
        if not self._has_all_of_ours(message) or not self._is_vote_free(node):
            return
        if not self._may_vote():
            return
        self._SyncObj__setCurrentTerm(message["term"], node.id)
        self._put_off_election()
        self._SyncObj__transport.send(node, {"type": "response_vote", "term": message["term"]})

    def _has_all_of_ours(self, message: Message) -> bool:
        """Only then it has every entry that is committed."""
        index, term = self._last()
        return bool((message["last_log_term"], message["last_log_index"]) >= (term, index))

    def _is_vote_free(self, node: Any) -> bool:
        """One vote a term; who has it already may be told again."""
        return self._SyncObj__votedForNodeId in (None, node.id)

    def _on_vote(self, node: Any, message: Message) -> None:
        term = self._SyncObj__raftCurrentTerm
        if self._SyncObj__raftState != CANDIDATE or message["term"] != term:
            return
        if self._voters[0] != term:
            self._voters = (term, set())
        self._voters[1].add(node)
        if self._is_majority(self._votes_of(node)):
            self._SyncObj__onBecomeLeader()

    def _votes_of(self, _node: Any) -> int:
        """How many voters stand behind us, with ourselves."""
        return self._with_itself(self._voters[1])

    def _on_timeout_now(self, node: Any, message: Message) -> None:
        """The leader stands back for us."""
        if (
            message["term"] == self._SyncObj__raftCurrentTerm
            and node == self._SyncObj__raftLeader
            and self._SyncObj__raftState == FOLLOWER
            and self._may_lead()
        ):
            self._SyncObj__raftElectionDeadline = 0
            self._SyncObj__transferInProgress = True

    # Pre-vote

    def ask_before_standing(self) -> None:
        """Before each tick: an election that is due begins with the question who would support it."""
        if (
            self._SyncObj__raftState == LEADER
            or self._SyncObj__raftElectionDeadline >= self.now()
            or self._SyncObj__transferInProgress
            or (self._may_lead() and self._is_majority(self._with_itself(())))
        ):
            return
        if not self._may_lead():
            self._put_off_election()
            return
        if self._may_stand:
            self._may_stand = False
            return  # this tick stands for election
        self._put_off_election()
        term = self._SyncObj__raftCurrentTerm + 1
        index, last_term = self._last()
        self._supporters = (term, set())
        for node in self._in_order():
            self._SyncObj__transport.send(
                node,
                {
                    "type": "pre_vote",
                    "term": term,
                    "last_log_index": index,
                    "last_log_term": last_term,
                },
            )

    def _on_pre_vote_asked(self, node: Any, message: Message) -> None:
        current = self._SyncObj__raftCurrentTerm
        granted = (
            message["term"] > current
            and not self._hears_leader()
            and self._may_vote()
            and self._has_all_of_ours(message)
        )
        self._SyncObj__transport.send(
            node,
            {
                "type": "pre_vote_answer",
                "term": message["term"],
                "granted": granted,
                "current": current,
            },
        )

    def _hears_leader(self) -> bool:
        """Whether the group is led, as far as we know: then nobody needs to stand."""
        if self._SyncObj__raftState == LEADER:
            return self._has_heard_majority(self.conf.raftMinTimeout)
        return bool(self._heard_at > self.now() - self.conf.raftMinTimeout)

    def _on_pre_vote(self, node: Any, message: Message) -> None:
        if message["current"] > self._SyncObj__raftCurrentTerm:
            self._step_back(message["current"])
            return
        term, supporters = self._supporters
        if (
            not message["granted"]
            or not message["term"] == term == self._SyncObj__raftCurrentTerm + 1
            or self._SyncObj__raftState == LEADER
        ):
            return
        supporters.add(node)
        if self._is_majority(self._with_itself(supporters)):
            self._supporters = (0, set())
            self._may_stand = True
            self._SyncObj__raftElectionDeadline = 0

    # What they share

    def _step_back(self, term: int) -> None:
        """Somebody is in a higher term. Who leads there is not known yet."""
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
        self._may_stand = False
