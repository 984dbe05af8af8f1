"""One member of the Raft group: the one door to pysyncobj.

pysyncobj is used for its log, elections and replication, and for nothing else: entries are opaque bytes (no pickled
method calls), there is no command forwarding, no compaction, no fork, no code versions, no membership change and no
thread. The event loop drives it: a tick on every socket event, every proposal, and every TICK_SECONDS.

What is corrected here, because it would stop or mislead us at once (the list of what is not is in docs/consensus.md):
an exception in `apply` stops the replica instead of being retried for ever; the index moves before callers are told;
applying is bounded per tick; a stall of our own process is not taken for the leader's silence; callers of a leader that
lost its place hear OutcomeUnknown instead of nothing; what was not written is sent when the socket has room.

The journal is pysyncobj's own file: it survives kill -9, not a power cut. The wire is pickle: only 127.0.0.1 is allowed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import queue
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pysyncobj.syncobj
import pysyncobj.tcp_connection
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, SyncObjException
from pysyncobj.node import Node, TCPNode
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.transport import TCPTransport
from pysyncobj.version import VERSION

from raftalloc.errors import (
    ConfigError,
    DataDirectoryError,
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ReplicaFailed,
    Unavailable,
)
from raftalloc.raft import guard
from raftalloc.raft.local import LocalNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.ports import Clock, Net, Poller, Rng, Timer
    from raftalloc.raft.local import LocalTransport

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.01
TICK_SECONDS_ALONE: Final = 0.25
"""A lone replica ticks when something is proposed; otherwise it has only its commit index to write down."""
STALL_SECONDS: Final = 0.1
"""Away for longer than this, we first hear what waits in the sockets, and only then judge who is silent."""
APPLY_SECONDS: Final = 0.02
"""Of applying in one tick; then the loop's other work has its turn."""
JOURNAL_BYTES_MAX: Final = (1 << 32) - (64 << 20)
"""pysyncobj's journal counts bytes in 32 bits. Followers keep the margin, so that the leader refuses first."""
SEND_BUFFER_BYTES_MAX: Final = 32 << 20
"""More than this unsent to one peer: the link is dropped, not memory."""
IDLE_LINK_SECONDS: Final = 600.0
"""pysyncobj closes a link on which nothing came for so long, at the next send: the vote request of a failover."""
CONNECT_RETRY_SECONDS: Final = 0.3
TRANSFER_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.01
_ALL_EVENTS: Final = POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.WRITE | POLL_EVENT_TYPE.ERROR
_REGULAR: Final = 0
_NOT_DONE: Final = (FAIL_REASON.MISSING_LEADER, FAIL_REASON.QUEUE_FULL, FAIL_REASON.REQUEST_DENIED)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the group, and the largest entry. A leader that reaches no quorum for `fallback_ms` steps back."""

    heartbeat_ms: int = 50
    election_min_ms: int = 300
    election_max_ms: int = 600
    fallback_ms: int = 800
    entry_bytes_max: int = 8 << 20


class Replica:
    """A `ports.Consensus` on pysyncobj. Belongs to the event loop that `start` is called on."""

    def __init__(
        self,
        *,
        replica_id: str,
        peers: Mapping[str, tuple[str, int]],
        directory: str,
        clock: Clock,
        net: Net,
        rng: Rng,
        apply: Callable[[int, bytes], object],
        on_fatal: Callable[[BaseException], None],
        stamp: Callable[[], int],
        hear: Callable[[int], None],
        timing: Timing = Timing(),
    ) -> None:
        """Prepare a member; nothing is opened before `start`.

        peers: replica id -> (host, Raft port) of all members, this one included; hosts are loopback addresses. With a
        LocalNetwork as `net` they are not used. directory: exists; the journal is kept in it. apply: called once per entry, in order,
        with its index. on_fatal: called once, with what stopped this replica. stamp, hear: the group's time, which the
        leader's heartbeats carry.

        Raises ConfigError for addresses, timing or a pysyncobj that cannot be used.
        """
        guard.check_version(VERSION)
        if replica_id not in peers:
            raise ConfigError(f"replica {replica_id!r} is not among the members {sorted(peers)}")
        if not isinstance(net, LocalNetwork):
            _check_addresses(peers)
        self.replica_id = replica_id
        self.peers = dict(peers)
        self.stamp = stamp
        self.hear = hear
        self._directory = directory
        self._clock = clock
        self._net = net
        self._rng = rng
        self._apply = apply
        self._on_fatal = on_fatal
        self._timing = timing
        self._conf = _conf_of(
            timing,
            journal=str(Path(directory) / "journal"),
            bind="{}:{}".format(*peers[replica_id]),
        )
        self._log: _Log | None = None
        self._failure: BaseException | None = None
        self._pending: set[asyncio.Future[object]] = set()
        self._timer: Timer | None = None
        self._tick_is_due = False
        self._tick_is_put_off = False
        self._ticked_at = 0.0
        self._led = False
        self._transferring = False

    async def start(self) -> None:
        """Open the journal and join the group; alone, also take the lead and apply the whole log.

        Raises ConfigError where the port is taken, DataDirectoryError where the journal is damaged.
        """
        assert self._log is None, "started twice"
        host, port = self.peers[self.replica_id]
        if not self._net.can_bind(host, port):
            raise ConfigError(
                f"replica {self.replica_id}: Raft port {port} on {host} is in use; stop what listens there, "
                "or change the replica's raft address"
            )
        self._log = self._open(self._net.poller())
        self._ticked_at = self._clock.monotonic()
        self._on_timer()
        if self._alone:
            self._log.stand_now()
            while not self.is_leader:
                self._raise_if_failed()
                self._kick()
                await self._clock.sleep(0)

    async def propose(self, entry: bytes) -> object:
        """Answers what `apply` returned for it here.

        Raises NotLeader (with the leader's replica id), NoLeader, Overloaded or InvalidRequest: not done. OutcomeUnknown:
        perhaps. ReplicaFailed: this replica has stopped; perhaps.
        """
        log = self._ready()
        self._refuse_unless_leading()
        if len(entry) > self._timing.entry_bytes_max:
            raise InvalidRequest(
                "entry",
                f"{len(entry)} bytes, {self._timing.entry_bytes_max} are allowed",
                "ask for less at once",
            )
        if log.journal_bytes + len(entry) > JOURNAL_BYTES_MAX:
            raise Overloaded("the journal has reached its 4 GiB; it takes no more entries")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        log.append(entry, lambda result, reason: self._answer(future, result, reason))
        self._kick()
        return await future

    async def stop(self) -> None:
        """Leave the network and close the journal; nothing is applied after. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        log, self._log = self._log, None
        if log is not None:
            log.close()
        self._fail_pending(OutcomeUnknown("this replica has stopped"))

    async def transfer(self, to_replica_id: str) -> str:
        """Stand back for another replica (empty: the one that is furthest); answers who leads then.

        Raises NotLeader, NoLeader, InvalidRequest (unknown, itself, or alone), Unavailable (nobody took over in time).
        """
        log = self._ready()
        self._refuse_unless_leading()
        if self._alone:
            raise InvalidRequest(
                "to_replica_id", "this replica is alone", "there is nobody to lead instead"
            )
        if to_replica_id and (to_replica_id not in self.peers or to_replica_id == self.replica_id):
            others = ", ".join(sorted(self.peers.keys() - {self.replica_id}))
            raise InvalidRequest(
                "to_replica_id",
                f"{to_replica_id!r} is not one of the others",
                f"use one of {others}",
            )
        deadline = self._clock.monotonic() + TRANSFER_SECONDS
        self._transferring = True
        try:
            asked = False
            while self._clock.monotonic() < deadline:
                leader_id = self.leader_id
                if leader_id and leader_id != self.replica_id:
                    return leader_id
                # Only a replica that has all of the log can win, and it has it once nothing is under way.
                if not asked and not self._pending:
                    asked = log.ask_to_stand(to_replica_id)
                await self._clock.sleep(_POLL_SECONDS)
                self._raise_if_failed()
        finally:
            self._transferring = False
        raise Unavailable(f"no other replica took the lead within {TRANSFER_SECONDS:g} s")

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""
        return self._log is not None and self._failure is None and self._log.leads

    @property
    def role(self) -> str:
        """leader, follower or candidate."""
        return "follower" if self._log is None else self._log.role

    @property
    def leader_id(self) -> str:
        """Replica id of the leader, or empty."""
        return "" if self._log is None else self._log.leader_id

    @property
    def term(self) -> int:
        """Raft's current term."""
        return 0 if self._log is None else int(self._log.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """Raft's commit index."""
        return 0 if self._log is None else int(self._log.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """Last index that is applied, Raft's own entries included."""
        return 0 if self._log is None else int(self._log.raftLastApplied)

    @property
    def _alone(self) -> bool:
        return len(self.peers) == 1

    def _open(self, poller: Poller) -> _Log:
        """Read the journal, bind the port."""
        poller.attach(self._kick, self._fail)
        nodes = {peer: _node_of(peer, address) for peer, address in self.peers.items()}
        me = nodes.pop(self.replica_id)
        transport: LocalTransport | None = None
        if isinstance(self._net, LocalNetwork):
            transport = self._net.transport(self.replica_id, nodes)
        try:
            with warnings.catch_warnings():
                # It reads its own meta file without closing it.
                warnings.simplefilter("ignore", ResourceWarning)
                log = _Log(me, nodes.values(), self._conf, poller, transport, self)
        except (struct.error, ValueError, OSError, MemoryError) as error:
            raise DataDirectoryError(
                f"{self._conf.journalFile}: the journal cannot be read ({error}); "
                "move this replica's directory away and let it start empty, if a quorum of the others is well"
            ) from error
        except SyncObjException as error:
            host, port = self.peers[self.replica_id]
            raise ConfigError(
                f"replica {self.replica_id}: cannot listen on {host}:{port}"
            ) from error
        if transport is not None:
            transport.open(log.outgoing, self._kick, self._fail)
        return log

    def _on_timer(self) -> None:
        if self._failure is None:
            self._kick()
            every = TICK_SECONDS_ALONE if self._alone else TICK_SECONDS
            self._timer = self._clock.call_later(every, self._on_timer)

    def _kick(self) -> None:
        """A tick on the loop's next turn."""
        if not self._tick_is_due and self._log is not None and self._failure is None:
            self._tick_is_due = True
            self._clock.call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_is_due = False
        if self._log is None or self._failure is not None:
            return
        now = self._clock.monotonic()
        if not self._alone and now - self._ticked_at > STALL_SECONDS and not self._tick_is_put_off:
            # One turn of the loop later every socket that had something to say has said it.
            self._tick_is_put_off = True
            self._kick()
            return
        self._tick_is_put_off = False
        self._ticked_at = now
        try:
            self._log.doTick(0)
        except Exception as error:  # noqa: BLE001 - the boundary of the event loop: the replica dies of it
            self._fail(error)
            return
        self._notice_loss_of_lead()
        if self._log is not None and self._log.has_more_to_do:
            self._kick()

    def _notice_loss_of_lead(self) -> None:
        led, self._led = self._led, self._log is not None and self._log.is_raft_leader
        if led and not self._led:
            self._fail_pending(
                OutcomeUnknown("the leader lost its place before the entry was applied")
            )

    def deliver(self, index: int, entry: bytes) -> object:
        """Hand an entry to the state machine; for `_Log`."""
        return self._apply(index, entry)

    def draw(self) -> float:
        """A number in [0, 1); for `_Log`."""
        return self._rng.random()

    def _answer(self, future: asyncio.Future[object], result: object, reason: int) -> None:
        if future.done():
            return
        if reason == FAIL_REASON.SUCCESS:
            future.set_result(result)
        elif reason == FAIL_REASON.MISSING_LEADER:
            future.set_exception(
                NotLeader(self.leader_id) if self.leader_id else NoLeader("no replica leads")
            )
        elif reason in _NOT_DONE:
            future.set_exception(Overloaded("Raft's queue is full"))
        else:
            future.set_exception(OutcomeUnknown("another entry may have taken its place"))

    def _fail(self, error: Exception) -> None:
        """Stop for good: the state may be half changed, so nothing may be built on it."""
        if self._failure is not None:
            return
        self._failure = error
        logger.critical("replica %s stops: %s", self.replica_id, error, exc_info=error)
        failed = ReplicaFailed(f"replica {self.replica_id} has stopped: {error}")
        failed.__cause__ = error
        self._fail_pending(failed)
        self._on_fatal(error)

    def _fail_pending(self, error: Exception) -> None:
        for future in list(self._pending):
            if not future.done():
                future.set_exception(error)

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise ReplicaFailed(
                f"replica {self.replica_id} has stopped: {self._failure}"
            ) from self._failure

    def _ready(self) -> _Log:
        self._raise_if_failed()
        if self._log is None:
            raise NoLeader(f"replica {self.replica_id} is not running")
        return self._log

    def _refuse_unless_leading(self) -> None:
        if self.is_leader and not self._transferring:
            return
        leader_id = self.leader_id
        if leader_id and leader_id != self.replica_id:
            raise NotLeader(leader_id)
        raise NoLeader("no replica leads at the moment")


class _Log(SyncObj):
    """pysyncobj, with what `Replica` needs done differently. Methods named `_SyncObj__x` override its private `__x`."""

    def __init__(
        self,
        me: Node,
        others: Any,  # noqa: ANN401 - an iterable of Node, which has no types
        conf: SyncObjConf,
        poller: Poller,
        transport: LocalTransport | None,
        owner: Replica,
    ) -> None:
        """Opens the journal; binds, where there is no transport."""
        self._loop_poller = poller
        self._owner = owner
        super().__init__(
            me, list(others), conf=conf, nodeClass=Node, transport=transport, transportClass=_Wire
        )
        self._check_journal(conf.journalFile)

    def _check_journal(self, path: str) -> None:
        """The stock journal has no checksums; that its indices follow each other is what can be checked."""
        journal = self._SyncObj__raftLog
        term = 0
        for expected in range(1, len(journal) + 1):
            _, index, entry_term = journal[expected - 1]
            if index != expected or entry_term < term:
                self.destroy()
                raise DataDirectoryError(f"{path}: damaged at entry {expected}")
            term = entry_term
        # The commit index is stored apart, and after a power cut it may speak of entries that are gone.
        if self._SyncObj__raftCommitIndex > len(journal):
            self._SyncObj__raftCommitIndex = len(journal)

    @property
    def _poller(self) -> Poller:
        """The event loop's, whatever pysyncobj makes for itself."""
        return self._loop_poller

    @_poller.setter
    def _poller(self, _stock: object) -> None:
        """Its own is not used."""

    @property
    def journal_bytes(self) -> int:
        """Length of the journal."""
        return int(self._SyncObj__raftLog._FileJournal__currentOffset)

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
        if self.raftCommitIndex > self.raftLastApplied:
            return True
        last = self._SyncObj__raftLog[-1][1]
        return not self.otherNodes and self.is_raft_leader and last > self.raftCommitIndex

    def stand_now(self) -> None:
        """Alone there is nobody to wait for."""
        self._SyncObj__raftElectionDeadline = 0

    def append(self, entry: bytes, callback: Callable[[object, int], None]) -> None:
        """Put an entry in line for the next tick."""
        self._applyCommand(entry, callback, _REGULAR)

    def ask_to_stand(self, to_replica_id: str) -> bool:
        """Tell a follower that has all of the log to stand for election; False where none has."""
        answers: list[int] = []
        node = next((node for node in self.otherNodes if node.id == to_replica_id), None)
        self.transferLeadership(node, lambda _result, reason: answers.append(reason))
        return answers == [FAIL_REASON.SUCCESS]

    def close(self) -> None:
        """Write the meta file, close links and journal."""
        self._SyncObj__raftLog.onOneSecondTimer()
        self.destroy()

    def outgoing(self, message: dict[str, Any]) -> dict[str, Any]:
        """What leaves: a leader's messages carry the group's time."""
        if message.get("type") == "append_entries" and self.leads:
            return {**message, "at_ms": self._owner.stamp()}
        return message

    def _SyncObj__onMessageReceived(self, node: Node, message: dict[str, Any]) -> None:  # noqa: N802
        """Learn the group's time from the leader; never take a forwarded command."""
        kind = message["type"]
        if kind in ("apply_command", "apply_command_response"):
            return
        if (
            kind == "append_entries"
            and message["term"] >= self.raftCurrentTerm
            and "at_ms" in message
        ):
            self._owner.hear(message["at_ms"])
        super()._SyncObj__onMessageReceived(node, message)

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        """The same draw, from our port."""
        low, high = self.conf.raftMinTimeout, self.conf.raftMaxTimeout
        return float(low + (high - low) * self._owner.draw())

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        """Send as soon as the log grew; without the lead refuse what waits, since it would be forwarded."""
        if not self.is_raft_leader:
            self._refuse_queue()
            return
        last = self._SyncObj__raftLog[-1][1]
        super()._checkCommandsToApply()
        if self._SyncObj__raftLog[-1][1] > last:
            self._SyncObj__sendAppendEntries()

    def _refuse_queue(self) -> None:
        while True:
            try:
                _, callback = self._SyncObj__commandsQueue.get_nowait()
            except queue.Empty:
                return
            callback(None, FAIL_REASON.MISSING_LEADER)

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Apply what is committed, for APPLY_SECONDS at most; the index moves before anyone is told."""
        clock = self._owner._clock
        until = clock.monotonic() + APPLY_SECONDS
        while self._SyncObj__raftCommitIndex > self._SyncObj__raftLastApplied:
            index = self._SyncObj__raftLastApplied + 1
            command, found_index, term = self._SyncObj__raftLog[index - 1]
            assert found_index == index, "the log is kept whole, from index 1"
            result = self._deliver(index, command)
            self._SyncObj__raftLastApplied = index
            for proposed_term, callback in self._SyncObj__commandsWaitingCommit.pop(index, ()):
                ours = proposed_term == term
                callback(
                    result if ours else None, FAIL_REASON.SUCCESS if ours else FAIL_REASON.DISCARDED
                )
            if clock.monotonic() > until:
                break
        return False

    def _deliver(self, index: int, command: bytes) -> object:
        """Entries are ours; NO_OPs are Raft's; nothing else can be in a log of ours."""
        kind = command[0]
        if kind == _REGULAR:
            return self._owner.deliver(index, bytes(command[1:]))
        if kind != pysyncobj.syncobj._COMMAND_TYPE.NO_OP:
            raise DataDirectoryError(
                f"entry {index} of the journal is of a type {kind} that is never written"
            )
        return None

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Never: it truncates the journal in place and loses writes (docs/consensus.md)."""


class _Peer(TCPNode):  # type: ignore[misc] # pysyncobj has no types
    """A member with an address, known by its replica id."""

    def __init__(self, replica_id: str, address: str) -> None:
        """`address`: host:port."""
        super().__init__(address)
        self._id = replica_id


class _Wire(TCPTransport):
    """pysyncobj's TCP, closed to strangers, with one live link per peer and bounded buffers."""

    def _onIncomingMessageReceived(self, conn: Any, message: object) -> None:  # noqa: ANN401, N802
        """The first message of a link must name a member: no utility commands, no read-only listeners."""
        node = self._nodeAddrToNode.get(message) if isinstance(message, str) else None
        if node is None:
            conn.disconnect()
            self._unknownConnections.discard(conn)
            return
        old = self._connections.get(node)
        if old is not None and old is not conn:
            # Late messages of the old link must not be obeyed after the new one's.
            old.setOnMessageReceivedCallback(None)
            old.disconnect()
        super()._onIncomingMessageReceived(conn, message)

    def _connectIfNecessarySingle(self, node: Any) -> bool:  # noqa: ANN401, N802
        """As pysyncobj does, but a refused socket is closed at once."""
        connected = bool(super()._connectIfNecessarySingle(node))
        if not connected and node in self._connections and self._shouldConnect(node):
            self._connections[node].disconnect()
        return connected

    def send(self, node: Any, message: Any) -> bool:  # noqa: ANN401
        """Send, and see to it that what did not fit is sent when there is room."""
        sent = bool(super().send(node, self._syncObj.outgoing(message)))
        conn = self._connections.get(node)
        if sent and conn is not None:
            unsent = conn.getSendBufferSize()
            if unsent > SEND_BUFFER_BYTES_MAX:
                conn.disconnect()
                return False
            if unsent:
                # pysyncobj would wait for its next send.
                self._syncObj._poller.subscribe(
                    conn.fileno(), conn._TcpConnection__processConnection, _ALL_EVENTS
                )
        return sent


RELIED_ON: Final = (
    SyncObj.__init__,
    SyncObj._applyCommand,
    SyncObj._checkCommandsToApply,
    SyncObj._onTick,
    SyncObj._SyncObj__applyLogEntries,
    SyncObj._SyncObj__generateRaftTimeout,
    SyncObj._SyncObj__onBecomeLeader,
    SyncObj._SyncObj__onMessageReceived,
    SyncObj._SyncObj__sendAppendEntries,
    SyncObj._SyncObj__tryLogCompaction,
    SyncObj._doDestroy,
    SyncObj.transferLeadership,
    TCPTransport._connectIfNecessarySingle,
    TCPTransport._onIncomingMessageReceived,
    TCPTransport.send,
    pysyncobj.tcp_connection.TcpConnection._TcpConnection__processConnection,
    pysyncobj.tcp_connection.TcpConnection.disconnect,
    pysyncobj.tcp_connection.TcpConnection.send,
)
"""What this module overrides, calls or was written against; `guard` has their fingerprints."""


def _node_of(replica_id: str, address: tuple[str, int]) -> Node:
    host, port = address
    return _Peer(replica_id, f"{host}:{port}") if host else Node(replica_id)


def _check_addresses(peers: Mapping[str, tuple[str, int]]) -> None:
    """Pickle is on this wire: whoever can connect can run code here."""
    for replica_id, (host, port) in peers.items():
        try:
            address = ipaddress.ip_address(host)
        except ValueError as error:
            raise ConfigError(
                f"replica {replica_id}: Raft host {host!r} is not an IP address; use 127.0.0.1"
            ) from error
        if not address.is_loopback or address.version != 4:
            raise ConfigError(
                f"replica {replica_id}: Raft host {host} is not on this machine's loopback; the Raft link is not "
                "secured yet, so only 127.0.0.0/8 is allowed"
            )
        if not 1 <= port <= 65_535:
            raise ConfigError(f"replica {replica_id}: Raft port {port} is not within 1..65535")
    if len(set(peers.values())) != len(peers):
        raise ConfigError("two replicas have the same Raft address; give each its own port")


def _conf_of(timing: Timing, *, journal: str, bind: str) -> SyncObjConf:
    """pysyncobj's settings; it would check them by assertions."""
    if timing.election_min_ms <= 3 * timing.heartbeat_ms:
        raise ConfigError(
            f"election_min_ms {timing.election_min_ms} must be above three heartbeats ({timing.heartbeat_ms} ms each)"
        )
    if timing.election_max_ms <= timing.election_min_ms:
        raise ConfigError(
            f"election_max_ms {timing.election_max_ms} must be above election_min_ms {timing.election_min_ms}"
        )
    return SyncObjConf(
        autoTick=False,
        journalFile=journal,
        fullDumpFile=None,
        useFork=False,
        dynamicMembershipChange=False,
        commandsWaitLeader=False,
        appendEntriesPeriod=timing.heartbeat_ms / 1000,
        raftMinTimeout=timing.election_min_ms / 1000,
        raftMaxTimeout=timing.election_max_ms / 1000,
        leaderFallbackTimeout=max(timing.fallback_ms, timing.election_min_ms) / 1000,
        # One with an entry that is larger than a batch wedges its follower (docs/consensus.md).
        appendEntriesBatchSizeBytes=timing.entry_bytes_max + 2,
        appendEntriesUseBatch=True,
        connectionTimeout=IDLE_LINK_SECONDS,
        connectionRetryTime=CONNECT_RETRY_SECONDS,
        sendBufferSize=1 << 20,
        recvBufferSize=1 << 18,
        maxBindRetries=1,
        # Or it would listen on every interface.
        bindAddress=bind,
    )
