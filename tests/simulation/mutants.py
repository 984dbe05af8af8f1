"""Corrections taken away again, one at a time: a simulator that does not notice proves nothing.

`stock` takes away all of `raftalloc/raft/handlers.py`: what is left is pysyncobj 0.3.17 as it comes. `faults` are those
under which a mutant shows soonest; the others are drawn as well when they are asked for by name.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pysyncobj import SyncObj

from raftalloc.core import machine
from raftalloc.core.sessions import Sessions
from raftalloc.raft import replica
from raftalloc.raft.gate import Gate
from raftalloc.raft.handlers import Handlers
from raftalloc.raft.installing import Installing
from raftalloc.raft.journal import Journal
from raftalloc.raft.offering import Offering
from raftalloc.raft.quorum import LEADER, Quorum
from raftalloc.raft.reading import Reading
from raftalloc.raft.seating import Seating
from raftalloc.raft.sending import Sending
from raftalloc.service import digests
from raftalloc.service.clock import ClusterClock
from raftalloc.service.engine import Engine
from raftalloc.service.images import Images
from tests.simulation import faults
from tests.simulation import mutants_snapshots as snapshots
from tests.simulation.disk import SimulatedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG: Any = replica._Log
WIRE = (faults.LOSS, faults.SLOW, faults.ONE_WAY, faults.ISOLATE, faults.AIM)
TAILS = (faults.FLOOD, faults.ISOLATE, faults.ONE_WAY, faults.SLOW, faults.KILL)
CUTS = (faults.ISOLATE, faults.ONE_WAY, faults.RING, faults.PAUSE, faults.SLOW, faults.BREAK)
CUTS_OF_POWER = (faults.POWER, faults.KILL_ALL, faults.SLOW_DISK, faults.AIM)
CHANGES = (*faults.CHANGES, faults.ISOLATE, faults.KILL, faults.SLOW, faults.ONE_WAY)
WIPES = (faults.LOST_DISK, faults.ISOLATE, faults.SLOW, faults.AIM, faults.FLOOD)
SNAPSHOTS = (faults.AWAY, faults.WIPE, faults.KILL, faults.POWER, faults.AIM, faults.SLOW)
KILLS = (faults.KILL, faults.KILL_ALL, faults.AIM, faults.ISOLATE, faults.SLOW)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`patches`: (owner, attribute, what stands there instead)."""

    name: str
    defect: str
    says: str
    patches: tuple[tuple[Any, str, Any], ...]
    faults: tuple[str, ...]


def _commit_all(self: Any, verified: int) -> int:
    return int(self._last()[0])


def _cut_always(self: Any, previous: int, entries: Any) -> None:
    if previous < self._last()[0]:
        self._SyncObj__deleteEntriesFrom(previous + 1)
    for entry in entries:
        self._SyncObj__raftLog.add(*entry)


def _any_term(self: Any, message: Any) -> bool:
    return True


def _rewind(self: Any, node: Any, next_index: int, *, success: bool) -> None:
    """As the stock engine, but that a success takes back as well."""
    if success:
        self._SyncObj__raftMatchIndex[node] = next_index - 1
    self._SyncObj__raftNextIndex[node] = min(next_index, self._last()[0] + 1)


def _no_cut(self: Any, previous: int, entries: Any) -> None:
    """What is in the way stays."""
    last = self._last()[0]
    for entry in entries:
        if entry[1] > last:
            self._SyncObj__raftLog.add(*entry)


def _count_votes(self: Any, node: Any) -> int:
    """A vote that comes twice counts twice."""
    self._voters[1].add((node, self.now(), len(self._voters[1])))
    return 1 + len({voter for voter in self._voters[1] if isinstance(voter, tuple)})


def _vote_in_memory(self: Any, term: int, voted_for: Any) -> None:
    self._SyncObj__raftCurrentTerm = term
    self._SyncObj__votedForNodeId = voted_for
    if voted_for is None or voted_for == self.selfNode.id:
        self._SyncObj__raftLog.setCurrentTerm(term, voted_for)


def _stand_at_once(self: Any) -> None:
    """No pre-vote."""


def _commit_early(self: Any) -> None:
    """A leader commits what one replica less than a majority has."""
    if self._SyncObj__raftState == LEADER:
        last = self._last()[0]
        if self._SyncObj__raftCommitIndex < last:
            self._SyncObj__raftCommitIndex = last
            self._SyncObj__raftLog.setRaftCommitIndex(last)
    _ASK(self)


def _take_committed_seats(self: Any) -> None:
    commit = self._SyncObj__raftCommitIndex
    every = self._configurations
    self._configurations = [each for each in every if each[0] <= commit] or every[:1]
    _TAKE_SEATS(self)
    self._configurations = every


