"""The agents of the demonstration: each asks, works, renews, gives back, forgets - and writes down what it was told.

What an agent was told goes into Acknowledged before anything else is done with it; the oracle holds the group to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.cli.demo.workload import LEASE_MS, WAIT_MS, Ending, jobs
from raftalloc.errors import OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftalloc.cli.demo.board import Board
    from raftalloc.cli.demo.oracle import Acknowledged
    from raftalloc.cli.demo.tally import Tally
    from raftalloc.cli.demo.workload import Job
    from raftalloc.client.client import Client

CALL_SECONDS: Final = 20.0
"""An agent goes on asking for so long: far longer than the group is without a leader."""
QUEUE_SECONDS: Final = WAIT_MS / 1000 + CALL_SECONDS
PROBE_AGENT: Final = "auditor_00"


class Crew:
    """All agents of a run; they share one client, as the agents of one machine would."""

    def __init__(
        self, client: Client, board: Board, acknowledged: Acknowledged, tally: Tally
    ) -> None:
        """`acknowledged` and `tally` grow."""
        self._client = client
        self._board = board
        self._told = acknowledged
        self._tally = tally
        self._probes = 0

    async def work(self, agent_id: str, seed: int, ended: asyncio.Event) -> None:
        """One agent: job after job until `ended`; the last is finished."""
        for job in jobs(agent_id, seed):
            if ended.is_set():
                return
            await self._do(job)

    async def probe(self) -> None:
        """One small request, made and given back: whether writes are taken."""
        self._probes += 1
        request = allocator_pb2.AllocateRequest(
            agent_id=PROBE_AGENT,
            workflow_id=f"probe/{self._probes:05d}",
            resources={"cpu": 100},
            lease_ttl_ms=LEASE_MS,
        )
        answer = await self._ask(request)
        if answer is not None and answer.WhichOneof("outcome") == "granted":
            await self._release(self._note_granted(request, answer.granted.allocations), request)

    async def _do(self, job: Job) -> None:
        answer = await self._ask(job.request)
        if answer is None:
            return
        match answer.WhichOneof("outcome"):
            case "rejected":
                self._tally.rejected[answer.rejected.code] += 1
                return
            case "queued":
                held = await self._queue(job, answer.queued)
            case _:
                held = self._note_granted(job.request, answer.granted.allocations)
        await asyncio.sleep(job.hold_ms / 1000)
        await self._part(job, held)
        if answer.granted.HasField("queued"):
            await self._cancel(job.request, answer.granted.queued)

    async def _ask(
        self, request: allocator_pb2.AllocateRequest
    ) -> allocator_pb2.AllocateResponse | None:
        """The answer, or None where there was none in time: then nothing is known, and leases clean up."""
        loop = asyncio.get_running_loop()
        self._told.asked[request.workflow_id] = request.count or 1
        asked = loop.time()
        try:
            answer = await self._client.allocator.allocate(request, timeout=CALL_SECONDS)
        except (Unavailable, OutcomeUnknown):
            self._tally.unanswered += 1
            return None
        self._tally.calls.append((asked, loop.time()))
        self._tally.by_kind[request.agent_id.rpartition("_")[0]] += 1
        return answer

    def _note_granted(
        self,
        request: allocator_pb2.AllocateRequest,
        allocations: Iterable[types_pb2.Allocation],
    ) -> list[tuple[int, int]]:
        held = [(allocation.id, allocation.fencing_token) for allocation in allocations]
        self._note(request, held)
        return held

    def _note(
        self, request: allocator_pb2.AllocateRequest, held: Iterable[tuple[int, int]]
    ) -> None:
        for allocation_id, token in held:
            self._told.grants[allocation_id] = (token, request.workflow_id)
            self._tally.granted += 1

    async def _queue(self, job: Job, queued: allocator_pb2.Queued) -> list[tuple[int, int]]:
        """Wait until what was queued is granted or withdrawn."""
        self._told.queued[queued.request_id] = job.workflow_id
        self._tally.queued += 1
        held = await self._board.granted(
            queued.request_id, job.count, queued.waiting_count, QUEUE_SECONDS
        )
        self._note(job.request, held)
        if not held:
            self._tally.withdrawn += 1
        return held

    async def _part(self, job: Job, held: list[tuple[int, int]]) -> None:
        """Renew, give back, or forget."""
        match job.ending:
            case Ending.ABANDON:
                self._tally.abandoned += len(held)
            case Ending.RUN_OUT:
                self._tally.ran_out += len(held)
            case Ending.RENEW:
                await self._renew(held, job.request)
                await self._release(held, job.request)
            case Ending.RELEASE:
                await self._release(held, job.request)

    async def _renew(
        self, held: list[tuple[int, int]], request: allocator_pb2.AllocateRequest
    ) -> None:
        async def one(allocation_id: int, token: int) -> None:
            renewal = allocator_pb2.RenewRequest(
                allocation_id=allocation_id, fencing_token=token, agent_id=request.agent_id
            )
            try:
                await self._client.allocator.renew(renewal, timeout=CALL_SECONDS)
                self._tally.renewed += 1
            except Rejected:
                self._tally.late += 1
            except (Unavailable, OutcomeUnknown):
                self._tally.unanswered += 1

        await asyncio.gather(*(one(*each) for each in held))

    async def _release(
        self, held: list[tuple[int, int]], request: allocator_pb2.AllocateRequest
    ) -> None:
        async def one(allocation_id: int, token: int) -> None:
            release = allocator_pb2.ReleaseRequest(
                allocation_id=allocation_id, fencing_token=token, agent_id=request.agent_id
            )
            try:
                await self._client.allocator.release(release, timeout=CALL_SECONDS)
                self._told.released.add(allocation_id)
                self._tally.released += 1
            except Rejected:
                self._tally.late += 1
            except (Unavailable, OutcomeUnknown):
                self._tally.unanswered += 1

        await asyncio.gather(*(one(*each) for each in held))

    async def _cancel(
        self, request: allocator_pb2.AllocateRequest, queued: allocator_pb2.Queued
    ) -> None:
        """Withdraw members that have not started; those that have meanwhile are left to their lease."""
        cancel = allocator_pb2.CancelRequest(
            request_id=queued.request_id, agent_id=request.agent_id
        )
        try:
            answer = await self._client.allocator.cancel(cancel, timeout=CALL_SECONDS)
            self._tally.cancelled += answer.cancelled_count
        except Rejected:
            self._tally.late += 1
        except (Unavailable, OutcomeUnknown):
            self._tally.unanswered += 1
