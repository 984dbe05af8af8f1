"""How long events are kept: so many days, and so many bytes. Older indices answer Compacted.

Looked at after each snapshot. What is behind the oldest snapshot that is kept stays, so that each can be recovered.
Time and index rise together, so the first block that is young enough is found by bisection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.core import codec
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from raftalloc.ports import EventReader, PrunableStore

logger = get_logger(__name__)


class Retention:
    """Keeps a store within its limits."""

    def __init__(self, store: PrunableStore, *, age_ms_max: int, bytes_max: int) -> None:
        """0: without that limit."""
        self._store = store
        self._age_ms_max = age_ms_max
        self._bytes_max = bytes_max

    async def forget(self, now_ms: int) -> int:
        """Drop what is too old or too much; answers how many blocks that were."""
        below = await self._below(now_ms)
        count = 0
        while dropped := await self._store.prune(below):
            count += dropped
        if count:
            logger.info("events forgotten", blocks=count, lowest_index=below)
        return count

    async def _below(self, now_ms: int) -> int:
        """The lowest index that stays."""
        snapshots = await self._store.snapshots()
        lowest, highest = await self._store.bounds()
        if not snapshots or not highest:
            return 0
        below = lowest
        if self._age_ms_max:
            below = max(below, await first_since(self._store, now_ms - self._age_ms_max))
        if self._bytes_max:
            size = await self._store.size()
            if size > self._bytes_max:
                # Blocks are taken to be of one size; the next look corrects it.
                below = max(below, highest - (highest - lowest) * self._bytes_max // size)
        # The newest stays, so that a store that has lost its blocks is told from one that has forgotten them.
        return min(below, snapshots[-1] + 1, highest)


async def first_since(store: EventReader, at_ms: int) -> int:
    """The lowest index whose block is not older than `at_ms`; above all if there is none."""
    low, high = await store.bounds()
    high += 1
    while low < high:
        middle = (low + high) // 2
        found = await store.read(middle, 1)
        # Indices have gaps: the block at or after `middle` speaks for it.
        if found and codec.decode_block(found[0][1]).at_ms < at_ms:
            low = found[0][0] + 1
        else:
            high = middle
    return low
