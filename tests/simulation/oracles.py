"""What must never be seen, whatever fails: Raft's own promises, and those made to callers.

one-leader            two replicas lead in one term
one-vote              a replica votes for two in one term, across restarts too
quorum                a replica leads without the votes of a majority of its group
configuration         a replica goes by another configuration than the last one in its log
not-durable           what a replica says, or counts itself for, is not on its disk
log-matching          entries of equal index and term differ, or what stands before them does
committed             a committed entry is another on another replica, or gone
state                 after a restart the state does not reach the beginning of the log
stale-leader          a replica goes on leading long after another was elected
cut-off               a leader that no majority has answered goes on leading
stale-read            a read misses a write acknowledged before it began, or what an earlier read saw
completeness          a new leader lacks an entry that was committed before its term
applied               replicas apply different bytes at one index
digests               their chains or contents differ at one index
history               the events that a replica keeps are not all there, or do not lead to its state
doubled               an attempt is carried out twice
expired               an attempt, or its session, is forgotten before its time
lost                  what a caller was told is not what the log says
invariants            the core's conservation laws
time                  the group's clock goes back
died                  a replica stopped itself, though its disk is well
liveness              the faults have stopped, and there is no progress, or replicas do not converge
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from raftalloc.core import codec, invariants
from raftalloc.core.rejections import KEY_EXPIRED
from raftalloc.raft.membership import MEMBERSHIP, decode, voters_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.core.commands import Origin
    from raftalloc.core.records import Outcome
    from raftalloc.service.engine import Decided, Engine
    from raftalloc.service.submit import Answer
    from tests.simulation.member import Life, SimStore

DIGEST_ENTRIES = 100
NEVER = 1 << 62


class Violated(Exception):
    """The run ends here: what follows a violation proves nothing."""

    def __init__(self, oracle: str, story: str) -> None:
        super().__init__(f"{oracle}: {story}")
        self.oracle = oracle
        self.story = story


@dataclass(slots=True)
class _Seen:
    """What was last seen of one replica's log: (term, digest) per entry, from index 1; first: that it still has.

    What it has forgotten stands here as it was committed.
    """

    entries: list[tuple[int, int]]
    commit: int = 1
    first: int = 1


class RaftOracle:
    """Looks at a replica's log, role and commit index after everything it does."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, bytes, int], str] = {}
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}
        self._committed: dict[int, tuple[int, int, int]] = {1: (0, crc32(b"\x01"), 0)}
        self._seen: dict[str, _Seen] = {}

    def restarted(self, replica_id: str) -> None:
        """It reads its disk again: of its log nothing may be taken for granted."""
        if replica_id in self._seen:
            self._seen[replica_id].commit = 1

    def wiped(self, replica_id: str) -> None:
        """It begins again with an empty disk."""
        self._seen.pop(replica_id, None)

    def look(self, life: Life) -> None:
        log = life.raft.log
        if log is None:
            return
        seen = self._seen.setdefault(life.replica_id, _Seen([]))
        self._follow(life, log._SyncObj__raftLog, seen)
        term, commit = log.term, log.commit_index
        if log.is_raft_leader and self.leaders.get(term) != life.replica_id:
            self._new_leader(life.replica_id, term, seen)
            self._was_elected(life, term)
        if commit > seen.commit:
            self._commits(life, term, commit, seen)

    def sent(self, life: Life, receiver: str, message: dict[str, Any]) -> None:
        """A vote is cast when it leaves, and must be on the disk; so must what is acknowledged."""
        kind, term, sender = message["type"], message.get("term", 0), life.replica_id
        journal = life.raft.log._SyncObj__raftLog
        disk_term, disk_vote = journal.durable_vote
        if kind in ("request_vote", "response_vote"):
            candidate = sender if kind == "request_vote" else receiver
            self._voted(sender, journal.incarnation, term, candidate)
            is_kept = disk_term > term or (disk_term, disk_vote) == (term, candidate)
        elif kind == "next_node_idx" and message["success"]:
            # In a later term its end may have been cut again.
            is_kept = disk_term > term or journal.durable_index >= message["next_node_idx"] - 1
        elif kind == "snapshot_answer" and message["taken"]:
            is_kept = disk_term > term or journal.durable_index >= message["next_node_idx"] - 1
        else:
            return
        if not is_kept:
            story = f"{sender} sends {kind} in term {term} to {receiver} before its disk has it"
            raise Violated("not-durable", story)

    def _was_elected(self, life: Life, term: int) -> None:
        """By voters of its configuration, on the disks that have the seats."""
        voters = [seat for seat in life.raft.members if seat.is_voter]
        votes = [
            seat.replica_id
            for seat in voters
            if self.votes.get((seat.replica_id, seat.incarnation, term)) == life.replica_id
        ]
        if 2 * len(votes) <= len(voters):
            story = f"{life.replica_id} leads in term {term} by {len(votes)} of {len(voters)} votes"
            raise Violated("quorum", story)

    def _voted(self, voter: str, incarnation: bytes, term: int, candidate: str) -> None:
        before = self.votes.setdefault((voter, incarnation, term), candidate)
        if before != candidate:
            raise Violated("one-vote", f"{voter} votes for {before} and {candidate} in term {term}")

    def _check_configuration(self, life: Life, begin: int, end: int) -> None:
        """Where the new entries hold one, the last of them is the one that counts."""
        journal = life.raft.log._SyncObj__raftLog
        for index in range(end, max(begin, journal.first_index - 1), -1):
            command = journal[index - journal.first_index][0]
            if command[:1] == MEMBERSHIP:
                if life.raft.members != decode(command[1:]):
                    story = f"{life.replica_id} does not go by the configuration of entry {index}"
                    raise Violated("configuration", story)
                return

    def _follow(self, life: Life, journal: Any, seen: _Seen) -> None:
        """Bring `seen` up to the journal; nothing is to be done where its last entry is the same."""
        entries, first, size = seen.entries, journal.first_index, journal.last_index
        replica_id = life.replica_id
        if first != seen.first:
            self._forgets(replica_id, journal, seen)
        if size == len(entries) and size and journal.term_at(size) == entries[-1][0]:
            return
        del entries[size:]
        at = size
        fresh: list[tuple[int, int]] = []
        while at >= first:
            data, _, term = journal[at - first]
            if at <= len(entries) and entries[at - 1][0] == term:
                break
            fresh.append((term, crc32(data)))
            at -= 1
        del entries[at:]
        entries.extend(reversed(fresh))
        self._check_configuration(life, at, size)
        for index in range(at + 1, size + 1):
            term, digest = entries[index - 1]
            before = entries[index - 2][0] if index > 1 else 0
            known = self._entries.setdefault((index, term), (digest, before))
            if known != (digest, before):
                story = f"entry {index} of term {term} is another on {replica_id} than elsewhere"
                raise Violated("log-matching", story)
        if size < seen.commit or any(
            self._committed.get(index, (term, 0, 0))[0] != term
            for index, term in enumerate((term for term, _ in entries[at : seen.commit]), at + 1)
        ):
            story = f"{replica_id} cut its log behind {at}, committed up to {seen.commit}"
            raise Violated("committed", story)

    def _forgets(self, replica_id: str, journal: Any, seen: _Seen) -> None:
        """Only what is committed may be forgotten, and the term that is remembered is that of its last entry."""
        before, first = seen.first, journal.first_index
        known = self._committed.get(first - 1, (0, 0, 0))
        if first > 1 and known[0] != journal.term_at(first - 1):
            story = f"{replica_id} forgets up to {first - 1}, of term {journal.term_at(first - 1)}, not as committed"
            raise Violated("committed", story)
        for index in range(min(before, len(seen.entries) + 1), first):
            if index not in self._committed:
                raise Violated("committed", f"{replica_id} forgets {index}, which is not committed")
            seen.entries[index - 1 : index] = [self._committed[index][:2]]
        seen.first = first

    def _new_leader(self, replica_id: str, term: int, seen: _Seen) -> None:
        other = self.leaders.setdefault(term, replica_id)
        if other != replica_id:
            raise Violated("one-leader", f"{other} and {replica_id} lead in term {term}")
        for index, (entry_term, digest, in_term) in self._committed.items():
            if in_term >= term:
                continue
            if index > len(seen.entries) or seen.entries[index - 1] != (entry_term, digest):
                story = f"{replica_id} leads in term {term} without entry {index}, committed in {in_term}"
                raise Violated("completeness", story)

    def _is_on_a_quorum(self, life: Life, commit: int) -> None:
        """A leader counts followers for what they acknowledged, and itself for what is durable."""
        log = life.raft.log
        if not log.is_raft_leader:
            return
        voters = voters_of(life.raft.members)
        held = {node.id for node, match in log._SyncObj__raftMatchIndex.items() if match >= commit}
        if log._SyncObj__raftLog.durable_index >= commit:
            held.add(life.replica_id)
        copies = len(voters & held)
        if 2 * copies <= len(voters):
            story = f"{life.replica_id} commits {commit} with {copies} of {len(voters)} copies"
            raise Violated("not-durable", story)

    def _commits(self, life: Life, term: int, commit: int, seen: _Seen) -> None:
        replica_id = life.replica_id
        if commit > len(seen.entries):
            story = f"{replica_id} commits up to {commit}, its log ends at {len(seen.entries)}"
            raise Violated("committed", story)
        self._is_on_a_quorum(life, commit)
        for index in range(seen.commit + 1, commit + 1):
            entry_term, digest = seen.entries[index - 1]
            known = self._committed.setdefault(index, (entry_term, digest, term))
            if known[:2] != (entry_term, digest):
                story = f"{replica_id} commits entry {index} of term {entry_term}, committed is that of {known[0]}"
                raise Violated("committed", story)
        seen.commit = commit


