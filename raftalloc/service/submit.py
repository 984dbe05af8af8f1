"""Commands in, outcomes out: stamps, gathers a batch while one is under way, proposes, wakes the callers.

One entry is under way at a time; what comes meanwhile is the next entry, so batches grow with the load and one caller
alone waits for nobody. The first entry of every term of ours is TakeLead, with nothing else but the settings that a new
group starts with: it gives leases back the time in which nobody led, and nothing may be decided before that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.core.commands import Allocate, Asked, Entry, TakeLead
from raftalloc.errors import (
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    RaftallocError,
    ReplicaFailed,
    Unavailable,
)
from raftalloc.service.engine import Decided
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.commands import Command
    from raftalloc.core.records import Allocation, Outcome
    from raftalloc.ports import Consensus
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine

logger = get_logger(__name__)

BATCH_COMMANDS_MAX: Final = 10_000
BATCH_BYTES_MAX: Final = 1 << 20
BATCH_MEMBERS_MAX: Final = 2_000
"""Members of all allocate commands of an entry that is gathered: about 0.2 s of deciding, less than an election waits.

What one call asks is not taken apart, so a single array of 10,000 members still is one entry.
"""
QUEUE_COMMANDS_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcomes of the commands of one `submit`, in their order; the index and time of their entry.

    `granted[i]` are the allocations that outcome i speaks of (of a grant, all that started; of a renewal, the one), as
    they were when it was decided. An allocation that has ended since a replayed outcome is not among them.
    """

    outcomes: tuple[Outcome, ...]
    index: int
    at_ms: int
    granted: tuple[tuple[Allocation, ...], ...]


@dataclass(frozen=True, slots=True)
class _Ticket:
    asked: tuple[Asked, ...]
    answered: asyncio.Future[Answer]

    @property
    def members(self) -> int:
        """Allocations that it asks for."""
        commands = (asked.command for asked in self.asked)
        return sum(command.count for command in commands if isinstance(command, Allocate))


