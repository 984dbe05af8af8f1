"""Keeping leases alive: each is renewed three times within its ttl, until its holder lets go or it is lost.

A fault is no loss: while no leader answers no lease expires (the next leader gives the gap back), so renewing goes on.
Only a definite "no" ends it: the lease expired, the allocation ended, another holds it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.errors import OutcomeUnknown, RaftallocError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Renewal = Callable[[allocator_pb2.RenewRequest, float], Awaitable[allocator_pb2.RenewResponse]]

RENEWALS_PER_TTL: Final = 3
TIMEOUT_S_MIN: Final = 0.5

_log = logging.getLogger(__name__)


class KeepAlive:
    """A task per lease."""

    def __init__(self, renew: Renewal) -> None:
        """`renew`: a call with its timeout in seconds, tried again by itself."""
        self._renew = renew
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def keep(
        self,
        allocation: types_pb2.Allocation,
        *,
        renewed: Callable[[types_pb2.Allocation], None],
        lost: Callable[[RaftallocError], None],
    ) -> None:
        """Renew from now on, if it has a lease. `renewed` with each answer, `lost` once and at the end."""
        if not allocation.lease_ttl_ms or allocation.id in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(
            self._run(allocation, renewed, lost), name=f"keep-alive-{allocation.id}"
        )
        self._tasks[allocation.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(allocation.id, None))

    def drop(self, allocation_id: int) -> None:
        """Renew it no more."""
        task = self._tasks.pop(allocation_id, None)
        if task is not None:
            task.cancel()

    @property
    def kept(self) -> frozenset[int]:
        """Ids of the allocations that are being renewed."""
        return frozenset(self._tasks)

    async def close(self) -> None:
        """Renew nothing any more; leases run out by themselves."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(
        self,
        allocation: types_pb2.Allocation,
        renewed: Callable[[types_pb2.Allocation], None],
        lost: Callable[[RaftallocError], None],
    ) -> None:
        """One lease, until it is lost or dropped."""
        ttl_s = allocation.lease_ttl_ms / 1000
        request = allocator_pb2.RenewRequest(
            allocation_id=allocation.id,
            fencing_token=allocation.fencing_token,
            agent_id=allocation.agent_id,
        )
        while True:
            await asyncio.sleep(ttl_s / RENEWALS_PER_TTL)
            try:
                answer = await self._renew(request, max(ttl_s, TIMEOUT_S_MIN))
            except (Unavailable, OutcomeUnknown) as error:
                _log.warning("allocation %d could not be renewed yet: %s", allocation.id, error)
            except RaftallocError as error:
                _log.warning("allocation %d is lost: %s", allocation.id, error)
                lost(error)
                return
            else:
                renewed(answer.allocation)
