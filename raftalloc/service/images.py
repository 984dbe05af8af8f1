"""Snapshots between replicas: an engine as Raft sees it, a `ports.Machine`.

What another replica sent is made durable before anything is changed: first the gap in the history that it will leave,
then the snapshot. Only then, and once the log begins behind it, the state is swapped. A restart in between recovers
from whichever of the two is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raftalloc.errors import DataDirectoryError
from raftalloc.ports import Image
from raftalloc.service.recovery import state_of

if TYPE_CHECKING:
    from raftalloc.core.state import State
    from raftalloc.ports import EventStore
    from raftalloc.service.engine import Engine


class Images:
    """Gives and takes the snapshots of one engine."""

    def __init__(self, *, engine: Engine, store: EventStore, cluster_id: str) -> None:
        """`engine` has recovered before consensus starts; `store` is its store."""
        self._engine = engine
        self._store = store
        self._cluster_id = cluster_id
        self._kept: tuple[State, bytes] | None = None

    def installed(self) -> Image | None:
        """What is known of the snapshot that it recovered from, if that came from another replica."""
        return self._engine.installed

    def begin(self, first_index: int) -> int:
        """The log begins there; answers the index up to which the state holds all."""
        self._engine.begin(first_index)
        return self._engine.index

    async def image(self, at_least: int) -> Image | None:
        """The newest durable snapshot, at or above an index; one is taken where there is none."""
        found = await self._store.load_snapshot()
        if found is None or found[0] < at_least:
            if self._engine.index < at_least:
                return None
            await self._engine.snapshot()
            found = await self._store.load_snapshot()
        if found is None or found[0] < at_least:
            return None
        index, state, manifest = found
        return Image(index=index, term=0, members=b"", manifest=manifest, state=state)

    async def keep(self, image: Image) -> None:
        """Make another replica's snapshot durable. Raises DataDirectoryError: not of this group, or not readable."""
        engine = self._engine
        state, manifest = state_of(image.index, image.state, image.manifest, self._cluster_id)
        manifest = replace(manifest, term=image.term, members=image.members.hex())
        chain = bytes.fromhex(manifest.chain)
        await engine.stored(engine.index)
        await engine.gaps.add(engine.index, engine.chain, image.index, chain)
        await self._store.save_snapshot(image.index, image.state, manifest.encode())
        if image.index not in await self._store.snapshots():
            raise DataDirectoryError(f"the snapshot at index {image.index} was not kept")
        self._kept = state, chain

    def adopt(self, image: Image) -> None:
        """Go on from the snapshot that was kept last."""
        assert self._kept is not None, "kept before it is adopted"
        (state, chain), self._kept = self._kept, None
        assert state.index == image.index
        self._engine.adopt(state, chain)
