"""From an AllocateRequest to a decision: sends it, awaits a queued grant, leaves nothing behind when it is given up.

The replica answers `Queued` at once; the grant is awaited by Events.Watch. The events only wake us: what was granted is
read by List in the end, so an event missed or seen twice makes no difference. When the wait is over what still waits is
cancelled; when the caller is cancelled, so is all of the request, and what was granted meanwhile is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.client.calls import loop_time
from raftalloc.client.results import Refusal
from raftalloc.errors import Compacted, OutcomeUnknown, RaftallocError, Rejected, Unavailable

if TYPE_CHECKING:
    from raftalloc.client.client import Client

ABANDON_S: Final = 5.0
"""How long a cancelled caller is held up by taking its request back."""
GRANTED: Final = "Granted"
WITHDRAWN: Final = "Withdrawn"
_GONE: Final = ("NOT_WAITING", "ALREADY_ENDED", "UNKNOWN_ALLOCATION", "LEASE_EXPIRED")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a request. Not granted: `allocations` is empty. `refusal`: why not, or why not all of it."""

    allocations: tuple[types_pb2.Allocation, ...]
    refusal: Refusal | None
    waited: float
    index: int


class Asking:
    """Makes requests for one client."""

    def __init__(self, client: Client) -> None:
        """Uses the client's calls and their timeouts."""
        self._client = client
        self._abandoning: set[asyncio.Task[None]] = set()

    async def decide(self, request: allocator_pb2.AllocateRequest) -> Decision:
        """The decision, after `request.wait_ms` at the latest. Raises what Client raises; a Rejection is a decision."""
        call = asyncio.ensure_future(self._client.allocator.allocate(request))
        try:
            response = await asyncio.shield(call)
            if response.WhichOneof("outcome") == "rejected":
                return Decision((), Refusal.of(response.rejected), 0.0, response.index)
            queued = _queued_of(response)
            if queued is None:
                return Decision(tuple(response.granted.allocations), None, 0.0, response.index)
            return await self._settled(request, response, queued)
        except asyncio.CancelledError:
            await self._abandon(call, request.agent_id)
            raise

    async def _settled(
        self,
        request: allocator_pb2.AllocateRequest,
        response: allocator_pb2.AllocateResponse,
        queued: allocator_pb2.Queued,
    ) -> Decision:
        """What came of a queued request by the end of its wait."""
        began = loop_time()
        withdrawn = 0
        try:
            async with asyncio.timeout(request.wait_ms / 1000):
                await self._watch(request.agent_id, queued, response)
        except TimeoutError:
            withdrawn = await self._withdraw(queued.request_id, request.agent_id)
        allocations = await self._live_members(queued.request_id, request.agent_id)
        waited = loop_time() - began
        if len(allocations) >= max(request.count, 1):
            return Decision(allocations, None, waited, allocations[0].index)
        refusal = await self._already_ended(queued.request_id) if request.count <= 1 else None
        refusal = refusal or _not_granted(queued, waited, len(allocations), max(request.count, 1))
        return Decision(allocations, refusal, waited, withdrawn or response.index)

    async def _watch(
        self,
        agent_id: str,
        queued: allocator_pb2.Queued,
        response: allocator_pb2.AllocateResponse,
    ) -> None:
        """Return when nothing of the request waits any more."""
        wanted = events_pb2.EventFilter(types=[GRANTED, WITHDRAWN], agent_id=agent_id)
        request = events_pb2.WatchRequest(from_index=response.index, filter=wanted)
        started = {allocation.id for allocation in response.granted.allocations}
        all_started = len(started) + queued.waiting_count
        while True:
            try:
                async with contextlib.aclosing(self._client.events.watch(request)) as stream:
                    async for told in stream:
                        for event in told.events:
                            if not _is_about(event, queued.request_id):
                                continue
                            if event.type == WITHDRAWN:
                                return
                            started.add(event.subject)
                        if len(started) >= all_started:
                            return
                        request.from_index = max(request.from_index, told.index + 1)
            except Compacted as error:
                request.from_index = max(error.lowest_index, request.from_index + 1)
            except (Unavailable, OutcomeUnknown) as error:
                _log.warning("still waiting for request %d: %s", queued.request_id, error)

    async def _withdraw(self, request_id: int, agent_id: str) -> int:
        """Cancel what still waits; the index, or 0 where nothing did."""
        cancel = allocator_pb2.CancelRequest(request_id=request_id, agent_id=agent_id)
        try:
            return (await self._client.allocator.cancel(cancel)).index
        except Rejected as error:
            if error.code not in _GONE:
                raise
            return 0

    async def _live_members(
        self, request_id: int, agent_id: str
    ) -> tuple[types_pb2.Allocation, ...]:
        """Members of the request that hold something now, in order of id."""
        request = allocator_pb2.ListRequest(
            request_id=request_id, agent_id=agent_id, state=types_pb2.Allocation.STATE_LIVE
        )
        return tuple([each async for each in self._client.allocator.list_all(request)])

    async def _already_ended(self, request_id: int) -> Refusal | None:
        """Says so where it was granted, and ended before anybody could use it."""
        try:
            answer = await self._client.allocator.get(allocator_pb2.GetRequest(id=request_id))
        except Rejected:
            return None
        if not answer.allocation.granted_ms:
            return None
        return Refusal(
            "ALREADY_ENDED", f"was granted and ended at once: {answer.allocation.end_reason}"
        )

    async def _abandon(
        self, call: asyncio.Future[allocator_pb2.AllocateResponse], agent_id: str
    ) -> None:
        """Take the request back, whatever has become of it; goes on by itself if cancelled again."""
        task = asyncio.ensure_future(self._take_back(call, agent_id))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)
        await asyncio.shield(task)

    async def _take_back(
        self, call: asyncio.Future[allocator_pb2.AllocateResponse], agent_id: str
    ) -> None:
        """Cancel what waits and release what was granted, within ABANDON_S."""
        try:
            async with asyncio.timeout(ABANDON_S):
                response = await call
                queued = _queued_of(response)
                allocations = tuple(response.granted.allocations)
                if queued is not None:
                    await self._withdraw(queued.request_id, agent_id)
                    allocations = await self._live_members(queued.request_id, agent_id)
                for allocation in allocations:
                    await self._release(allocation)
        except (RaftallocError, TimeoutError) as error:
            _log.warning(
                "a request of agent %s was given up and could not be taken back: %s; what it holds "
                "stays until its lease or duration ends",
                agent_id,
                str(error) or "no answer in time",
            )

    async def _release(self, allocation: types_pb2.Allocation) -> None:
        """Give back; it may have ended meanwhile."""
        try:
            await self._client.allocator.release(release_message(allocation))
        except Rejected as error:
            if error.code not in _GONE:
                raise


