"""One member of the Raft group: the one door to pysyncobj.

pysyncobj is used for its log, elections and replication, and for nothing else: entries are opaque bytes (no pickled
method calls), there is no command forwarding, no compaction, no fork, no code versions, no membership change and no
thread. The event loop drives it (`driver.py`).

What is corrected here, because it would stop or mislead us at once (the list of what is not is in docs/consensus.md):
an exception in `apply` stops the replica instead of being retried for ever; the index moves before callers are told;
applying is bounded per tick; a stall of our own process is not taken for the leader's silence; callers of a leader that
lost its place hear OutcomeUnknown instead of nothing.

The journal is our own (`journal.py`): what is said to others, or to a caller, is on this replica's disk before
(`gate.py`); a leader counts itself for nothing else. The wire is our own too (`wire.py`): pysyncobj gets no byte from
outside, and pickles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pysyncobj.syncobj
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.version import VERSION

from raftalloc.errors import ConfigError, DataDirectoryError, OutcomeUnknown, Overloaded
from raftalloc.raft import guard
from raftalloc.raft.frames import FRAME_BODY_BYTES
from raftalloc.raft.gate import Gate
from raftalloc.raft.installing import Installing
from raftalloc.raft.journal import Journal
from raftalloc.raft.local import LocalNetwork
from raftalloc.raft.member import Member
from raftalloc.raft.membership import MEMBERSHIP
from raftalloc.raft.orphaned import Orphaned
from raftalloc.raft.proposing import Proposing
from raftalloc.raft.seating import ANSWERS
from raftalloc.raft.segments import Identity
from raftalloc.raft.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raftalloc.ports import Seat
    from raftalloc.raft.membership import Seats
    from raftalloc.raft.timing import Timing
    from raftalloc.raft.transport import Transport

APPLY_SECONDS: Final = 0.02
"""Of applying in one tick; then the loop's other work has its turn."""
DUE_BEHIND_SECONDS: Final = 0.001
GRACE_HEARTBEATS: Final = 4
"""After a stall: so long a leader has to be heard, before silence counts."""
_REGULAR: Final = 0
_REGULAR_HEAD: Final = bytes([_REGULAR])


class Replica(Member):
    """A `ports.Consensus` on pysyncobj; see Member."""

    def open_log(self) -> _Log:
        """Read the journal, bind the port."""
        guard.check_version(VERSION)
        nodes = {peer: Node(peer, address=address) for peer, address in self.peers.items()}
        me = nodes.pop(self.replica_id)
        journal = Journal(
            self.log_disk,
            self.directory,
            Identity(self.cluster_id, self.replica_id),
            token=self.rng.token,
            segment_bytes=self.timing.segment_bytes,
        )
        transport = self._transport(nodes)
        transport.guest = Node
        try:
            log = _Log(me, nodes.values(), _conf_of(self.timing), transport, self, journal)
            transport.open(log.outgoing, self.driver.kick, self.fail)
        except OSError as error:
            journal.close()
            host, port = self.peers[self.replica_id]
            raise ConfigError(
                f"replica {self.replica_id}: cannot listen on {host}:{port}: {error}"
            ) from error
        except BaseException:
            journal.close()
            raise
        return log

    def _transport(self, nodes: dict[str, Node]) -> Transport:
        """Within this process, or over the network."""
        if isinstance(self.net, LocalNetwork):
            return self.net.transport(self.replica_id, nodes)
        return Wire(
            cluster_id=self.cluster_id,
            replica_id=self.replica_id,
            address=self.peers[self.replica_id],
            nodes=nodes,
            net=self.net,
            clock=self.clock,
            rng=self.rng,
            security=self.security,
            body_bytes_max=max(FRAME_BODY_BYTES, self.timing.entry_bytes_max + 1),
            count=self.count,
        )


