"""One replica's handlers over a log in memory, for schedules of a few messages; what it sends is kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from raftalloc.errors import NoLeader
from raftalloc.ports import Seat
from raftalloc.raft.orphaned import Orphaned
from raftalloc.raft.quorum import CANDIDATE, FOLLOWER, LEADER


@dataclass(frozen=True)
class Peer:
    id: str


A, B, C, D = Peer("a"), Peer("b"), Peer("c"), Peer("d")
ENTRY = tuple[bytes, int, int]


def seats_of(*ids: str, learners: tuple[str, ...] = ()) -> tuple[Seat, ...]:
    """A configuration of these."""
    return tuple(
        Seat(name, "", "", "", is_voter=name not in learners, incarnation=b"")
        for name in (*ids, *learners)
    )


class MemoryLog(list[ENTRY]):
    """As our journal, before any compaction."""

    first_index = 1
    base_members = b""
    promise = b""

    @property
    def durable_index(self) -> int:
        return len(self)

    last_index = durable_index

    def set_promise(self, members: bytes) -> None:
        self.promise = members

    def rebase(self, first_index: int, term_before: int, members: bytes) -> None:
        assert (first_index, term_before) == (1, 0), "nothing is forgotten here"
        self.base_members = members

    def term_at(self, index: int) -> int:
        return self[index - 1][2] if 0 < index <= len(self) else -1

    def add(self, command: bytes, index: int, term: int) -> None:
        self.append((command, index, term))

    def setRaftCommitIndex(self, commit: int) -> None:  # noqa: N802 - pysyncobj's name
        """Kept by the replica itself."""


class _Base:
    """What of SyncObj the handlers stand on."""

    def __init__(self, terms: list[int], others: tuple[Peer, ...], term: int, me: Peer) -> None:
        self.time = 100.0
        self.sent: deque[tuple[Peer, dict[str, Any]]] = deque()
        self.conf = SimpleNamespace(
            raftMinTimeout=0.3, raftMaxTimeout=0.6, appendEntriesPeriod=0.05
        )
        self.selfNode = self._SyncObj__selfNode = me
        self._SyncObj__otherNodes = set(others)
        self._SyncObj__raftLog = MemoryLog(
            (b"%d" % entry_term, index, entry_term) for index, entry_term in enumerate(terms, 1)
        )
        self._SyncObj__raftState = FOLLOWER
        self._SyncObj__raftCurrentTerm = term
        self._SyncObj__raftCommitIndex = 1
        self._SyncObj__raftLastApplied = 1
        self._SyncObj__raftElectionDeadline = self.time + 1
        self._SyncObj__transferInProgress = False
        self._SyncObj__votedForNodeId: object = None
        self._SyncObj__raftLeader = None
        self._SyncObj__leaderCommitIndex = 1
        self._SyncObj__transport = SimpleNamespace(
            send=lambda node, message: self.sent.append((node, message))
        )
        self._SyncObj__raftNextIndex = dict.fromkeys(others, len(terms) + 1)
        self._SyncObj__raftMatchIndex = dict.fromkeys(others, 0)
        self._SyncObj__lastResponseTime = dict.fromkeys(others, 0.0)
        self._SyncObj__newAppendEntriesTime = self.time

    def _SyncObj__setState(self, state: int) -> None:  # noqa: N802
        self._SyncObj__raftState = state

    def _SyncObj__setCurrentTerm(self, term: int, voted_for: object) -> None:  # noqa: N802
        self._SyncObj__raftCurrentTerm, self._SyncObj__votedForNodeId = term, voted_for

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        self._SyncObj__raftState = LEADER

    def _SyncObj__deleteEntriesFrom(self, index: int) -> None:  # noqa: N802
        del self._SyncObj__raftLog[index - 1 :]

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        return 0.5


class Bench(Orphaned, _Base):
    """A replica of a group with `others`; `terms` of the entries of its log. seats: none before a group begins."""

    own_incarnation = b""

    def __init__(
        self,
        terms: list[int],
        *,
        others: tuple[Peer, ...] = (B, C),
        term: int = 0,
        me: Peer = A,
        learners: tuple[str, ...] = (),
        seats: tuple[Seat, ...] | None = None,
    ) -> None:
        super().__init__(terms, others, term or max(terms), me)
        if seats is None:
            ids = sorted({me.id, *(peer.id for peer in others)} - set(learners))
            seats = seats_of(*ids, learners=learners)
        if seats:
            self._configurations = [(0, seats)]
            self.take_seats()

    @property
    def incarnation(self) -> bytes:
        return self.own_incarnation

    def take_commands(self) -> None:
        """Nobody proposes anything."""

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        return False

    def now(self) -> float:
        return self.time

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        self.begin_round()

    def node_of(self, seat: Seat) -> Peer:
        return Peer(seat.replica_id)

    @property
    def terms(self) -> list[int]:
        return [term for _, _, term in self._SyncObj__raftLog]

    def lead(self) -> None:
        self._SyncObj__raftState = LEADER

    def stand(self) -> None:
        self._SyncObj__raftState = CANDIDATE

    def append(self, leader: Peer, term: int, previous: int, terms: list[int], commit: int) -> None:
        """A message of `leader`, whose log agrees with ours up to `previous`."""
        entries = [
            (b"%d" % entry_term, index, entry_term)
            for index, entry_term in enumerate(terms, previous + 1)
        ]
        self.handle(
            leader,
            {
                "type": "append_entries",
                "term": term,
                "commit_index": commit,
                "entries": entries,
                "prevLogIdx": previous,
                "prevLogTerm": self.terms[previous - 1],
            },
        )

    def why_no_lead(self) -> Exception:
        return NoLeader("nobody")

    def answer(
        self,
        follower: Peer,
        term: int,
        next_index: int,
        *,
        success: bool,
        number: int = 0,
        inc: bytes = b"",
    ) -> None:
        self.handle(
            follower,
            {
                "type": "next_node_idx",
                "term": term,
                "next_node_idx": next_index,
                "reset": not success,
                "success": success,
                "round": number,
                "inc": inc,
            },
        )
