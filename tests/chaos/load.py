"""Agents at work through the public client, and what they were told.

The jobs are those of the demonstration, so that nodes, providers, devices and quotas are all short at times. What an
agent was told is written down before anything else is done with it: the account at the end holds the group to it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2
from raftalloc.cli.demo import fleet
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.demo.workload import LEASE_MS, Ending, agent_ids, jobs
from raftalloc.errors import OutcomeUnknown, Rejected, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from raftalloc.cli.demo.workload import Job
    from raftalloc.client.client import Client

CALL_SECONDS: Final = 30.0
"""An agent goes on asking for so long: longer than a whole group takes to start again."""
REGISTER_AT_ONCE: Final = 16
PROBE_AGENT: Final = "auditor_00"


async def register(client: Client, nodes: int) -> None:
    """The fleet and the quotas of the demonstration."""
    for quota in fleet.quotas():
        await client.quotas.set_quota(quota)
    room = asyncio.Semaphore(REGISTER_AT_ONCE)

    async def one(request: Any) -> None:
        async with room:
            await client.fleet.register_node(request)

    await asyncio.gather(*(one(request) for request in fleet.registrations(nodes)))


class Load:
    """Agents that share one client, as those of one machine would.

    outcomes: calls by what came of them: ok (answered, a "no" too), failed (surely not done), unknown.
    slowest: seconds of the longest call since it was last looked at.
    """

    def __init__(self, client: Client, seed: int) -> None:
        """Nobody works yet."""
        self.told = Acknowledged()
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self._client = client
        self._seed = seed
        self._probes = 0
        self._ended = asyncio.Event()
        self._agents: list[asyncio.Task[None]] = []

    def start(self, agents: int) -> None:
        """Put them to work."""
        self._agents = [
            asyncio.create_task(self._work(agent_id, self._seed * 1_000_003 + row))
            for row, agent_id in enumerate(agent_ids(agents))
        ]

    async def end(self) -> None:
        """Each finishes its job. Raises what broke one of them."""
        self._ended.set()
        await asyncio.gather(*self._agents)

    def cancel(self) -> None:
        """Drop everything."""
        for agent in self._agents:
            agent.cancel()

    def check(self) -> None:
        """Raise what broke an agent: a fault of the run, or of the client."""
        for agent in self._agents:
            if agent.done():
                agent.result()

    async def probe(self, _number: int) -> bool:
        """One small request, made and given back: whether a write was taken."""
        self._probes += 1
        request = allocator_pb2.AllocateRequest(
            agent_id=PROBE_AGENT,
            workflow_id=f"probe/{self._probes:06d}",
            resources={"cpu": 100},
            lease_ttl_ms=LEASE_MS,
        )
        held = await self._ask(request)
        if held:
            # Not awaited here: the write was taken when its grant was told.
            self._agents.append(asyncio.create_task(self._release(request, held)))
        return bool(held)

    async def _work(self, agent_id: str, seed: int) -> None:
        for job in jobs(agent_id, seed):
            if self._ended.is_set():
                return
            held = await self._ask(job.request)
            await asyncio.sleep(job.hold_ms / 1000)
            await self._part(job, held)

    async def _ask(self, request: allocator_pb2.AllocateRequest) -> dict[int, int]:
        """Allocation id -> token of what was granted at once. What waits is left to its lease."""
        self.told.asked[request.workflow_id] = request.count or 1
        call = self._client.allocator.allocate(request, timeout=CALL_SECONDS)
        answer = await self._outcome(call)
        if answer is None:
            return {}
        held = {each.id: each.fencing_token for each in answer.granted.allocations}
        for allocation_id, token in held.items():
            self.told.grants[allocation_id] = (token, request.workflow_id)
        if answer.WhichOneof("outcome") == "queued":
            self.told.queued[answer.queued.request_id] = request.workflow_id
        return held

    async def _part(self, job: Job, held: dict[int, int]) -> None:
        if job.ending is Ending.RENEW:
            await asyncio.gather(*(self._renew(job.request, *each) for each in held.items()))
        if job.ending in (Ending.RENEW, Ending.RELEASE):
            await self._release(job.request, held)

    async def _renew(
        self, request: allocator_pb2.AllocateRequest, allocation_id: int, token: int
    ) -> None:
        renewal = allocator_pb2.RenewRequest(
            allocation_id=allocation_id, fencing_token=token, agent_id=request.agent_id
        )
        await self._outcome(self._client.allocator.renew(renewal, timeout=CALL_SECONDS))

    async def _release(self, request: allocator_pb2.AllocateRequest, held: dict[int, int]) -> None:
        async def one(allocation_id: int, token: int) -> None:
            release = allocator_pb2.ReleaseRequest(
                allocation_id=allocation_id, fencing_token=token, agent_id=request.agent_id
            )
            call = self._client.allocator.release(release, timeout=CALL_SECONDS)
            if await self._outcome(call) is not None:
                self.told.released.add(allocation_id)

        await asyncio.gather(*(one(*each) for each in held.items()))

    async def _outcome(self, call: Awaitable[Any]) -> Any:
        """The answer; None where it is "no", or there is none."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await call
        except Rejected:
            answer = None
        except OutcomeUnknown:
            self.outcomes["unknown"] += 1
            return None
        except Unavailable:
            self.outcomes["failed"] += 1
            return None
        self.outcomes["ok"] += 1
        self.slowest = max(self.slowest, loop.time() - began)
        return answer
