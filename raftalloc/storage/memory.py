"""An event store that forgets: for tests, simulation, and a group that is thrown away."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SNAPSHOTS_KEPT: Final = 2


class MemoryStore:
    """A `ports.EventStore` in dictionaries. Survives `close`, so that a test can restart on it."""

    def __init__(self) -> None:
        """Empty."""
        self._indices: list[int] = []
        self._blocks: dict[int, bytes] = {}
        self._keys: dict[str, list[int]] = {}
        self._snapshots: dict[int, tuple[bytes, bytes]] = {}
        self._note = b""

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        """Keep a block."""
        if not self._indices or self._indices[-1] < index:
            self._indices.append(index)
        elif index not in self._blocks:
            insort(self._indices, index)
        self._blocks[index] = block
        for key in keys:
            indices = self._keys.setdefault(key, [])
            if not indices or indices[-1] < index:
                indices.append(index)
            elif index not in indices:
                insort(indices, index)

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` blocks from `from_index` on, in order."""
        first = bisect_left(self._indices, from_index)
        return [(index, self._blocks[index]) for index in self._indices[first : first + limit]]

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Blocks under an index key, newest first, below `before_index`."""
        indices = self._keys.get(key, [])
        end = bisect_left(indices, before_index)
        return [(index, self._blocks[index]) for index in indices[max(0, end - limit) : end][::-1]]

    async def bounds(self) -> tuple[int, int]:
        """Lowest and highest index kept; (0, 0) when empty."""
        return (self._indices[0], self._indices[-1]) if self._indices else (0, 0)

    async def size(self) -> int:
        """Bytes of the blocks."""
        return sum(len(block) for block in self._blocks.values())

    async def prune(self, below_index: int) -> int:
        """Forget blocks below an index."""
        count = bisect_left(self._indices, below_index)
        gone, self._indices = self._indices[:count], self._indices[count:]
        for index in gone:
            del self._blocks[index]
        for key, indices in list(self._keys.items()):
            kept = indices[bisect_left(indices, below_index) :]
            if kept:
                self._keys[key] = kept
            else:
                del self._keys[key]
        return count

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """Keep a snapshot. Answers a name for it, and its bytes."""
        self._snapshots[index] = (state, manifest)
        for old in sorted(self._snapshots)[:-SNAPSHOTS_KEPT]:
            del self._snapshots[old]
        return f"memory:{index}", len(state)

    async def load_snapshot(self) -> tuple[int, bytes, bytes] | None:
        """The newest."""
        if not self._snapshots:
            return None
        index = max(self._snapshots)
        return (index, *self._snapshots[index])

    async def snapshots(self) -> list[int]:
        """Indices, newest first."""
        return sorted(self._snapshots, reverse=True)

    async def note(self) -> bytes:
        """What was kept last."""
        return self._note

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """Keep a note and blocks."""
        for index, block, keys in blocks:
            await MemoryStore.append(self, index, block, keys)
        self._note = note

    async def sync(self) -> None:
        """Memory is all there is."""

    async def close(self) -> None:
        """Nothing to let go of."""
