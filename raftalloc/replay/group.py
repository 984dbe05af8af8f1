"""A trace against a running group, through the client, at a chosen speed.

    register the fleet -> follow the log -> send what is due -> wait for the queue -> count -> leave

The group's own clock measures the waits; the log, not the answers, says what was granted. Faults on
the way (a leader killed, an answer lost) are the client's to repeat and ours to report.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from raftalloc.api.v1 import allocator_pb2, fleet_pb2, types_pb2
from raftalloc.errors import Rejected, Unavailable
from raftalloc.replay.audit import Audit, vector_of
from raftalloc.replay.connection import Connection
from raftalloc.replay.fleet import NodeSpec
from raftalloc.replay.pacing import Pacer, pause
from raftalloc.replay.report import Facts
from raftalloc.replay.workload import Workload

FIT_S: Final = 600.0
"""Without a speed, the last submission comes after so long at the latest."""
DRAIN_S: Final = 10.0
"""How long the queue is waited for after the last submission."""
CATCH_UP_S: Final = 60.0
"""How long the reading of the log may be behind at the end."""
SETUP_CALLS_MAX: Final = 32
LOOK_S: Final = 0.2

Item = TypeVar("Item")

Progress = Callable[[str, int, int], None]
"""Told (what is done, so many, of so many) from time to time."""


def fitting_speed(workload: Workload) -> float:
    """Trace seconds per second, so that the trace fits FIT_S; never slower than it was."""
    return max(1.0, workload.span_ms / 1000 / FIT_S)


class GroupReplay:
    """One replay. After `run`, whichever way it ended, the figures may be read."""

    def __init__(
        self,
        connection: Connection,
        fleet: Sequence[NodeSpec],
        workload: Workload,
        *,
        speed: float,
        keep: bool = False,
    ) -> None:
        """`keep`: leave nodes, grants and waiting requests in the group."""
        self.audit = Audit(submission.command.agent_id for submission in workload.submissions)
        self.pacer = Pacer(connection, workload, speed=speed, answered=self.audit.answered)
        self.wall_s = 0.0
        self.foreign_nodes = 0
        self._connection = connection
        self._fleet = fleet
        self._workload = workload
        self._keep = keep
        self._speed = speed
        self._added: list[str] = []

    async def run(self, progress: Progress, stop: asyncio.Event) -> bool:
        """Answers whether it came to its end; False: told to stop.

        Raises what the group met when it could not be reached for the whole timeout of a call; then
        nothing is taken back either.
        """
        finished = False
        await self._register(progress, stop)
        if not stop.is_set():
            after_index = await self._head()
            async with _tasks() as tasks:
                helpers = (
                    tasks.create_task(
                        self.audit.follow(self._connection.events_aside(), after_index)
                    ),
                    tasks.create_task(self._show(progress)),
                )
                finished = await self._submit(stop)
                for helper in helpers:
                    helper.cancel()
        if not self._keep:
            await self._leave(progress)
        return finished

    def facts(self, *, policy: str, finished: bool) -> Facts:
        """What the report needs besides the tally."""
        submitted_ms = self.pacer.sent_ms if not finished else self._workload.span_ms
        return Facts(
            mode="group",
            policy=policy,
            speed=self._speed,
            nodes=len(self._fleet),
            rows=self._workload.rows,
            submitted=self.pacer.submitted,
            skipped=dict(self._workload.skipped),
            acknowledged=self.audit.acknowledged,
            lost=self.audit.lost,
            wall_s=self.wall_s,
            trace_s=submitted_ms / 1000,
            interrupted=not finished,
            extras={
                "failovers": self.audit.tally.leaders,
                "retries": self._connection.faults,
                "duplicated": self.audit.duplicated,
                "unacknowledged": self.audit.unacknowledged,
                "behind_s": round(self.pacer.behind_s_max, 3),
                "foreign_nodes": self.foreign_nodes,
            },
        )

    async def _register(self, progress: Progress, stop: asyncio.Event) -> None:
        known = {node.node_id async for node in self._connection.fleet.list_all_nodes()}
        self.foreign_nodes = len(known - {spec.node_id for spec in self._fleet})
        requests = [
            fleet_pb2.RegisterNodeRequest(
                node_id=spec.node_id,
                capacity=dict(spec.capacity),
                devices=spec.devices,
                static=True,
            )
            for spec in self._fleet
        ]

        async def register(request: fleet_pb2.RegisterNodeRequest) -> None:
            if request.node_id not in known:
                self._added.append(request.node_id)
            await self._connection.fleet.register_node(request)

        await _each(requests, register, progress, "registering nodes", stop)
        async for node in self._connection.fleet.list_all_nodes():
            self.audit.tally.usage.register(node.node_id, vector_of(dict(node.capacity)))

    async def _submit(self, stop: asyncio.Event) -> bool:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            finished = await self.pacer.send_all(stop)
            await self._catch_up()
            self.audit.tally.usage.close_mean()
            if finished:
                await self._drain(stop)
        finally:
            self.wall_s = clock() - began
        await self._catch_up()
        return finished

    async def _show(self, progress: Progress) -> None:
        while True:
            progress("submitting", self.pacer.submitted, self._workload.members)
            await asyncio.sleep(LOOK_S)

    async def _drain(self, stop: asyncio.Event) -> None:
        """Until nothing waits, but no longer than DRAIN_S."""
        clock = asyncio.get_running_loop().time
        until = clock() + DRAIN_S
        while self._waiting() > 0 and clock() < until and not stop.is_set():
            await pause(stop, LOOK_S)

    def _waiting(self) -> int:
        tally = self.audit.tally
        gone = tally.placed + tally.rejected.total() + tally.withdrawn.total()
        return self.pacer.submitted - gone

    async def _catch_up(self) -> None:
        """Until the log has been read up to where it is now."""
        head = await self._head()
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self.audit.reach(head)
        except TimeoutError as error:
            raise Unavailable(
                f"the event log could be read up to index {self.audit.index} of {head} only"
            ) from error

    async def _head(self) -> int:
        """The leader's index."""
        request = allocator_pb2.ListRequest(page_size=1)
        return (await self._connection.allocator.list(request)).index

    async def _leave(self, progress: Progress) -> None:
        """Take back what the replay brought: what waits, then the nodes with what is on them."""
        waiting = allocator_pb2.ListRequest(state=types_pb2.Allocation.STATE_WAITING)
        users = {submission.command.agent_id for submission in self._workload.submissions}
        requests = [
            allocator_pb2.CancelRequest(
                request_id=allocation.request_id, agent_id=allocation.agent_id
            )
            async for allocation in self._connection.allocator.list_all(waiting)
            if allocation.agent_id in users
        ]
        await _each(requests, self._cancel, progress, "cancelling what waits")
        await _each(self._added, self._remove, progress, "removing nodes")

    async def _cancel(self, request: allocator_pb2.CancelRequest) -> None:
        try:
            await self._connection.allocator.cancel(request)
        except Rejected as error:
            if error.code != "NOT_WAITING":  # it may start in the meantime
                raise

    async def _remove(self, node_id: str) -> None:
        request = fleet_pb2.RemoveNodeRequest(node_id=node_id, force=True)
        try:
            await self._connection.fleet.remove_node(request)
        except Rejected as error:
            if error.code != "UNKNOWN_NODE":  # stopped before it was registered
                raise


async def _each(
    items: Iterable[Item],
    call: Callable[[Item], Awaitable[None]],
    progress: Progress,
    what: str,
    stop: asyncio.Event | None = None,
) -> None:
    """Call for every item, in order, SETUP_CALLS_MAX at once, until told to stop."""
    pending = deque(items)
    total = len(pending)

    async def work() -> None:
        while pending and not (stop is not None and stop.is_set()):
            await call(pending.popleft())
            progress(what, total - len(pending), total)

    async with _tasks() as tasks:
        for _ in range(min(SETUP_CALLS_MAX, total)):
            tasks.create_task(work())


@asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first of its faults itself, not a group of them."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
