"""The event store as readers may see it: nothing that is older than a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.ports import EventStore
    from raftalloc.service.gaps import Gaps


class History:
    """A `ports.EventReader` without the blocks below the lowest gap-free index."""

    def __init__(self, store: EventStore, gaps: Gaps) -> None:
        """Over a store and its gaps."""
        self._store = store
        self._gaps = gaps

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` blocks from `from_index` on, in order."""
        found = await self._store.read(max(from_index, self._gaps.floor), limit)
        # Looked at again: a snapshot may have been installed meanwhile.
        floor = self._gaps.floor
        return [(index, block) for index, block in found if index >= floor]

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Blocks under an index key, newest first, below `before_index`."""
        found = await self._store.find(key, before_index, limit)
        floor = self._gaps.floor
        return [(index, block) for index, block in found if index >= floor]

    async def bounds(self) -> tuple[int, int]:
        """Lowest and highest index that can be read; (0, 0) where none can."""
        lowest, highest = await self._store.bounds()
        floor = self._gaps.floor
        if floor <= lowest:
            return lowest, highest
        first = await self._store.read(floor, 1)
        return (first[0][0], highest) if first else (0, 0)

    async def snapshots(self) -> list[int]:
        """Indices of whole snapshots, newest first."""
        return await self._store.snapshots()
