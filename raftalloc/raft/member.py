"""A member of the Raft group, but for the Raft library: proposing, standing back, failing.

An exception in `apply` or anywhere in Raft stops the member for good: the state may be half changed, so nothing may be
built on it. A caller is told either an answer, or that it is surely not done, or that nobody knows.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from raftalloc.errors import (
    ConfigError,
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    ReplicaFailed,
    Unavailable,
)
from raftalloc.raft import membership
from raftalloc.raft.amnesiac import Amnesiac
from raftalloc.raft.beside import Beside
from raftalloc.raft.driver import TICK_SECONDS, Driver
from raftalloc.raft.local import LocalNetwork
from raftalloc.raft.timing import DEFAULT_TIMING, check_addresses, check_timing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from raftalloc.ports import Clock, LogDisk, Machine, Net, Rng, Seat
    from raftalloc.raft.membership import Seats
    from raftalloc.raft.timing import Timing
    from raftalloc.security.contexts import TlsContexts

logger = logging.getLogger(__name__)

TRANSFER_SECONDS: Final = 5.0
GOSSIP_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.01


class RaftLog(Protocol):
    """What is beneath: the library's object, opened."""

    term: int
    commit_index: int
    applied_index: int
    role: str
    leader_id: str
    is_raft_leader: bool
    leads: bool
    has_more_to_do: bool
    due_in: float
    is_paused: bool
    is_alone: bool
    seats: Seats

    def tick(self) -> None:
        """Let it do what is due."""

    def forgive_silence(self) -> None:
        """Whatever was not heard lately: it was this process that did not listen."""

    def stand_now(self) -> None:
        """Do not wait for a leader."""

    def append(self, entry: bytes, callback: Callable[[object, Exception | None], None]) -> None:
        """Propose; call back with what `apply` answered, or why it did not."""

    def read(self, answer: Callable[[int, Exception | None], None]) -> None:
        """Call back with an index that is applied and behind no write acknowledged before, or why there is none."""

    skips: Mapping[int, str]

    def skip(self, index: int, at_ms: int, reason: str) -> bool:
        """Never give this entry to `apply`; whether that is still possible."""

    def gossip(self, data: bytes) -> None:
        """Say this to all other members; it may be lost."""

    def change(
        self, change: Callable[[Seats], Seats], callback: Callable[[object, Exception | None], None]
    ) -> int:
        """Append what `change` makes of the configuration; call back when it is committed. Raises Rejected."""

    def progress(self) -> dict[str, tuple[int, float]]:
        """Of each other member, the last index that it has confirmed, and seconds since it answered."""

    def ask_to_stand(self, to_replica_id: str) -> bool:
        """Whether a follower that has all of the log could be told to stand for election."""

    def compact(self, index: int) -> None:
        """Forget entries up to `index`, but for the tail that slow followers may need."""

    def tell(self, replica_id: str, message: dict[str, Any]) -> bool:
        """Send a message of the service; whether it may arrive."""

    def close(self) -> None:
        """Let go of journal and wire."""


