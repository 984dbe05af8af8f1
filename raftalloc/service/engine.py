"""The state machine in its place: bytes of the log in, state and events out, blocks to the store, snapshots.

An index that is in the event store already is folded from there, once, when the engine recovers; when consensus brings
its entry again it is skipped, never decided again: new rules cannot rewrite history. The latest
indices of the store are compared with what consensus brings, so that a store and a journal that do not belong together
are noticed.

`apply` is synchronous and never waits: blocks are queued and one task hands them to the store, in order, with snapshots
between them. Whoever proposes waits for `room` first; that is the back-pressure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, machine, views
from raftalloc.core.commands import Renew, Resize
from raftalloc.core.events import EntrySkipped, Happened
from raftalloc.core.records import DONE, GRANTED
from raftalloc.core.state import NewerRules, State
from raftalloc.errors import DataDirectoryError, ReplicaFailed
from raftalloc.service.gaps import Gaps
from raftalloc.service.history import History
from raftalloc.service.indexing import keys_of
from raftalloc.service.recovery import Manifest, recover
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.core.commands import Asked, Command, Entry
    from raftalloc.core.records import Allocation, Outcome
    from raftalloc.ports import EventStore, Image
    from raftalloc.service.retention import Retention

logger = get_logger(__name__)

BACKLOG_BLOCKS_MAX: Final = 4096
BACKLOG_BYTES_MAX: Final = 64 << 20


class EntryFailed(ReplicaFailed):
    """The state machine raised while it applied an entry: a bug, which the same entry meets on every replica."""

    def __init__(self, index: int, cause: BaseException) -> None:
        """Name the index."""
        super().__init__(
            f"entry {index} of the log cannot be applied: {type(cause).__name__}: {cause}; if every replica stops "
            f"there, it can be skipped: raftalloc log skip --help"
        )
        self.index = index


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one entry of the log.

    `asked` and `outcomes` pair up. `granted[i]` are the allocations that outcome i speaks of (of a grant, all that
    started; of a renewal, the one), as they were when it was decided; filled only on the replica that proposed.
    """

    index: int
    at_ms: int
    proposer: str
    asked: tuple[Asked, ...]
    happened: tuple[Happened, ...]
    outcomes: tuple[Outcome, ...]
    granted: tuple[tuple[Allocation, ...], ...]


@dataclass(frozen=True, slots=True)
class _Block:
    index: int
    data: bytes
    keys: list[str]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    index: int
    state: bytes
    manifest: bytes
    chain: bytes
    written: asyncio.Future[tuple[str, int]]


