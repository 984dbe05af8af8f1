"""Sending the submissions of a workload when they are due, several calls under way at once.

What is due goes out in batches: while nothing is behind, that is what fell due since the last look;
when the group is slower than the trace, batches grow to their limits, and time is lost, not order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from raftalloc.api.v1 import allocator_pb2
from raftalloc.core.commands import Allocate
from raftalloc.replay.connection import Connection
from raftalloc.replay.workload import Submission, Workload

COMMANDS_MAX: Final = 256
"""Requests of one call: a fraction of the window of an idempotency session."""
MEMBERS_MAX: Final = 250
"""Tasks of one request, and of one call. While an entry is applied a replica does nothing else:
what it is given at once should not take it as long as an election."""
CALLS_MAX: Final = 4
"""Calls under way; the leader may make one entry of them."""
LOOK_S: Final = 0.02
"""Between two looks at what is due: what comes within it may share a call."""

Answered = Callable[[Submission, allocator_pb2.AllocateResponse], None]
"""Told of each request that was answered."""


class Pacer:
    """Sends one workload.

    behind_s_max: by how much the latest call came after it was due. sent_ms: how far in the trace.
    """

    def __init__(
        self, connection: Connection, workload: Workload, *, speed: float, answered: Answered
    ) -> None:
        self.behind_s_max = 0.0
        self.submitted = 0
        self.sent_ms = 0
        self._connection = connection
        self._submissions = workload.submissions
        self._speed = speed
        self._answered = answered
        self._room = asyncio.Semaphore(CALLS_MAX)
        self._calls: set[asyncio.Task[None]] = set()

    async def send_all(self, stop: asyncio.Event) -> bool:
        """Answers whether all was sent and answered; False: told to stop. Raises what a call met."""
        began = asyncio.get_running_loop().time()
        position = 0
        try:
            while position < len(self._submissions) and not stop.is_set():
                self._raise_failures()
                elapsed_s = asyncio.get_running_loop().time() - began
                due_s = self._submissions[position].at_ms / 1000 / self._speed
                if due_s > elapsed_s:
                    await pause(stop, max(LOOK_S, due_s - elapsed_s))
                    continue
                self.behind_s_max = max(self.behind_s_max, elapsed_s - due_s)
                end = self._batch_end(position, elapsed_s * self._speed * 1000)
                await self._room.acquire()
                self._start(self._submissions[position:end])
                self.sent_ms = self._submissions[end - 1].at_ms
                position = end
            await self._finish()
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
        return position == len(self._submissions)

    def _batch_end(self, first: int, now_ms: float) -> int:
        """Where the batch that begins at `first` ends: at what is not due, or at a limit."""
        end, members = first, 0
        while end < len(self._submissions) and end - first < COMMANDS_MAX:
            submission = self._submissions[end]
            members += submission.command.count
            if submission.at_ms > now_ms or (end > first and members > MEMBERS_MAX):
                break
            end += 1
        return end

    def _start(self, batch: Sequence[Submission]) -> None:
        call = asyncio.create_task(self._send(batch))
        self._calls.add(call)
        call.add_done_callback(lambda _: self._room.release())

    async def _send(self, batch: Sequence[Submission]) -> None:
        """One call, repeated by the client with the same idempotency until it is answered."""
        requests = [message_of(submission.command, self._speed) for submission in batch]
        if len(requests) == 1:
            responses = [await self._connection.allocator.allocate(requests[0])]
        else:
            whole = allocator_pb2.AllocateBatchRequest(requests=requests)
            responses = list((await self._connection.allocator.allocate_batch(whole)).responses)
        for submission, response in zip(batch, responses, strict=True):
            self.submitted += submission.command.count
            self._answered(submission, response)

    def _raise_failures(self) -> None:
        """A call that found no answer in all its time ends the replay: the group is gone."""
        for call in [call for call in self._calls if call.done()]:
            self._calls.discard(call)
            call.result()

    async def _finish(self) -> None:
        while self._calls:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failures()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def message_of(command: Allocate, speed: float) -> allocator_pb2.AllocateRequest:
    """The request as the API has it, its duration at the speed of the replay."""
    duration_ms = max(1, round(command.duration_ms / speed)) if command.duration_ms else 0
    return allocator_pb2.AllocateRequest(
        agent_id=command.agent_id,
        agent_type=command.agent_type,
        workflow_id=command.workflow_id,
        priority=command.priority,  # type: ignore[arg-type]  # the enum has the core's numbers
        resources=dict(command.demand),
        gpu_models=command.gpu_models,
        count=command.count,
        gang=command.gang,
        duration_ms=duration_ms,
        wait_ms=command.wait_ms,
        policy=command.policy,  # type: ignore[arg-type]  # likewise
    )