class _Log(Proposing, Orphaned, Installing, SyncObj):
    """A SyncObj, with what `Replica` needs done differently. Methods named `_SyncObj__x` override its private `__x`."""

    # Declared for mypy, which finds no types in pysyncobj.
    _SyncObj__raftCommitIndex: int
    _SyncObj__raftLastApplied: int
    _SyncObj__transport: Any

    def __init__(
        self,
        me: Node,
        others: Any,
        conf: SyncObjConf,
        transport: Transport,
        owner: Member,
        journal: Journal,
    ) -> None:
        """Goes on with the journal."""
        self._owner = owner
        self._is_held = False
        self._journal = journal
        is_known = journal.identify()
        super().__init__(me, list(others), conf=conf, nodeClass=Node, transport=transport)
        self.resume()
        self._SyncObj__raftCommitIndex = journal.getRaftCommitIndex()
        self._gate = self._SyncObj__transport = Gate(self._SyncObj__transport, journal)
        self.begin_with(owner.seats, is_known=is_known)
        journal.on_durable = self._on_durable
        journal.on_fatal = owner.fail

    def _SyncObj__onNodeDisconnected(self, node: Any) -> None:  # noqa: N802
        """There may be nobody to lead any more."""
        super()._SyncObj__onNodeDisconnected(node)
        self.link_lost(node)
        self._owner.driver.kick()

    def _on_durable(self) -> None:
        self._gate.release()
        self._wake_durable()
        self._owner.driver.kick()

    @property
    def _SyncObj__raftLog(self) -> Journal:  # noqa: N802
        """Ours, whatever pysyncobj makes for itself."""
        return self._journal

    @_SyncObj__raftLog.setter
    def _SyncObj__raftLog(self, _stock: object) -> None:  # noqa: N802
        """Its own is not used."""

    @property
    def is_raft_leader(self) -> bool:
        """Whether it believes that it leads."""
        return bool(self._isLeader())

    @property
    def leads(self) -> bool:
        """Whether it leads and has applied the first entry of its term."""
        return self.is_raft_leader and self.raftLastApplied >= self._SyncObj__noopIDx

    @property
    def role(self) -> str:
        """Raft's role."""
        return ("follower", "candidate", "leader")[self._SyncObj__raftState]

    @property
    def leader_id(self) -> str:
        """Of the leader it last heard of in this term."""
        leader = self._getLeader()
        return "" if leader is None else str(leader.id)

    @property
    def has_more_to_do(self) -> bool:
        """Whether another tick would commit or apply something without anyone being heard of before."""
        durable, commit = self._journal.durable_index, self.raftCommitIndex
        waits = self.is_paused or self._is_held
        if min(commit, durable) > self.raftLastApplied and not waits:
            return True
        return self.is_alone and self.is_raft_leader and durable > commit

    @property
    def is_alone(self) -> bool:
        """Whether the group is this replica, as far as it knows."""
        return not self._SyncObj__otherNodes

    @property
    def incarnation(self) -> bytes:
        """Of this replica's data directory."""
        return self._journal.incarnation

    @property
    def due_in(self) -> float:
        """Seconds until the next heartbeat or election is due, more than 0."""
        due = (
            self._SyncObj__newAppendEntriesTime
            if self.is_raft_leader
            else self._SyncObj__raftElectionDeadline
        )
        # What is due at this very moment is done behind it.
        return float(max(due - self.now(), 0.0)) + DUE_BEHIND_SECONDS

    def stand_now(self) -> None:
        """Alone there is nobody to wait for."""
        self._SyncObj__raftElectionDeadline = 0
        self._owner.driver.kick()

    @property
    def term(self) -> int:
        """Raft's current term."""
        return int(self.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """Raft's commit index."""
        return int(self.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """Last index that is applied."""
        return int(self.raftLastApplied)

    def tick(self) -> None:
        """Let it do what is due, without waiting; then have written what it wants to be written."""
        self.greet()
        self.ask_before_standing()
        self.sweep()
        self.doTick(0)
        self.serve_readers()
        self._journal.sync()

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
        """Without what is not used here: dumps, compaction, polling, elections by those who were not asked."""
        assert not timeToWait, "the event loop waits, not Raft"
        work_seconds = self.now() - self._SyncObj__startTime
        if work_seconds > self._SyncObj__numOneSecondDumps:
            self._SyncObj__numOneSecondDumps += 1
            self._journal.onOneSecondTimer()
        self.take_turn()
        self.look_after_members()
        self.send_for_readers()
        for callback in self._SyncObj__onTickCallbacks:
            callback()

    def why_no_lead(self) -> Exception:
        """What a reader hears where the lead is lost."""
        return self._owner.no_lead()

    def forgive_silence(self) -> None:
        """Neither stand for election nor step back within the next GRACE_HEARTBEATS."""
        now = pysyncobj.syncobj.monotonicTime()
        grace = GRACE_HEARTBEATS * self.conf.appendEntriesPeriod
        deadline = now + grace
        self._SyncObj__raftElectionDeadline = max(self._SyncObj__raftElectionDeadline, deadline)
        responses = self._SyncObj__lastResponseTime
        for node, heard in responses.items():
            responses[node] = max(heard, deadline - self.conf.raftMaxTimeout)

    def append(self, entry: bytes, callback: Callable[[object, Exception | None], None]) -> None:
        """Put an entry in line for the next tick."""

        def answer(result: object, reason: int) -> None:
            callback(result, None if reason == FAIL_REASON.SUCCESS else self._error_of(reason))

        if not self.put_in_line(_REGULAR_HEAD + entry, answer):
            answer(None, FAIL_REASON.QUEUE_FULL)

    def change(
        self, change: Callable[[Seats], Seats], callback: Callable[[object, Exception | None], None]
    ) -> int:
        """Put another configuration into the log; answers its index. Raises Rejected, InvalidRequest."""

        def answer(result: object, reason: int) -> None:
            callback(result, None if reason == FAIL_REASON.SUCCESS else self._error_of(reason))

        seats = change(self.seats)
        self.check_change()
        self.check_quorum(seats)
        return self.change_seats(seats, answer)

    def call_back(self, index: int, term: int, answer: Callable[[object, int], None]) -> None:
        """Once the entry is applied, or another in its place."""
        self._SyncObj__commandsWaitingCommit[index].append((term, answer))

    def node_of(self, seat: Seat) -> Node:
        """The node of a member. For those that `cluster.toml` names, the addresses there hold."""
        host, _, port = seat.raft.rpartition(":")
        address = (host, int(port)) if port else ("", 0)
        address = self._owner.peers.get(seat.replica_id, address)
        node = Node(seat.replica_id, address=address)
        self._SyncObj__transport.addNode(node)
        return node

    def is_named(self, node: Node) -> bool:
        """See Seating."""
        return node.id in self._owner.peers

    def on_seats(self) -> None:
        """A group that is no longer one replica needs its ticks."""
        self._owner.driver.set_alone(self.is_alone)

    def _error_of(self, reason: int) -> Exception:
        """Three reasons mean that it was not done; the others do not say."""
        if reason == FAIL_REASON.MISSING_LEADER:
            return self._owner.no_lead()
        if reason in (FAIL_REASON.QUEUE_FULL, FAIL_REASON.REQUEST_DENIED):
            return Overloaded("Raft's queue is full")
        return OutcomeUnknown("another entry may have taken its place")

    def gossip(self, data: bytes) -> None:
        """To all others; nothing in it needs to be durable."""
        for node in sorted(self.otherNodes, key=lambda node: str(node.id)):
            self._gate.send(node, {"type": "gossip", "term": self.raftCurrentTerm, "gossip": data})

    @property
    def skips(self) -> Mapping[int, str]:
        """Why entries are not given to the state machine, by index."""
        return self._journal.skips

    def skip(self, index: int, at_ms: int, reason: str) -> bool:
        """Do not give this entry to the state machine; False where it is not in the log, or was given already."""
        journal = self._journal
        if not max(self.raftLastApplied + 1, journal.first_index) <= index <= journal.last_index:
            return False
        journal.skip(index, at_ms, reason)
        return True

    def ask_to_stand(self, to_replica_id: str) -> bool:
        """Tell a follower that has all of the log to stand for election; False where none has."""
        return self.hand_over(to_replica_id)

    def tell(self, replica_id: str, message: dict[str, Any]) -> bool:
        """Send a message of the service; whether it may arrive."""
        node = next((node for node in self.otherNodes if node.id == replica_id), None)
        return node is not None and bool(self._SyncObj__transport.send(node, message))

    def handle_other(self, node: Node, message: dict[str, Any]) -> None:
        """See Handlers; the service has messages of its own."""
        if not self._owner.heard(node.id, message):
            super().handle_other(node, message)

    def close(self) -> None:
        """Close links and journal."""
        self.destroy()

    def outgoing(self, message: dict[str, Any]) -> dict[str, Any]:
        """What leaves: a leader's messages carry the number of their round, and the group's time."""
        kind = message.get("type")
        if kind in ANSWERS:
            return {**message, "inc": self._journal.incarnation}
        if kind != "append_entries":
            return message
        if self.leads:
            return {**message, "round": self._round, "at_ms": self._owner.stamp()}
        return {**message, "round": self._round}

    def _SyncObj__onMessageReceived(self, node: Node, message: dict[str, Any]) -> None:  # noqa: N802
        """Learn the group's time from the leader; `handlers.py` does the rest, and knows no forwarded commands."""
        if message["type"] == "gossip":
            if node in self.otherNodes:
                self._owner.beside.listen(str(node.id), message["gossip"])
            return
        if (
            message["type"] == "append_entries"
            and message["term"] >= self.raftCurrentTerm
            and "at_ms" in message
        ):
            self._owner.hear(message["at_ms"])
        self.handle(node, message)

    def now(self) -> float:
        """Seconds, on the clock that pysyncobj reads."""
        return float(pysyncobj.syncobj.monotonicTime())

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        """The same draw, from our port."""
        low, high = self.conf.raftMinTimeout, self.conf.raftMaxTimeout
        return float(low + (high - low) * self._owner.rng.random())

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """See Proposing."""
        self.take_commands()

    def refuse(self, answers: Sequence[Callable[[Any, int], None]]) -> None:
        """See Proposing. pysyncobj would forward it."""
        for answer in answers:
            answer(None, FAIL_REASON.MISSING_LEADER)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Apply what is committed and durable, for APPLY_SECONDS at most; the index moves before anyone is told."""
        if self.is_paused:
            return False
        journal, now = self._journal, self._owner.clock.monotonic
        until = now() + APPLY_SECONDS
        # Not beyond what is durable: the event store must not have what the journal may lose.
        ready = min(self._SyncObj__raftCommitIndex, journal.durable_index)
        may_apply, waiting = self._owner.beside.may_apply, self._SyncObj__commandsWaitingCommit
        applied = self._SyncObj__raftLastApplied
        for command, index, term in journal.entries_after(applied, ready):
            self._is_held = not may_apply(index)
            if self._is_held:
                break
            applied += 1
            assert index == applied, "the log has all that is not applied"
            result = self._deliver(index, command)
            self._SyncObj__raftLastApplied = index
            for proposed_term, callback in waiting.pop(index, ()):
                ours = proposed_term == term
                callback(
                    result if ours else None, FAIL_REASON.SUCCESS if ours else FAIL_REASON.DISCARDED
                )
            if now() > until:
                break
        return False

    def _deliver(self, index: int, command: bytes) -> object:
        """Entries are ours; NO_OPs are Raft's; nothing else can be in a log of ours."""
        kind = command[0]
        if kind == _REGULAR:
            skips = self._journal.skips
            take = self._owner.beside.skip if skips and index in skips else self._owner.deliver
            return take(index, command[1:])
        if kind == MEMBERSHIP[0]:
            self.drop_links()
            return index
        if kind != pysyncobj.syncobj._COMMAND_TYPE.NO_OP:
            raise DataDirectoryError(
                f"entry {index} of the journal is of a type {kind} that is never written"
            )
        return None

    def _forget_callers(self, index: int) -> None:
        """See Installing."""
        waiting = self._SyncObj__commandsWaitingCommit
        for known in [known for known in waiting if known <= index]:
            for _, callback in waiting.pop(known):
                callback(None, FAIL_REASON.DISCARDED)

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Never: it truncates the journal in place and loses writes. See Offering.compact."""


def _conf_of(timing: Timing) -> SyncObjConf:
    """The settings that go with what is done differently here."""
    return SyncObjConf(
        autoTick=False,
        journalFile=None,
        fullDumpFile=None,
        useFork=False,
        dynamicMembershipChange=False,
        commandsWaitLeader=False,
        appendEntriesPeriod=timing.heartbeat_ms / 1000,
        raftMinTimeout=timing.election_min_ms / 1000,
        raftMaxTimeout=timing.election_max_ms / 1000,
        # One with an entry that is larger than a batch wedges its follower (docs/consensus.md).
        appendEntriesBatchSizeBytes=timing.entry_bytes_max + 2,
        appendEntriesUseBatch=True,
    )
