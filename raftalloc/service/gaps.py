"""Blocks of events that the store does not have yet: those that a snapshot of another replica went past.

Each gap knows the chain on both its sides, so what is fetched into it can be checked. What is older than a gap is not
shown to anybody until the gap is filled, so that a history is never without a middle. The gaps are noted in the
store, in one step with the blocks that fill them.
"""

from __future__ import annotations

import asyncio
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final

import msgpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.ports import EventStore

INDEX_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Gap:
    """Blocks above index `above` are missing, up to and including `below`; 32 bytes of chain as of both.

    is_lost: no replica has them any more.
    """

    above: int
    above_chain: bytes
    below: int
    below_chain: bytes
    is_lost: bool = False


class Gaps:
    """The gaps of one store, lowest first."""

    def __init__(self, store: EventStore) -> None:
        """None before `load`."""
        self._store = store
        self._gaps: tuple[Gap, ...] = ()
        self._writing = asyncio.Lock()
        self.changed = asyncio.Event()
        """Set when there is a new one."""

    async def load(self) -> None:
        """What the store says."""
        noted = await self._store.note()
        rows = msgpack.unpackb(noted) if noted else []
        self._gaps = tuple(Gap(*row) for row in rows)
        self.changed.set()

    @property
    def floor(self) -> int:
        """The lowest index from which nothing is missing; 0 where nothing is."""
        return self._gaps[-1].below + 1 if self._gaps else 0

    @property
    def wanted(self) -> Gap | None:
        """The one to be filled first: the newest."""
        return next((gap for gap in reversed(self._gaps) if not gap.is_lost), None)

    def lacks(self, index: int) -> bool:
        """Whether the block after this one is in a gap."""
        return any(gap.above <= index < gap.below for gap in self._gaps)

    def limit(self, snapshot_index: int) -> int:
        """How far blocks may be folded over a snapshot: not over a gap that begins behind it."""
        beyond = [gap.above for gap in self._gaps if gap.below > snapshot_index]
        return min(beyond, default=INDEX_MAX)

    async def add(self, above: int, above_chain: bytes, below: int, below_chain: bytes) -> None:
        """A snapshot at `below` takes the place of the state at `above`. Durable when it answers."""
        async with self._writing:
            gaps = _cut(self._gaps, above, above_chain)
            await self._write((*gaps, Gap(above, above_chain, below, below_chain)))
        self.changed.set()

    async def cut(self, index: int, chain: bytes) -> None:
        """Forget those above an index: the snapshot behind them is not there, and nor are later blocks."""
        async with self._writing:
            await self._write(_cut(self._gaps, index, chain))

    async def fill(
        self, gap: Gap, rest: Sequence[Gap], blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """Keep (index, block, keys); of `gap`, what is in `rest` is still missing. Nothing, if it has changed."""
        async with self._writing:
            if gap in self._gaps:
                at = self._gaps.index(gap)
                await self._write((*self._gaps[:at], *rest, *self._gaps[at + 1 :]), blocks)

    async def _write(
        self,
        gaps: Sequence[Gap],
        blocks: Sequence[tuple[int, bytes, Sequence[str]]] = (),
    ) -> None:
        rows = [astuple(gap) for gap in gaps]
        await self._store.set_note(msgpack.packb(rows) if rows else b"", blocks)
        self._gaps = tuple(gaps)


def _cut(gaps: Sequence[Gap], index: int, chain: bytes) -> tuple[Gap, ...]:
    """What of them is at or below an index."""
    kept = []
    for gap in gaps:
        if gap.below <= index:
            kept.append(gap)
        elif gap.above < index:
            kept.append(Gap(gap.above, gap.above_chain, index, chain, gap.is_lost))
    return tuple(kept)
