"""A replica that differs from the others serves nobody any more, for good: also not after a restart.

It leaves the group at once, so that another leads; its process stays, so that /readyz, /metrics and Admin/Status can
say why. Its data directory is marked, and refused by the next start, until it has been made anew
(docs/operations.md, "A replica differs").
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raftalloc.errors import RaftallocError
from raftalloc.storage.directory import mark_diverged
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from raftalloc.ports import Disk
    from raftalloc.service.digests import Divergence

log = get_logger(__name__)


class Quarantine:
    """Of one replica; `reason` is empty while all is well."""

    def __init__(self, disk: Disk, path: str) -> None:
        """`path`: the data directory."""
        self.reason = ""
        self.divergence: Divergence | None = None
        self._disk = disk
        self._path = path
        self._leave: list[Callable[[], Awaitable[None] | None]] = []
        self._leaving: asyncio.Task[None] | None = None

    def on_leave(self, leave: Callable[[], Awaitable[None] | None]) -> None:
        """What is to be closed when it comes to that; the last given is closed first. It must not raise."""
        self._leave.append(leave)

    def diverged(self, divergence: Divergence) -> None:
        """Nothing is answered from here on. Does not raise, and does not wait for what is to be closed."""
        self.divergence = divergence
        self.reason = f"this replica differs from the others: {divergence}"
        log.error("replica differs from the others and serves no more", why=str(divergence))
        try:
            mark_diverged(self._disk, self._path, index=divergence.index, reason=str(divergence))
        except (OSError, RaftallocError):
            log.exception("the data directory could not be marked")
        self._leaving = asyncio.create_task(self._go(), name="quarantine")

    async def _go(self) -> None:
        for leave in reversed(self._leave):
            waiting = leave()
            if waiting is not None:
                await waiting
        log.info("left the group")
