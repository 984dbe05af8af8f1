"""Where agents look whether what they queued for has been granted: one Watch for all of them.

A Watch resumes at another replica where it was, so an agent hears of its grant across the death of a leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from raftalloc.api.v1 import events_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from raftalloc.client.client import Client


class Board:
    """Grants by allocation id, and requests that were withdrawn, as the log has them."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._granted: dict[int, str] = {}
        self._withdrawn: set[int] = set()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def following(self, client: Client) -> AsyncIterator[None]:
        """Watch from now on, while inside. What breaks the watch for good is raised at the end."""
        status = await client.admin.status()
        task = asyncio.create_task(self._follow(client, status.applied_index + 1))
        try:
            yield
        finally:
            broken = task.done()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert not broken, "the watch ended by itself"

    async def granted(
        self, request_id: int, count: int, waiting: int, seconds: float
    ) -> list[tuple[int, int]]:
        """(allocation id, fencing token) of `waiting` of the request's `count` members, fewer if it is withdrawn.

        After `seconds` with neither: what there is.
        """
        members = range(request_id, request_id + count)

        def settled() -> bool:
            return request_id in self._withdrawn or self._started(members) >= waiting

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(settled)
        return [
            (member, json.loads(self._granted[member])["token"])
            for member in members
            if member in self._granted
        ]

    def _started(self, members: range) -> int:
        return sum(member in self._granted for member in members)

    async def _follow(self, client: Client, from_index: int) -> None:
        wanted = events_pb2.EventFilter(types=["Granted", "Withdrawn"])
        request = events_pb2.WatchRequest(from_index=from_index, filter=wanted)
        async with contextlib.aclosing(client.events.watch(request)) as responses:
            async for response in responses:
                for event in response.events:
                    if event.type == "Granted":
                        # Kept as it came: few are ever asked for, so few are taken apart.
                        self._granted[event.subject] = event.detail_json
                    else:
                        self._withdrawn.add(event.subject)
                async with self._changed:
                    self._changed.notify_all()