class Member:
    """A `ports.Consensus`, but for `open_log`. Belongs to the event loop that `start` is called on."""

    def __init__(
        self,
        *,
        replica_id: str,
        peers: Mapping[str, tuple[str, int]],
        cluster_id: str,
        directory: str,
        log_disk: LogDisk,
        clock: Clock,
        net: Net | LocalNetwork,
        rng: Rng,
        apply: Callable[[int, bytes], object],
        on_fatal: Callable[[BaseException], None],
        stamp: Callable[[], int],
        hear: Callable[[int], None],
        beside: Beside | None = None,
        timing: Timing = DEFAULT_TIMING,
        machine: Machine | None = None,
        security: TlsContexts | None = None,
        count: Callable[[str, str], None] = lambda kind, reason: None,  # noqa: ARG005
        seats: Seats = (),
    ) -> None:
        """Prepare a member; nothing is opened before `start`.

        peers: replica id -> (IP address, Raft port) of all members, this one included; beyond loopback only with
        `security`, and not used with a LocalNetwork as `net`. directory: exists; the journal is kept in it, on
        log_disk, which is this member's own. apply: called once per entry, in order, with its index. on_fatal: called
        once, with what stopped this replica. stamp, hear: the group's time, which the leader's heartbeats carry.
        beside: what members tell each other besides, and entries that are skipped. machine: what takes and gives
        snapshots; without one there are none, and the log is kept whole. security: TLS of the members' network; None is
        without. count: hears of links and messages that come to nothing (wire.py). seats: of the first members.

        Raises ConfigError for addresses, timing that cannot be used.
        """
        check_timing(timing)
        if replica_id not in peers:
            raise ConfigError(f"replica {replica_id!r} is not among the members {sorted(peers)}")
        if not isinstance(net, LocalNetwork):
            check_addresses(peers, has_tls=security is not None)
        self.replica_id = replica_id
        self.peers = dict(peers)
        self.seats = seats or membership.seats_of(peers)
        self.stamp = stamp
        self.hear = hear
        self.beside = beside or Beside()
        self.deliver = apply
        self.machine: Machine = machine or Amnesiac()
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.clock = clock
        self.rng = rng
        self.net = net
        self.security = security
        self.count = count
        self._on_fatal = on_fatal
        self.timing = timing
        self.cluster_id = cluster_id
        self.directory = directory
        self.log_disk = log_disk
        self._log: RaftLog | None = None
        self._failure: BaseException | None = None
        self._pending: set[asyncio.Future[object]] = set()
        self._reading: set[asyncio.Future[int]] = set()
        self.driver = Driver(clock, alone=len(peers) == 1, tick=self._tick, on_error=self.fail)
        self.on_lead: Callable[[], None] = lambda: None
        """Called when this replica can be proposed to, and could not before."""
        self._led = False
        self._leads = False
        self._transferring = False
        self._gossip_at = 0.0

    async def start(self) -> None:
        """Open the journal and join the group; alone, also take the lead and apply the whole log.

        Raises ConfigError where the port is taken, DataDirectoryError where the journal is damaged.
        """
        assert self._log is None, "started twice"
        host, port = self.peers[self.replica_id]
        if not self.net.can_bind(host, port):
            raise ConfigError(
                f"replica {self.replica_id}: Raft port {port} on {host} is in use; "
                "stop what listens there, or change the replica's raft address"
            )
        self._log = self.open_log()
        self.driver.start()
        if self._log.is_alone:
            self._log.stand_now()
            while not self.is_leader:
                self._raise_if_failed()
                self.driver.kick()
                await self.clock.sleep(0)

    async def propose(self, entry: bytes) -> object:
        """Answers what `apply` returned for it here.

        Raises NotLeader (with the leader's replica id), NoLeader, Overloaded or InvalidRequest: not done.
        OutcomeUnknown: perhaps done. ReplicaFailed: this replica has stopped; perhaps done.
        """
        log = self._ready()
        self._refuse_unless_leading()
        if len(entry) > self.timing.entry_bytes_max:
            problem = f"{len(entry)} bytes, {self.timing.entry_bytes_max} are allowed"
            raise InvalidRequest("entry", problem, "ask for less at once")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        try:
            log.append(entry, lambda result, error: _answer(future, result, error))
            self.driver.kick()
            return await future
        finally:
            self._pending.discard(future)

    async def read_index(self) -> int:
        """An index that is applied here, and that no write acknowledged before this call is above.

        Raises NotLeader, NoLeader (soon after a leader has lost its quorum), ReplicaFailed.
        """
        log = self._ready()
        if not self.is_leader:
            raise self.no_lead()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reading.add(future)
        future.add_done_callback(self._reading.discard)
        log.read(lambda index, error: _answer(future, index, error))
        if not future.done():
            self.driver.kick()
        return await future

    async def add_member(self, seat: Seat) -> int:
        """Take a replica into the group; it learns first, and votes once it has caught up.

        Answers the index of the change, committed. Raises Rejected, InvalidRequest, NotLeader, NoLeader (not done),
        OutcomeUnknown (perhaps done).
        """
        if not isinstance(self.net, LocalNetwork):
            address = membership.address_of(seat.raft)
            try:
                check_addresses({seat.replica_id: address}, has_tls=self.security is not None)
            except ConfigError as error:
                raise InvalidRequest("raft_address", str(error)) from error
        return await self._change(lambda seats: membership.added(seats, seat))

    async def remove_member(self, replica_id: str) -> int:
        """Let a replica go; a leader that goes hands over. As `add_member`."""
        return await self._change(lambda seats: membership.removed(seats, replica_id))

    async def replace_member(self, replica_id: str) -> int:
        """Give its seat to whichever data directory comes next under this id; it learns first. As `add_member`."""
        return await self._change(lambda seats: membership.replaced(seats, replica_id))

    async def _change(self, change: Callable[[Seats], Seats]) -> int:
        log = self._ready()
        self._refuse_unless_leading()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        index = log.change(change, lambda result, error: _answer(future, result, error))
        self.driver.kick()
        await future
        return index

    @property
    def members(self) -> Seats:
        """The group as this replica knows it, by replica id; the first members, before it knows any."""
        return self.seats if self._log is None else self._log.seats or self.seats

    def progress(self) -> dict[str, tuple[int, float]]:
        """On a leader, of each other member: the last index that it has confirmed, and seconds since it answered."""
        return self._log.progress() if self._log is not None and self.is_leader else {}

    async def stop(self) -> None:
        """Leave the network and close the journal; nothing is applied after. May be called twice."""
        self.driver.stop()
        for task in list(self._tasks):
            task.cancel()
        log, self._log = self._log, None
        if log is not None:
            log.close()
        self._fail_pending(OutcomeUnknown("this replica has stopped"))
        _fail_each(self._reading, NoLeader("this replica has stopped"))

    def compact(self, index: int) -> None:
        """A durable snapshot has all up to `index`, which is applied: the log may forget it."""
        if self._log is not None and self._failure is None:
            self._log.compact(index)

    @property
    def others(self) -> tuple[str, ...]:
        """Replica ids of the other members, sorted."""
        return tuple(seat.replica_id for seat in self.members if seat.replica_id != self.replica_id)

    def tell(self, replica_id: str, message: dict[str, Any]) -> bool:
        """Send a message of the service to another member; whether it may arrive. Never waits."""
        return self._log is not None and self._log.tell(replica_id, message)

    def on_message(self, kind: str, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Hear (replica id, message) of the service's messages whose `type` is `kind`."""
        self._listeners[kind] = callback

    def heard(self, replica_id: str, message: dict[str, Any]) -> bool:
        """Pass a message of another member on; whether anybody listens."""
        callback = self._listeners.get(message["type"])
        if callback is not None:
            callback(replica_id, message)
        return callback is not None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that waits; what it raises stops this member."""
        task = asyncio.get_running_loop().create_task(work, name=f"raft-{self.replica_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.fail(error)

    async def transfer(self, to_replica_id: str) -> str:
        """Stand back for another replica (empty: the one that is furthest); answers who leads then.

        Raises NotLeader, NoLeader, InvalidRequest (unknown, itself, or alone), Unavailable (nobody took over in
        time). What is under way is finished first, and nothing new is taken meanwhile.
        """
        log = self._ready()
        self._refuse_unless_leading()
        self._check_successor(to_replica_id)
        deadline = self.clock.monotonic() + TRANSFER_SECONDS
        self._transferring = True
        try:
            asked = False
            while self.clock.monotonic() < deadline:
                self._raise_if_failed()
                if self.leader_id not in ("", self.replica_id):
                    return self.leader_id
                # Only a replica that has all of the log can win, and it has it once nothing is under way.
                if not asked and not self._pending:
                    asked = log.ask_to_stand(to_replica_id)
                await self.clock.sleep(_POLL_SECONDS)
        finally:
            self._transferring = False
        raise Unavailable(f"no other replica took the lead within {TRANSFER_SECONDS:g} s")

    def open_log(self) -> RaftLog:
        """Open the journal and the wire; raises as `start`."""
        raise NotImplementedError

    @property
    def skips(self) -> Mapping[int, str]:
        """Why entries are not given to the state machine, by index; those that a snapshot has are left out."""
        return {} if self._log is None else self._log.skips

    def learn_skip(self, index: int, at_ms: int, reason: str) -> bool:
        """Skip this entry too, as the others do; False where it is not in the log yet, or was applied."""
        return self._log is not None and self._log.skip(index, at_ms, reason)

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""
        return self._log is not None and self._failure is None and self._log.leads

    @property
    def role(self) -> str:
        """One of leader, follower, candidate."""
        return "follower" if self._log is None else self._log.role

    @property
    def leader_id(self) -> str:
        """Replica id of the leader, or empty."""
        return "" if self._log is None else self._log.leader_id

    @property
    def term(self) -> int:
        """Raft's current term."""
        return 0 if self._log is None else self._log.term

    @property
    def commit_index(self) -> int:
        """Raft's commit index."""
        return 0 if self._log is None else self._log.commit_index

    @property
    def is_paused(self) -> bool:
        """Whether it waits for a snapshot of the leader, or is about to take its state from one."""
        return self._log is not None and self._log.is_paused

    @property
    def applied_index(self) -> int:
        """Last index that is applied, Raft's own entries included."""
        return 0 if self._log is None else self._log.applied_index

    def _tick(self, was_away: bool) -> float:
        """One tick of Raft; after how many seconds the next is due."""
        log = self._log
        if log is None or self._failure is not None:
            return TICK_SECONDS
        if was_away:
            log.forgive_silence()
        log.tick()
        self._gossip(log)
        led, self._led = self._led, log.is_raft_leader
        if led and not self._led:
            self._fail_pending(
                OutcomeUnknown("the leader lost its place before the entry was applied")
            )
        led, self._leads = self._leads, log.leads
        if self._leads and not led:
            self.on_lead()
        return 0.0 if log.has_more_to_do else log.due_in

    def _gossip(self, log: RaftLog) -> None:
        now = self.clock.monotonic()
        if now < self._gossip_at or log.is_alone:
            return
        self._gossip_at = now + GOSSIP_SECONDS
        said = self.beside.say()
        if said and self._log is log:
            log.gossip(said)

    def fail(self, error: Exception) -> None:
        """Stop for good: the state may be half changed, so nothing may be built on it."""
        if self._failure is not None:
            return
        self._failure = error
        self.driver.stop()
        logger.critical("replica %s stops: %s", self.replica_id, error, exc_info=error)
        failed = ReplicaFailed(f"replica {self.replica_id} has stopped: {error}")
        failed.__cause__ = error
        self._fail_pending(failed)
        _fail_each(self._reading, failed)
        self._on_fatal(error)

    def _fail_pending(self, error: Exception) -> None:
        _fail_each(self._pending, error)

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise ReplicaFailed(
                f"replica {self.replica_id} has stopped: {self._failure}"
            ) from self._failure

    def _ready(self) -> RaftLog:
        self._raise_if_failed()
        if self._log is None:
            raise NoLeader(f"replica {self.replica_id} is not running")
        return self._log

    def _refuse_unless_leading(self) -> None:
        if not self.is_leader or self._transferring:
            raise self.no_lead()

    def no_lead(self) -> Unavailable:
        """Why nothing can be proposed here."""
        leader_id = self.leader_id
        if leader_id and leader_id != self.replica_id:
            return NotLeader(leader_id)
        return NoLeader("no replica leads at the moment")

    def _check_successor(self, to_replica_id: str) -> None:
        others = sorted(membership.voters_of(self.members) - {self.replica_id})
        if not others:
            raise InvalidRequest(
                "to_replica_id", "this replica is alone", "nobody can lead instead"
            )
        if to_replica_id and to_replica_id not in others:
            problem = f"{to_replica_id!r} is not one of the others"
            raise InvalidRequest("to_replica_id", problem, f"use one of {', '.join(others)}")


def _fail_each(futures: set[asyncio.Future[Any]], error: Exception) -> None:
    for future in list(futures):
        if not future.done():
            future.set_exception(error)


def _answer(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
