"""Consensus and event store, with their latencies counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.raft.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftalloc.ports import Clock, LogDisk, PrunableStore
    from raftalloc.telemetry.metrics import Metrics


class MeasuredReplica(Replica):
    """A Raft replica; `metrics` is set before it starts."""

    metrics: Metrics

    async def propose(self, entry: bytes) -> object:
        """See ports.Consensus."""
        started = self.clock.monotonic()
        result = await super().propose(entry)
        self.metrics.committed(self.clock.monotonic() - started)
        return result


class MeasuredLogDisk:
    """The disk beneath the Raft log; each call goes on to `inner`."""

    def __init__(self, inner: LogDisk, clock: Clock, metrics: Metrics) -> None:
        """Takes the time of what is submitted, which is a write and its fdatasync."""
        self._inner = inner
        self._clock = clock
        self._metrics = metrics
        self.make_directory = inner.make_directory
        self.list = inner.list
        self.create = inner.create
        self.open = inner.open
        self.rename = inner.rename
        self.remove = inner.remove
        self.sync_directory = inner.sync_directory
        self.lock = inner.lock
        self.drain = inner.drain
        self.close = inner.close

    def submit(self, work: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """See ports.LogDisk."""
        started = self._clock.monotonic()

        def finished(error: OSError | None) -> None:
            self._metrics.journal_synced(self._clock.monotonic() - started)
            done(error)

        self._inner.submit(work, finished)


class MeasuredStore:
    """An event store; each call goes on to `inner`."""

    def __init__(self, inner: PrunableStore, clock: Clock, metrics: Metrics) -> None:
        """Counts what may take long: appending, syncing, snapshots."""
        self._inner = inner
        self._clock = clock
        self._metrics = metrics

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        """See ports.EventStore."""
        started = self._clock.monotonic()
        await self._inner.append(index, block, keys)
        self._metrics.stored("append", self._clock.monotonic() - started)

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """See ports.EventStore."""
        return await self._inner.read(from_index, limit)

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """See ports.EventStore."""
        return await self._inner.find(key, before_index, limit)

    async def bounds(self) -> tuple[int, int]:
        """See ports.EventStore."""
        return await self._inner.bounds()

    async def size(self) -> int:
        """See ports.PrunableStore."""
        return await self._inner.size()

    async def prune(self, below_index: int) -> int:
        """See ports.PrunableStore."""
        return await self._inner.prune(below_index)

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """See ports.EventStore."""
        started = self._clock.monotonic()
        saved = await self._inner.save_snapshot(index, state, manifest)
        self._metrics.stored("snapshot", self._clock.monotonic() - started)
        return saved

    async def load_snapshot(self) -> tuple[int, bytes, bytes] | None:
        """See ports.EventStore."""
        return await self._inner.load_snapshot()

    async def snapshots(self) -> list[int]:
        """See ports.EventStore."""
        return await self._inner.snapshots()

    async def note(self) -> bytes:
        """See ports.EventStore."""
        return await self._inner.note()

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """See ports.EventStore."""
        await self._inner.set_note(note, blocks)

    async def sync(self) -> None:
        """See ports.EventStore."""
        started = self._clock.monotonic()
        await self._inner.sync()
        self._metrics.stored("fsync", self._clock.monotonic() - started)

    async def close(self) -> None:
        """See ports.EventStore."""
        await self._inner.close()