class Submitter:
    """The only way into the log. Belongs to the event loop it is made on."""

    def __init__(
        self,
        *,
        engine: Engine,
        consensus: Consensus,
        clock: ClusterClock,
        replica_id: str,
        batch_commands: int = BATCH_COMMANDS_MAX,
        batch_bytes: int = BATCH_BYTES_MAX,
        queue_commands: int = QUEUE_COMMANDS_MAX,
        initial: Sequence[Command] = (),
    ) -> None:
        """`queue_commands`: how many may wait before the next is shed with Overloaded.

        `initial`: what a leader asks for beside TakeLead; of settings that a group is to start with.
        """
        self._engine = engine
        self._consensus = consensus
        self._clock = clock
        self._replica_id = replica_id
        self._batch_commands = batch_commands
        self._batch_bytes = batch_bytes
        self._queue_commands = queue_commands
        self._initial = tuple(Asked(command) for command in initial)
        self._queue: deque[_Ticket] = deque()
        self._waiting = 0
        self._led_term = 0
        self._wake = asyncio.Event()
        self._closed: RaftallocError | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Commands that wait for an entry, or for the entry that carries them."""
        return self._waiting

    @property
    def has_lead(self) -> bool:
        """Whether this replica leads, and its TakeLead of this term is applied."""
        return self._consensus.is_leader and self._led_term == self._consensus.term

    def take_lead(self) -> None:
        """Propose TakeLead, if this replica leads and has not done so in this term; does not wait."""
        if self._consensus.is_leader and not self.has_lead:
            self._start()
            self._wake.set()

    async def submit(self, asked: Sequence[Asked]) -> Answer:
        """Propose commands (1..batch_commands), all in one entry, and wait for their outcomes.

        Raises NotLeader, NoLeader, Overloaded, InvalidRequest (not done), OutcomeUnknown (perhaps done), ReplicaFailed.
        The caller bounds the wait (`asyncio.timeout`); what is cancelled before its entry is made is not proposed.
        """
        if self._closed is not None:
            raise self._closed
        if not 1 <= len(asked) <= self._batch_commands:
            raise InvalidRequest(
                "requests", f"{len(asked)} commands", f"send 1 to {self._batch_commands} at once"
            )
        if not self._consensus.is_leader:
            raise self._no_lead()
        if self._waiting + len(asked) > self._queue_commands:
            raise Overloaded(
                f"{self._waiting} commands are waiting, {self._queue_commands} may; try again later"
            )
        self._start()
        ticket = _Ticket(tuple(asked), asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._waiting += len(asked)
        self._wake.set()
        try:
            return await ticket.answered
        finally:
            self._waiting -= len(asked)

    async def close(self) -> None:
        """Refuse what waits, and stop. What is under way may still happen. May be called twice."""
        self._close(NoLeader(f"replica {self._replica_id} is stopping"))
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])

    def _start(self) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="submit")

    def _close(self, error: RaftallocError) -> None:
        self._closed = self._closed or error
        self._refuse_all(error)

    def _refuse_all(self, error: Exception) -> None:
        tickets = list(self._queue)
        self._queue.clear()
        _refuse_each(tickets, error)

    def _no_lead(self) -> Unavailable:
        leader_id = self._consensus.leader_id
        if leader_id and leader_id != self._replica_id:
            return NotLeader(leader_id)
        return NoLeader("no replica leads at the moment")

    async def _run(self) -> None:
        """Entry after entry, for as long as there is something to propose."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue or (self._consensus.is_leader and not self.has_lead):
                    if not self.has_lead and not await self._take_lead():
                        self._refuse_all(self._no_lead())
                        break
                    await self._engine.room()
                    await self._propose_batch()
        except ReplicaFailed as error:
            self._close(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a task: the replica dies of it
            self._close(ReplicaFailed(f"replica {self._replica_id} has stopped: {error}"))
            self._engine.fail(error)

    async def _take_lead(self) -> bool:
        """The first command of a new leader. If it cannot be, whoever leads by then will do it."""
        if not self._consensus.is_leader:
            return False
        term = self._consensus.term
        gap_ms = self._clock.take_lead(self._engine.state.now_ms)
        command = Asked(TakeLead(replica_id=self._replica_id, gap_ms=gap_ms))
        initial = () if self._engine.state.queue.was_set else self._initial
        try:
            await self._propose(self._encode((command, *initial)))
        except (Unavailable, OutcomeUnknown) as error:
            logger.warning("could not take the lead", term=term, reason=str(error))
            return False
        self._led_term = term
        logger.info("took the lead", term=term, gap_ms=gap_ms)
        return True

    async def _propose_batch(self) -> None:
        tickets, data = self._gather()
        if not tickets:
            return
        try:
            decided = await self._propose(data)
        except asyncio.CancelledError:
            _refuse_each(tickets, OutcomeUnknown("this replica stops while the entry is under way"))
            raise
        except RaftallocError as error:
            _refuse_each(tickets, error)
            if isinstance(error, ReplicaFailed):
                raise
            return
        _answer_all(tickets, decided)

    async def _propose(self, data: bytes) -> Decided:
        decided = await self._consensus.propose(data)
        # None would say that a new entry got an index that the event store has already.
        assert isinstance(decided, Decided), "the journal is behind the event store"
        return decided

    def _gather(self) -> tuple[list[_Ticket], bytes]:
        """As many waiting tickets as fit one entry, and the entry; those whose callers went away are dropped."""
        tickets: list[_Ticket] = []
        count = members = 0
        while self._queue:
            ticket = self._queue[0]
            if not ticket.answered.done():
                full = count + len(ticket.asked) > self._batch_commands
                if tickets and (full or members + ticket.members > BATCH_MEMBERS_MAX):
                    break
                tickets.append(ticket)
                count += len(ticket.asked)
                members += ticket.members
            self._queue.popleft()
        data = self._encode_tickets(tickets)
        while len(data) > self._batch_bytes and len(tickets) > 1:
            half = len(tickets) // 2
            self._queue.extendleft(reversed(tickets[half:]))
            tickets = tickets[:half]
            data = self._encode_tickets(tickets)
        return tickets, data

    def _encode_tickets(self, tickets: list[_Ticket]) -> bytes:
        return self._encode(tuple(asked for ticket in tickets for asked in ticket.asked))

    def _encode(self, asked: tuple[Asked, ...]) -> bytes:
        at_ms = self._clock.stamp(self._engine.state.now_ms)
        return codec.encode_entry(Entry(at_ms=at_ms, proposer=self._replica_id, asked=asked))


def _refuse_each(tickets: list[_Ticket], error: Exception) -> None:
    for ticket in tickets:
        if not ticket.answered.done():
            ticket.answered.set_exception(error)


def _answer_all(tickets: list[_Ticket], decided: Decided) -> None:
    row = 0
    for ticket in tickets:
        end = row + len(ticket.asked)
        if not ticket.answered.done():
            ticket.answered.set_result(
                Answer(
                    outcomes=decided.outcomes[row:end],
                    index=decided.index,
                    at_ms=decided.at_ms,
                    granted=decided.granted[row:end],
                )
            )
        row = end
    assert row == len(decided.outcomes), "an outcome for each command"