def release_message(allocation: types_pb2.Allocation) -> allocator_pb2.ReleaseRequest:
    """What its holder says to give it back."""
    return allocator_pb2.ReleaseRequest(
        allocation_id=allocation.id,
        fencing_token=allocation.fencing_token,
        agent_id=allocation.agent_id,
    )


def _queued_of(response: allocator_pb2.AllocateResponse) -> allocator_pb2.Queued | None:
    """What waits: all of the request, or the members that did not start at once."""
    if response.WhichOneof("outcome") == "queued":
        return response.queued
    if response.granted.HasField("queued"):
        return response.granted.queued
    return None


def _is_about(event: events_pb2.Event, request_id: int) -> bool:
    """Whether the event tells of this request. A grant's subject is the allocation; its request is in the detail."""
    if event.subject == request_id:
        return True
    try:
        detail = json.loads(event.detail_json or "{}")
    except ValueError:
        return False
    return isinstance(detail, dict) and detail.get("request_id") == request_id


def _not_granted(queued: allocator_pb2.Queued, waited: float, granted: int, count: int) -> Refusal:
    """Why not, or why not all: what stood in the way when it was queued, and how long it waited since."""
    why = Refusal.of(queued.why)
    part = f"{granted} of {count} granted, " if granted else ""
    place = f"from position {queued.position}" if queued.position else "in the queue"
    return Refusal(
        code=why.code or "DEADLINE",
        message=f"{part}waited {waited:.3g} s {place}: {why.message or 'no capacity came free'}",
        field=why.field,
        remedy=why.remedy,
        numbers=why.numbers,
    )
