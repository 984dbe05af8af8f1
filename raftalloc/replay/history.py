"""Where a log that was lived is read from: a replica's data directory, or a running group.

A HISTORY gives the state at an index, with its chain, and the blocks behind it, in pages. Nothing is changed by
reading: a directory is opened for reading only, and a group is asked for what it has stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from raftalloc.api.v1 import admin_pb2, events_pb2
from raftalloc.core import codec
from raftalloc.core.state import State
from raftalloc.errors import Compacted, InvalidRequest
from raftalloc.service.retention import first_since
from raftalloc.service.rewind import MissingBlocks, Rewound
from raftalloc.storage.rocks import RocksStore
from raftalloc.storage.snapshots import Snapshots
from raftalloc.system import SystemDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from raftalloc.client.client import Client

PAGE_BLOCKS: Final = 256
INDEX_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Start:
    """A state to begin with, and the chain up to it."""

    state: State
    chain: bytes


class History(Protocol):
    """A log that was lived."""

    async def start(self, index: int, time_ms: int) -> Start:
        """The state at an index, or at the last that is not later than a time; neither: the oldest there is."""

    def blocks(self, after_index: int) -> AsyncIterator[codec.Block]:
        """Every block behind an index, in order."""

    async def close(self) -> None:
        """Let go."""


class DirectoryHistory:
    """Of a replica's data directory: best of one that is stopped, or of a copy."""

    def __init__(self, path: str) -> None:
        """Raises InvalidRequest where there is no event store, DataDirectoryError where it is damaged."""
        disk = SystemDisk()
        events = f"{path}/events"
        if not disk.list(f"{events}/db"):
            raise InvalidRequest(
                "directory", f"{path} holds no events", "name a replica's data directory"
            )
        self._snapshots = Snapshots(disk, f"{events}/snapshots")
        self._store = RocksStore(disk, events, read_only=True)

    async def end_ms(self) -> int:
        """The time of the last entry: what counts back from now does so from there."""
        _, head = await self._store.bounds()
        last = await self._store.read(head, 1)
        return codec.decode_block(last[0][1]).at_ms if last else 0

    async def start(self, index: int, time_ms: int) -> Start:
        """From the snapshots, and the blocks behind."""
        _, head = await self._store.bounds()
        if index > head:
            raise InvalidRequest(
                "since", f"{index} is above the last index, {head}", "name another"
            )
        if time_ms:
            index = max(0, await first_since(self._store, time_ms + 1) - 1)
        elif not index:
            index = 0 if await self._is_whole() else min(self._snapshots.indices(), default=0)
        rewound = Rewound(self._snapshots)
        reached = rewound.rewind(index)
        try:
            while reached < index:
                page = await self._store.read(reached + 1, PAGE_BLOCKS)
                if not page:
                    break
                rewound.fold(page, index)
                reached = page[-1][0]
            if not index and not await self._is_whole():
                raise MissingBlocks(0)
        except MissingBlocks as missing:
            lowest = min(self._snapshots.indices(), default=head)
            raise Compacted(index, lowest) from missing
        return Start(rewound.state, rewound.chain)

    async def blocks(self, after_index: int) -> AsyncIterator[codec.Block]:
        """Page by page."""
        position = after_index + 1
        while page := await self._store.read(position, PAGE_BLOCKS):
            for _, data in page:
                yield codec.decode_block(data)
            position = page[-1][0] + 1

    async def close(self) -> None:
        """Let go of the store."""
        await self._store.close()

    async def _is_whole(self) -> bool:
        """Whether the lowest block is the first there ever was."""
        lowest = await self._store.read(0, 1)
        if not lowest:
            return True
        block = codec.decode_block(lowest[0][1])
        first = codec.next_chain(codec.CHAIN_START, block.index, block.entry, block.events)
        return block.chain == first


class GroupHistory:
    """Of a running group: what one of its replicas has stored."""

    def __init__(self, client: Client) -> None:
        """The client is the caller's, and stays open."""
        self._client = client

    async def start(self, index: int, time_ms: int) -> Start:
        """The state before the first entry, or one that a replica makes again."""
        if not (index or time_ms):
            page = await self._client.events.read_blocks(events_pb2.ReadBlocksRequest(page_size=1))
            if page.from_the_first:
                return Start(State.genesis(), codec.CHAIN_START)
            index = (await self._client.admin.status()).snapshot_index
        request = admin_pb2.ReadStateRequest(at_index=index, at_time_ms=time_ms)
        parts: list[bytes] = []
        while True:
            answer = await self._client.admin.read_state(request)
            parts.append(answer.part)
            request = admin_pb2.ReadStateRequest(
                at_index=answer.index, offset=request.offset + len(answer.part)
            )
            if request.offset >= answer.total_bytes:
                break
        if not answer.index:
            return Start(State.genesis(), codec.CHAIN_START)
        return Start(codec.decode_state(b"".join(parts)), bytes.fromhex(answer.chain_digest))

    async def blocks(self, after_index: int) -> AsyncIterator[codec.Block]:
        """Page by page, up to what was the head when the first was read."""
        position, head = after_index + 1, INDEX_MAX
        while position <= head:
            request = events_pb2.ReadBlocksRequest(from_index=position, page_size=PAGE_BLOCKS)
            page = await self._client.events.read_blocks(request)
            head = min(head, page.head_index)
            for each in page.blocks:
                if each.index <= head:
                    yield codec.decode_block(each.block)
            position = page.next_index

    async def close(self) -> None:
        """Nothing to let go of."""