class Engine:
    """Owns the State, its index and chain, and what goes to the event store. One event loop, no locks."""

    def __init__(
        self,
        *,
        store: EventStore,
        replica_id: str,
        cluster_id: str,
        snapshot_entries: int,
        on_fatal: Callable[[BaseException], None],
        retention: Retention | None = None,
    ) -> None:
        """`on_fatal` hears of a store that failed: the replica must stop. Without `retention` events stay for ever."""
        assert snapshot_entries > 0
        self.state = State.genesis()
        self.chain: bytes = codec.CHAIN_START
        """32 bytes over every entry and event up to `index`."""
        self.stored_index = 0
        """Last index that the event store has taken (not: synced)."""
        self.snapshot_index = 0
        """Index of the newest snapshot, 0 where there is none."""
        self.gaps = Gaps(store)
        self.history = History(store, self.gaps)
        """What readers may see of the store."""
        self.installed: Image | None = None
        """Of the snapshot that was recovered from, if it came from another replica."""
        self.on_durable: Callable[[int], None] = lambda _index: None
        """Hears the index up to which snapshot and blocks are on the disk, and looked at: the log may forget it."""
        self._store = store
        self._replica_id = replica_id
        self._cluster_id = cluster_id
        self._snapshot_entries = snapshot_entries
        self._snapshot_due_index = snapshot_entries
        self._on_fatal = on_fatal
        self._retention = retention
        self._unconfirmed: dict[int, bytes] = {}
        self._queue: deque[_Block | _Snapshot] = deque()
        self._queue_bytes = 0
        self._queued = asyncio.Event()
        self._progress = asyncio.Event()
        self._observers: list[Callable[[Decided], None]] = []
        self._jump_observers: list[Callable[[], None]] = []
        self._drainer: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @property
    def index(self) -> int:
        """Last index that is in `state`; Raft's own entries are not counted, so Raft's index may be higher."""
        return self.state.index

    @property
    def backlog(self) -> int:
        """Blocks that the store has not taken yet."""
        return len(self._queue)

    async def recover(self) -> None:
        """Load the newest good snapshot and fold the store's tail over it. Raises DataDirectoryError on damage."""
        assert self._drainer is None, "recovered twice"
        found = await recover(self._store, self.gaps, self._cluster_id)
        self.state, self.chain = found.state, found.chain
        self.installed = found.installed
        self.stored_index = found.state.index
        self.snapshot_index = found.snapshot_index
        self._snapshot_due_index = found.snapshot_index + self._snapshot_entries
        self._unconfirmed = dict(found.entries)
        self._drainer = asyncio.create_task(self._drain(), name="event-store-drain")
        logger.info("recovered", index=self.index, snapshot_index=found.snapshot_index)

    def apply(self, index: int, data: bytes) -> Decided | None:
        """Decide one committed entry; for Consensus. None: the index is in the store already. Raises only on bugs."""
        if index <= self.state.index:
            self._confirm(index, data)
            return None
        self._refuse_unconfirmed(index)
        try:
            entry = codec.decode_entry(data)
        except ValueError as error:
            raise ReplicaFailed(
                f"entry {index} of the log cannot be read by this version ({error}); "
                "where another replica runs a newer one, install that here"
            ) from error
        try:
            applied = machine.apply(self.state, entry, index)
        except NewerRules as error:
            raise ReplicaFailed(
                f"entry {index} of the log: {error}; install the version that the other replicas run"
            ) from error
        except Exception as error:
            raise EntryFailed(index, error) from error
        self._keep(index, entry.at_ms, data, applied.happened)
        decided = Decided(
            index=index,
            at_ms=entry.at_ms,
            proposer=entry.proposer,
            asked=entry.asked,
            happened=applied.happened,
            outcomes=applied.outcomes,
            granted=self._granted(entry, applied.outcomes),
        )
        for observer in self._observers:
            observer(decided)
        return decided

    def skip(self, index: int, data: bytes) -> Decided | None:
        """Pass over one committed entry that cannot be applied; the event says so, on every replica the same."""
        if index <= self.state.index:
            self._confirm(index, data)
            return None
        self._refuse_unconfirmed(index)
        now_ms = self.state.now_ms
        digest = blake2b(data, digest_size=16).hexdigest()
        happened = (Happened(EntrySkipped(digest), machine.SETTLED),)
        machine.fold(self.state, happened, index=index, at_ms=now_ms)
        self._keep(index, now_ms, data, happened)
        logger.warning("an entry was skipped", index=index, digest=digest)
        decided = Decided(index, now_ms, "", (), happened, (), ())
        for observer in self._observers:
            observer(decided)
        return decided

    def subscribe(self, callback: Callable[[Decided], None]) -> Callable[[], None]:
        """Hear of every entry as it is decided, in order, synchronously; call the answer to stop. It must not raise."""
        self._observers.append(callback)
        return lambda: self._observers.remove(callback)

    def on_jump(self, callback: Callable[[], None]) -> None:
        """Hear of it when the state was replaced by another replica's, so that entries were never decided here."""
        self._jump_observers.append(callback)

    def begin(self, first_index: int) -> None:
        """Consensus brings nothing from below this index: it is not waited for."""
        self._unconfirmed = {
            index: data for index, data in self._unconfirmed.items() if index >= first_index
        }

    def adopt(self, state: State, chain: bytes) -> None:
        """Go on from another replica's state, whose snapshot and gap are on the disk. Nothing may be queued."""
        assert self._failure is not None or not any(
            isinstance(item, _Block) for item in self._queue
        ), "blocks that are not stored"
        self.state, self.chain = state, chain
        self.stored_index = self.snapshot_index = state.index
        self._snapshot_due_index = state.index + self._snapshot_entries
        self._unconfirmed.clear()
        logger.info("took the state of another replica", index=state.index)
        for observer in self._jump_observers:
            observer()

    async def stored(self, index: int) -> None:
        """Wait until the store has taken every block up to `index`. Raises ReplicaFailed."""
        while self.stored_index < index:
            await self._wait_for_progress()

    async def room(self) -> None:
        """Wait while the store is behind by more than it may be. Raises ReplicaFailed."""
        while len(self._queue) > BACKLOG_BLOCKS_MAX or self._queue_bytes > BACKLOG_BYTES_MAX:
            await self._wait_for_progress()

    async def snapshot(self) -> tuple[int, str, int]:
        """Write a snapshot of the state as it is now; answers index, path and bytes."""
        index = self.index
        path, size = await self._queue_snapshot()
        return index, path, size

    def digests(self) -> tuple[int, str, str]:
        """Index, chain digest and content digest (both hex), all of the same moment. Costs O(state)."""
        return self.index, self.chain.hex(), codec.content_digest(self.state)

    async def close(self) -> None:
        """Let the store take what is queued, and stop. Does not close the store. May be called twice."""
        drainer, self._drainer = self._drainer, None
        if drainer is None:
            return
        while self._queue and self._failure is None:
            await self._wait_for_progress()
        drainer.cancel()
        await asyncio.wait([drainer])

    def _confirm(self, index: int, data: bytes) -> None:
        """What consensus brings again must be what the store has."""
        known = self._unconfirmed.pop(index, None)
        if known is not None and known != data:
            raise DataDirectoryError(
                f"index {index}: the journal and the event store hold different entries; "
                "one of them is not of this replica's life"
            )

    def _refuse_unconfirmed(self, index: int) -> None:
        """New indices come only after all that is stored has come again."""
        if self._unconfirmed:
            missing = min(self._unconfirmed)
            raise DataDirectoryError(
                f"index {missing} is in the event store, but consensus went on to {index} without it: "
                "the journal has lost entries"
            )

    def _keep(self, index: int, at_ms: int, data: bytes, happened: tuple[Happened, ...]) -> None:
        """Chain the entry, queue its block, and a snapshot where one is due."""
        events = codec.encode_events(happened)
        self.chain = codec.next_chain(self.chain, index, data, events)
        block = codec.encode_block(codec.Block(index, at_ms, data, events, self.chain))
        self._queue.append(_Block(index, block, keys_of(happened)))
        self._queue_bytes += len(block)
        self._queued.set()
        if index >= self._snapshot_due_index:
            self._queue_snapshot()

    def _queue_snapshot(self) -> asyncio.Future[tuple[str, int]]:
        """Copy the state now; it is written once the store has all blocks before it."""
        self._raise_if_failed()
        self._snapshot_due_index = self.index + self._snapshot_entries
        state = codec.encode_state(self.state)
        manifest = Manifest.of(
            cluster_id=self._cluster_id, index=self.index, chain=self.chain, state=state
        )
        written: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Snapshot(self.index, state, manifest.encode(), self.chain, written))
        self._queued.set()
        return written

    def _granted(
        self, entry: Entry, outcomes: tuple[Outcome, ...]
    ) -> tuple[tuple[Allocation, ...], ...]:
        if entry.proposer != self._replica_id:
            return ()
        return tuple(
            allocations_of(self.state, asked.command, outcome)
            for asked, outcome in zip(entry.asked, outcomes, strict=True)
        )

    async def _drain(self) -> None:
        """Hand blocks and snapshots to the store, in order, as fast as it takes them."""
        try:
            while True:
                while self._queue:
                    await self._store_next(self._queue[0])
                    self._queue.popleft()
                    self._made_progress()
                self._queued.clear()
                await self._queued.wait()
        except Exception as error:  # noqa: BLE001 - the boundary of a task: the replica dies of it
            self.fail(error)

    async def _store_next(self, item: _Block | _Snapshot) -> None:
        if isinstance(item, _Block):
            await self._store.append(item.index, item.data, item.keys)
            self.stored_index = item.index
            self._queue_bytes -= len(item.data)
            return
        written = await self._store.save_snapshot(item.index, item.state, item.manifest)
        await self._verify(item)
        self.snapshot_index = max(self.snapshot_index, item.index)
        self.on_durable(item.index)
        if not item.written.done():
            item.written.set_result(written)
        if self._retention is not None:
            await self._retention.forget(self.state.now_ms)
        logger.info("snapshot written", index=item.index, path=written[0], bytes=written[1])

    async def _verify(self, item: _Snapshot) -> None:
        """Before the log forgets anything: the snapshot is there, and the block that it ends with, as it was."""
        found = await self._store.read(item.index, 1)
        has_block = bool(found) and found[0][0] == item.index
        is_whole = item.index in await self._store.snapshots()
        # Where the snapshot is that of another replica, its last block is still to be fetched.
        if has_block and codec.decode_block(found[0][1]).chain != item.chain:
            raise DataDirectoryError(f"the event store has another block at index {item.index}")
        if not is_whole or (not has_block and item.index >= self.gaps.floor and item.index > 0):
            raise DataDirectoryError(f"the snapshot at index {item.index} was not kept whole")

    def _made_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    async def _wait_for_progress(self) -> None:
        self._raise_if_failed()
        await self._progress.wait()
        self._raise_if_failed()

    def fail(self, error: BaseException) -> None:
        """Stop the replica because of this; for the tasks of the service. The first call counts."""
        if self._failure is not None:
            return
        self._failure = error
        logger.error("the replica stops", error=str(error), exc_info=error)
        for item in self._queue:
            if isinstance(item, _Snapshot) and not item.written.done():
                item.written.set_exception(ReplicaFailed(f"the replica has stopped: {error}"))
                item.written.exception()  # nobody may be waiting for it
        self._made_progress()
        self._on_fatal(error)

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise ReplicaFailed(f"the replica has stopped: {self._failure}") from self._failure


def allocations_of(state: State, command: Command, outcome: Outcome) -> tuple[Allocation, ...]:
    """The live allocations that an outcome speaks of."""
    if outcome.status == GRANTED:
        ids = range(outcome.subject, outcome.subject + outcome.count)
    elif outcome.status == DONE and isinstance(command, Renew | Resize):
        ids = range(outcome.subject, outcome.subject + 1)
    else:
        return ()
    found = (views.allocation(state, allocation_id) for allocation_id in ids)
    return tuple(allocation for allocation in found if allocation is not None)