class LogOracle:
    """The one history: what was applied first at an index is what everybody must apply there."""

    def __init__(self, check_every: int, note: Callable[[str], None]) -> None:
        self.checked = 0
        self.last_index = 0
        self._check_every = check_every
        self._note = note
        self._entries: dict[int, int] = {}
        self._chains: dict[int, bytes] = {}
        self._contents: dict[int, str] = {}
        self._outcomes: dict[tuple[int, Origin], Outcome] = {}
        self._fresh: dict[Origin, int] = {}
        self._at_ms = 0
        self.acknowledged: list[tuple[int, Origin, Outcome]] = []
        self.callers_are_misled = False
        """By a leader with a bit that turned over: they may name sessions that never were."""
        self.known_index = 0
        """Highest index that somebody outside was told of, by an answer or a read."""

    def applied(self, life: Life, index: int, data: bytes) -> None:
        """After a replica applied, or skipped, an entry."""
        digest = crc32(data)
        if self._entries.setdefault(index, digest) != digest:
            story = f"{life.replica_id} applies another entry at {index} than was applied before"
            raise Violated("applied", story)
        engine = life.engine
        if engine.index != index:
            return  # it was in the event store, and is further already
        if self._chains.setdefault(index, engine.chain) != engine.chain:
            raise Violated("digests", f"the chain of {life.replica_id} differs at {index}")
        if index % DIGEST_ENTRIES == 0:
            self._compare_contents(life, index)

    def jumped(self, life: Life) -> None:
        """After a replica took another's state."""
        index = life.engine.index
        if self._chains.get(index) != life.engine.chain:
            raise Violated("digests", f"the chain of {life.replica_id} differs at {index}")
        self._compare_contents(life, index)

    def history(self, life: Life, store: SimStore) -> None:
        """At the end: every event since the first, each block behind the one before it."""
        chain, blocks = codec.CHAIN_START, store.all_blocks()
        for index, data in blocks:
            block = codec.decode_block(data)
            chain = codec.next_chain(chain, index, block.entry, block.events)
            if block.chain != chain:
                raise Violated("history", f"{life.replica_id} lacks events before {index}")
        head = blocks[-1][0] if blocks else 0
        if head == life.engine.index and chain != life.engine.chain:
            raise Violated("history", f"the events of {life.replica_id} do not lead to its state")

    def decided(self, engine: Engine, decided: Decided) -> None:
        """Of the first replica that decides an index: who was carried out, and whether the state is sound."""
        if decided.index <= self.last_index:
            return
        self.last_index = decided.index
        if decided.at_ms < self._at_ms:
            raise Violated("time", f"the group's clock goes back at index {decided.index}")
        self._at_ms = decided.at_ms
        for asked, outcome in zip(decided.asked, decided.outcomes, strict=True):
            origin = asked.origin
            if not origin.session and not origin.key:
                continue
            self._outcomes[decided.index, origin] = outcome
            if is_expired(outcome) and not self.callers_are_misled:
                # A run is shorter than what is kept, and a gap, or a clock that jumped, does not count.
                raise Violated("expired", f"{origin} is forgotten at {decided.index}")
            if outcome.replayed:
                continue
            before = self._fresh.setdefault(origin, decided.index)
            if before != decided.index:
                story = f"{origin} is carried out at {before} and again at {decided.index}"
                raise Violated("doubled", story)
        if decided.index % self._check_every == 0:
            self.checked += 1
            broken = invariants.check(engine.state)
            if broken:
                raise Violated("invariants", f"at index {decided.index}: {broken[0]}")

    def answered(self, origin: Origin, answer: Answer, outcome: Outcome) -> None:
        """A caller was told."""
        self.acknowledged.append((answer.index, origin, outcome))
        self.known_index = max(self.known_index, answer.index)
        if self._outcomes.get((answer.index, origin)) != outcome:
            raise Violated("lost", f"{origin} was told what was not decided at {answer.index}")

    def read(self, life: Life, known_index: int, index: int) -> None:
        """A read that began when `known_index` was known saw the state at `index`."""
        if index < known_index:
            story = f"a read on {life.replica_id} sees {index}, {known_index} was known before"
            raise Violated("stale-read", story)
        self.known_index = max(self.known_index, index)

    def final(self, lives: list[Life]) -> None:
        """All replicas stand at one index: their digests, and every word that was given."""
        index = lives[0].engine.index
        for life in lives:
            self._compare_contents(life, index)
            if self._chains.get(index, life.engine.chain) != life.engine.chain:
                raise Violated("digests", f"the chain of {life.replica_id} differs at {index}")
        for told_index, origin, outcome in self.acknowledged:
            was_done = is_expired(outcome) or self._fresh.get(origin, NEVER) <= told_index
            if told_index > index or not was_done:
                raise Violated(
                    "lost", f"{origin} was acknowledged at {told_index}, the log ends at {index}"
                )
        broken = invariants.check(lives[0].engine.state)
        if broken:
            raise Violated("invariants", f"at the end: {broken[0]}")

    def _compare_contents(self, life: Life, index: int) -> None:
        content = life.engine.digests()[2]
        if self._contents.setdefault(index, content) != content:
            raise Violated("digests", f"the content of {life.replica_id} differs at {index}")


def is_expired(outcome: Outcome) -> bool:
    """Neither carried out nor answered again: the attempt is too old to tell."""
    return outcome.rejection is not None and outcome.rejection.code == KEY_EXPIRED