_TAKE_SEATS = Seating.take_seats
_ASK = Handlers.ask_before_standing


def _wall_clock(self: Any, applied_ms: int) -> int:
    return int(self._clock.wall_ms())


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant(
            "commit-unverified",
            "S1",
            "a follower commits all that it has",
            ((Handlers, "_committable", _commit_all),),
            TAILS,
        ),
        Mutant(
            "cut-always",
            "S2",
            "a follower cuts its log behind every message",
            ((Handlers, "_take", _cut_always),),
            WIRE,
        ),
        Mutant(
            "never-cut",
            "S2",
            "a follower keeps entries that conflict",
            ((Handlers, "_take", _no_cut),),
            CUTS,
        ),
        Mutant(
            "answers-of-any-term",
            "S3",
            "an answer of another term counts",
            ((Handlers, "_is_of_this_term", _any_term),),
            WIRE,
        ),
        Mutant(
            "answers-rewind",
            "S3",
            "an older answer takes back a newer one",
            ((Handlers, "_advance", _rewind), (Handlers, "_take", _cut_always)),
            WIRE,
        ),
        Mutant(
            "votes-counted",
            "S12",
            "a vote that comes twice counts twice",
            ((Handlers, "_votes_of", _count_votes),),
            (faults.LOSS, faults.AIM, faults.KILL, faults.ISOLATE),
        ),
        Mutant(
            "vote-not-kept",
            "S4",
            "a vote is forgotten by a restart",
            ((SyncObj, "_SyncObj__setCurrentTerm", _vote_in_memory),),
            KILLS,
        ),
        Mutant(
            "no-sync",
            "S5",
            "nothing is synced",
            ((SimulatedFile, "sync", lambda self: None),),
            CUTS_OF_POWER,
        ),
        Mutant(
            "no-gate",
            "S5",
            "votes and answers leave before they are durable",
            ((Gate, "send", lambda self, node, message: self._transport.send(node, message)),),
            CUTS_OF_POWER,
        ),
        Mutant(
            "counts-itself",
            "S5",
            "a leader counts itself for what is not durable on it",
            ((Quorum, "_own_match", lambda self: self._last()[0]),),
            CUTS_OF_POWER,
        ),
        Mutant(
            "votes-twice",
            "Raft 5.2",
            "a replica votes for whoever asks",
            ((Handlers, "_is_vote_free", lambda self, node: True),),
            CUTS,
        ),
        Mutant(
            "votes-for-the-short",
            "Raft 5.4.1",
            "a replica votes for who lacks entries",
            ((Handlers, "_has_all_of_ours", lambda self, message: True),),
            KILLS,
        ),
        Mutant(
            "no-consistency-check",
            "Raft 5.3",
            "entries are appended behind others than the leader's",
            ((Handlers, "_mismatch", lambda self, previous, term: 0),),
            CUTS,
        ),
        Mutant(
            "commit-alone",
            "Raft 5.3",
            "a leader commits what nobody else has",
            ((Handlers, "ask_before_standing", _commit_early),),
            KILLS,
        ),
        Mutant(
            "false-leader",
            "A1",
            "a leader that reaches nobody leads on",
            ((Quorum, "_step_down_alone", lambda self: None),),
            (faults.ISOLATE, faults.RING),
        ),
        Mutant(
            "read-without-quorum",
            "Raft 8",
            "a leader answers reads without asking whether it still leads",
            ((Reading, "_confirmed_round", lambda self: self._round + 1),),
            (faults.ISOLATE, faults.PAUSE, faults.RING, faults.DRIFT),
        ),
        Mutant(
            "no-pre-vote",
            "A2",
            "a replica that comes back deposes the leader",
            ((Handlers, "ask_before_standing", _stand_at_once),),
            (faults.ISOLATE,),
        ),
        Mutant(
            "two-changes-at-once",
            "S9",
            "a change of the group does not wait for the last one",
            (
                (Seating, "_is_changing", lambda self, since: False),
                (Seating, "check_quorum", lambda self, seats: None),
            ),
            CHANGES,
        ),
        Mutant(
            "learner-votes",
            "Raft 4.2.1",
            "a learner's vote counts",
            ((Handlers, "_votes_of", lambda self, node: 1 + len(self._voters[1])),),
            CHANGES,
        ),
        Mutant(
            "learner-counts",
            "Raft 4.2.1",
            "what a learner has counts for a commit",
            ((Quorum, "_counts_for_commit", lambda self, node: True),),
            CHANGES,
        ),
        Mutant(
            "config-applied-on-commit-only",
            "Raft 4.1",
            "a configuration counts once it is committed",
            ((Seating, "take_seats", _take_committed_seats),),
            CHANGES,
        ),
        Mutant(
            "fresh-votes",
            "S4",
            "a replica that lost its disk votes as if nothing had been",
            (
                (Seating, "_has_seat", lambda self, node, incarnation: True),
                (Seating, "_may_vote", lambda self: True),
            ),
            WIPES,
        ),
        Mutant(
            "snapshot-clears-log",
            "S13",
            "installing a snapshot drops what follows it",
            ((Journal, "install", snapshots.clear_always),),
            SNAPSHOTS,
        ),
        Mutant(
            "older-snapshot-wins",
            "S14",
            "a snapshot is installed though there is more",
            ((Installing, "_lacks", lambda self, index: True),),
            (faults.AWAY, faults.LOSS, faults.SLOW, faults.AIM),
        ),
        Mutant(
            "compact-unsynced",
            "design 9.3",
            "the log forgets what no synced snapshot has",
            ((Engine, "_queue_snapshot", snapshots.compact_unsynced),),
            (faults.POWER, faults.KILL_ALL, faults.KILL),
        ),
        Mutant(
            "install-unkept",
            "Raft 7",
            "a snapshot is installed that is not on the disk",
            ((Images, "keep", snapshots.keep_in_memory),),
            SNAPSHOTS,
        ),
        Mutant(
            "apply-while-installing",
            "Raft 7",
            "entries are applied while the state is about to be replaced",
            ((Installing, "is_paused", property(lambda self: bool(self._wants))),),
            (*SNAPSHOTS, faults.KILL_ALL, faults.ISOLATE),
        ),
        Mutant(
            "leads-without-state",
            "S8",
            "a replica without state stands for election",
            ((Installing, "ask_before_standing", Offering.ask_before_standing),),
            (faults.WIPE, faults.KILL, faults.KILL_ALL),
        ),
        Mutant(
            "no-snapshots-sent",
            "Raft 7",
            "who is behind the log is left there",
            ((Offering, "_send_snapshot", snapshots.keep_quiet),),
            (faults.AWAY, faults.KILL),
        ),
        Mutant(
            "transfer-begins-anew",
            "A3",
            "a compaction takes no transfer into account",
            ((Offering, "compact", snapshots.begin_transfers_anew),),
            (faults.AWAY, faults.SLOW),
        ),
        Mutant(
            "no-window",
            "A8",
            "whatever is behind is sent at once",
            ((Sending, "_may_send", lambda self, flight: True),),
            (faults.AWAY, faults.SLOW),
        ),
        Mutant(
            "no-idempotency",
            "law 7",
            "a retry is repeated, not answered",
            ((machine, "recall", lambda state, asked: None),),
            KILLS,
        ),
        Mutant(
            "wall-clock",
            "law 4",
            "entries are stamped with the machine's wall clock",
            ((ClusterClock, "stamp", _wall_clock),),
            (faults.JUMP, faults.KILL),
        ),
        Mutant(
            "gap-not-given-back",
            "law 4",
            "a time in which nobody led counts for sessions",
            ((Sessions, "give_back", lambda self, gap_ms, now_ms: None),),
            (faults.JUMP, faults.KILL),
        ),
        Mutant(
            "no-alarm",
            "alarm",
            "nobody compares digests, and a bit has turned over",
            ((digests, "judge", lambda own, others, needed: digests.Judgement.AGREED),),
            (faults.FLIP, faults.SLOW),
        ),
        Mutant(
            "stock",
            "S1-S3, S12",
            "pysyncobj's own handlers",
            (
                (
                    _LOG,
                    "handle",
                    lambda self, *got: SyncObj._SyncObj__onMessageReceived(self, *got),
                ),
                (Handlers, "ask_before_standing", _stand_at_once),
                (_LOG, "_onTick", SyncObj._onTick),
            ),
            WIRE,
        ),
    )
}


@contextlib.contextmanager
def applied(name: str) -> Iterator[None]:
    """With this correction taken away; an empty name takes nothing away."""
    if not name:
        yield
        return
    with contextlib.ExitStack() as stack:
        for owner, attribute, instead in MUTANTS[name].patches:
            inherited = attribute not in vars(owner)
            stack.callback(_restore, owner, attribute, getattr(owner, attribute), inherited)
            setattr(owner, attribute, instead)
        yield


def _restore(owner: Any, attribute: str, before: Any, inherited: bool) -> None:
    if inherited:
        delattr(owner, attribute)
    else:
        setattr(owner, attribute, before)
