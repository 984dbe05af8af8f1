"""The corrections about snapshots, taken away one at a time: the patches. mutants.py says what each is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raftalloc.raft.offering import Offering
from raftalloc.service.engine import Engine
from raftalloc.service.recovery import state_of

if TYPE_CHECKING:
    from raftalloc.ports import Image

_QUEUE = Engine._queue_snapshot
_COMPACT = Offering.compact


def clear_always(self: Any, index: int, term: int, members: bytes) -> None:
    """What follows a snapshot is dropped, though it follows the same entry."""
    if index <= self.last_index:
        self._truncate(max(self.first_index, index) - 1)
    self.rebase(index + 1, term, members)


def compact_unsynced(self: Any) -> Any:
    """The log forgets when a snapshot is taken, and not when it is durable."""
    written = _QUEUE(self)
    self.on_durable(self.index)
    return written


async def keep_in_memory(self: Any, image: Image) -> None:
    """A snapshot of the leader is used, and not written."""
    state, manifest = state_of(image.index, image.state, image.manifest, self._cluster_id)
    await self._engine.stored(self._engine.index)
    self._kept = state, bytes.fromhex(manifest.chain)


def begin_transfers_anew(self: Any, index: int) -> None:
    """A compaction takes nobody into account."""
    self._offers.clear()
    _COMPACT(self, index)


def keep_quiet(self: Any, node: Any) -> None:
    """Who is behind the log is left alone."""
