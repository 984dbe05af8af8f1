"""What the leader does by itself: takes the lead, lets time pass, notices nodes that fell silent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftalloc.core import machine, views
from raftalloc.core.commands import Asked, MarkLost, MarkReturned, Tick
from raftalloc.errors import NoLeader, NotLeader, OutcomeUnknown, ReplicaFailed, Unavailable
from raftalloc.service.fleet import Heartbeats
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftalloc.ports import Clock, Consensus
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Decided, Engine
    from raftalloc.service.submit import Submitter

logger = get_logger(__name__)

LOOK_SECONDS: Final = 0.02
"""How often it looks at most: an upper bound of how late a deadline fires that an entry has brought."""
IDLE_SECONDS: Final = 0.1
"""How often it looks at least, where it does not lead and nobody has told it otherwise (`wake`)."""
TICK_MS_MAX: Final = 1000
"""While leases run the log's time is never older than this, so that a cold start knows how long nobody led."""
FLEET_LOOKS_PER_TIMEOUT: Final = 10
MARKS_MAX: Final = 1000
"""Nodes marked in one entry."""


class Ticker:
    """Proposes TakeLead first in every term of ours, then Tick when something is due, MarkLost and MarkReturned."""

    def __init__(
        self,
        *,
        engine: Engine,
        consensus: Consensus,
        submitter: Submitter,
        clock: Clock,
        cluster_clock: ClusterClock,
        replica_id: str,
        heartbeat_timeout_ms: int = 10_000,
    ) -> None:
        """Does nothing until `start`."""
        self._engine = engine
        self._consensus = consensus
        self._submitter = submitter
        self._clock = clock
        self._cluster_clock = cluster_clock
        self._replica_id = replica_id
        self._timeout = heartbeat_timeout_ms / 1000
        self._heartbeats = Heartbeats()
        self._followed_term = 0
        self._fleet_looked_at = 0.0
        self._unsubscribe: Callable[[], None] = _nothing
        self._task: asyncio.Task[None] | None = None
        self._resting: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Begin; needs a recovered engine."""
        self._unsubscribe = self._engine.subscribe(self._follow)
        self._task = asyncio.create_task(self._run(), name="ticker")

    @property
    def has_lead(self) -> bool:
        """Whether this replica leads and its TakeLead is applied: from here on it takes commands and heartbeats."""
        return self._submitter.has_lead

    def heartbeat(self, node_ids: Sequence[str]) -> list[str]:
        """These nodes live. Answers those that are not registered. Raises NotLeader, NoLeader."""
        if not self._leads():
            leader_id = self._consensus.leader_id
            if leader_id and leader_id != self._replica_id:
                raise NotLeader(leader_id)
            raise NoLeader("no replica leads at the moment")
        now = self._clock.monotonic()
        for node_id in node_ids:
            self._heartbeats.hear(node_id, now)
        state = self._engine.state
        return [
            node_id
            for node_id in node_ids
            if not self._heartbeats.waits_for(node_id) and views.node(state, node_id) is None
        ]

    def wake(self) -> None:
        """Look soon: something may be due earlier than it was, or this replica may lead now."""
        resting, self._resting = self._resting, None
        if resting is not None and not resting.done():
            resting.set_result(None)

    async def close(self) -> None:
        """Stop proposing. May be called twice."""
        self._unsubscribe()
        self._unsubscribe = _nothing
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _leads(self) -> bool:
        """Whether this replica has the lead; the first time in a term, every node's timeout starts anew."""
        if not self._submitter.has_lead:
            return False
        if self._followed_term != self._consensus.term:
            self._followed_term = self._consensus.term
            self._heartbeats.reset(self._engine.state, self._clock.monotonic())
        return True

    def _follow(self, decided: Decided) -> None:
        if self._followed_term:
            self._heartbeats.follow(decided.happened, self._clock.monotonic())
        if self._submitter.has_lead:
            self.wake()

    async def _run(self) -> None:
        try:
            while True:
                if self._leads():
                    await self._look()
                    # However many entries are decided, it looks no more often than this.
                    await self._clock.sleep(LOOK_SECONDS)
                else:
                    self._submitter.take_lead()
                await self._rest(self._due_in())
        except ReplicaFailed:
            return  # whoever failed has said so
        except Exception as error:  # noqa: BLE001 - the boundary of a task: the replica dies of it
            self._engine.fail(error)

    async def _rest(self, seconds: float) -> None:
        """Until then, or until somebody calls `wake`."""
        if seconds <= 0:
            return
        resting = self._resting = asyncio.get_running_loop().create_future()
        timer = self._clock.call_later(seconds, self.wake)
        try:
            await resting
        finally:
            timer.cancel()

    def _due_in(self) -> float:
        """Seconds until there may be something to propose."""
        if not self._leads():
            return IDLE_SECONDS
        now = self._clock.monotonic()
        wait = self._fleet_looked_at + self._timeout / FLEET_LOOKS_PER_TIMEOUT - now
        state = self._engine.state
        due_ms = machine.next_due_ms(state)
        if due_ms:
            if state.live_count() > 0:
                due_ms = min(due_ms, state.now_ms + TICK_MS_MAX)
            wait = min(wait, (due_ms - self._cluster_clock.now_ms()) / 1000)
        return wait

    async def _look(self) -> None:
        """Propose what is due now; what cannot be proposed is due again at the next look."""
        commands = [*self._time(), *self._fleet()]
        if not commands:
            return
        try:
            await self._submitter.submit([Asked(command) for command in commands])
        except (Unavailable, OutcomeUnknown) as error:
            logger.debug("not ticked", reason=str(error))

    def _time(self) -> list[Tick]:
        state = self._engine.state
        due_ms = machine.next_due_ms(state)
        if not due_ms:
            return []
        now_ms = self._cluster_clock.now_ms()
        stale = state.live_count() > 0 and now_ms - state.now_ms >= TICK_MS_MAX
        return [Tick()] if due_ms <= now_ms or stale else []

    def _fleet(self) -> list[MarkLost | MarkReturned]:
        """Looks rarely: it costs O(nodes)."""
        now = self._clock.monotonic()
        if now - self._fleet_looked_at < self._timeout / FLEET_LOOKS_PER_TIMEOUT:
            return []
        self._fleet_looked_at = now
        marks: list[MarkLost | MarkReturned] = []
        marks += [MarkLost(node_id) for node_id in self._heartbeats.silent(now, self._timeout)]
        marks += [
            MarkReturned(node_id) for node_id in self._heartbeats.returned(now, self._timeout)
        ]
        return marks[:MARKS_MAX]


def _nothing() -> None:
    """There is nothing to unsubscribe."""
