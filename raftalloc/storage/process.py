"""The event store in a process of its own: RocksDB's work never holds up a decision.

    python -m raftalloc.storage.process DIRECTORY

Both sides speak frames of msgpack over pipes: [number, method, arguments] there, [number, error, result] back, in
order; error is empty, or the name of an exception and its text. The child first says [0, error, None] once the store is
open, and ends when its input does. Appends are not waited for, but no more than BEHIND_BYTES_MAX of them are under way;
they are gathered for GATHER_SECONDS, since waking another process costs more than writing a block.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import msgpack

from raftalloc.errors import DataDirectoryError, RaftallocError, ReplicaFailed
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemClock, SystemDisk, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.ports import Child, Clock, Spawn

BEHIND_BYTES_MAX: Final = 16 << 20
"""Of appended blocks that the child has not taken: then `append` waits."""
BEHIND_BLOCKS_MAX: Final = 4096
GATHER_SECONDS: Final = 0.005
GATHER_BYTES_MAX: Final = 256 << 10
OPEN_SECONDS_MAX: Final = 10.0
"""A predecessor that is just ending still holds RocksDB's lock."""
_OPEN_RETRY_SECONDS: Final = 0.1
_METHODS: Final = (
    "append_all",
    "read",
    "find",
    "bounds",
    "size",
    "prune",
    "save_snapshot",
    "load_snapshot",
    "snapshots",
    "note",
    "set_note",
    "sync",
    "close",
)


async def open_process_store(
    spawn: Spawn, path: str, *, clock: Clock | None = None
) -> ProcessStore:
    """Start the process and wait until the store below `path` (absolute) is open. Raises DataDirectoryError.

    `clock`: this machine's by default.
    """
    child = await spawn.child("raftalloc.storage.process", [path])
    try:
        _, error, _ = msgpack.unpackb(await child.receive())
    except EOFError as gone:
        await child.stop()
        raise DataDirectoryError(f"{path}: the store process ended before it was open") from gone
    if error:
        await child.stop()
        raise _exception(error)
    return ProcessStore(child, clock or SystemClock())


class ProcessStore:
    """A `ports.EventStore` that asks the store process."""

    def __init__(self, child: Child, clock: Clock) -> None:
        """Over a child whose store is open."""
        self._child = child
        self._clock = clock
        self._numbers = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._gathered: list[tuple[int, bytes, list[str]]] = []
        self._gathered_bytes = 0
        self._has_gathered = asyncio.Event()
        self._sending = asyncio.Lock()
        self._behind: dict[int, tuple[int, int]] = {}
        self._behind_blocks = 0
        self._behind_bytes = 0
        self._taken = asyncio.Event()
        self._failure: Exception | None = None
        self._closed = False
        self._reader = asyncio.create_task(self._read_answers(), name="event-store-answers")
        self._gatherer = asyncio.create_task(self._send_gathered(), name="event-store-appends")

    @property
    def pid(self) -> int:
        """Of the store process."""
        return self._child.pid

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        """Hand a block over; waits while the child is behind. An earlier append's failure is raised here."""
        while self._is_behind and self._failure is None:
            self._taken.clear()
            await self._taken.wait()
        self._raise_if_failed()
        self._gathered.append((index, block, list(keys)))
        self._gathered_bytes += len(block)
        self._behind_blocks += 1
        self._behind_bytes += len(block)
        self._has_gathered.set()
        if self._gathered_bytes > GATHER_BYTES_MAX:
            async with self._sending:
                await self._flush()

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` blocks from `from_index` on, in order."""
        return [(index, block) for index, block in await self._ask("read", from_index, limit)]

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Blocks under an index key, newest first, below `before_index`."""
        found = await self._ask("find", key, before_index, limit)
        return [(index, block) for index, block in found]

    async def bounds(self) -> tuple[int, int]:
        """Lowest and highest index kept; (0, 0) when empty."""
        lowest, highest = await self._ask("bounds")
        return lowest, highest

    async def size(self) -> int:
        """Bytes of blocks and keys, about."""
        return int(await self._ask("size"))

    async def prune(self, below_index: int) -> int:
        """Forget some blocks below an index; answers how many."""
        return int(await self._ask("prune", below_index))

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """Write a snapshot; answers its path and bytes."""
        path, size = await self._ask("save_snapshot", index, state, manifest)
        return path, size

    async def load_snapshot(self) -> tuple[int, bytes, bytes] | None:
        """The newest snapshot that is whole."""
        found = await self._ask("load_snapshot")
        return None if found is None else (found[0], found[1], found[2])

    async def snapshots(self) -> list[int]:
        """Indices of whole snapshots, newest first."""
        return list(await self._ask("snapshots"))

    async def note(self) -> bytes:
        """What `set_note` kept last."""
        return bytes(await self._ask("note"))

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """Keep a note, and blocks of earlier indices, in one step, synced."""
        await self._ask(
            "set_note", note, [(index, block, list(keys)) for index, block, keys in blocks]
        )

    async def sync(self) -> None:
        """Everything appended is on disk when this answers."""
        await self._ask("sync")

    async def close(self) -> None:
        """Sync, let go, and end the process. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._failure is None:
                await self._ask("close")
        finally:
            self._gatherer.cancel()
            await asyncio.wait([self._gatherer])
            await self._child.stop()
            await self._reader

    async def _ask(self, method: str, *arguments: object) -> Any:
        self._raise_if_failed()
        number = self._next_number()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        async with self._sending:
            await self._flush()
            self._calls[number] = future
            await self._send(number, method, arguments)
        return await future

    @property
    def _is_behind(self) -> bool:
        return self._behind_bytes > BEHIND_BYTES_MAX or self._behind_blocks >= BEHIND_BLOCKS_MAX

    async def _send_gathered(self) -> None:
        """Send what was gathered, a moment after the first of it came."""
        try:
            while True:
                await self._has_gathered.wait()
                await self._clock.sleep(GATHER_SECONDS)
                async with self._sending:
                    await self._flush()
        except ReplicaFailed:
            return  # `_fail` has told everyone

    async def _flush(self) -> None:
        """Hand over what was gathered, in one frame. Needs `_sending`, so that nothing overtakes it."""
        self._has_gathered.clear()
        if not self._gathered:
            return
        blocks, size = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes = [], 0
        number = self._next_number()
        self._behind[number] = (len(blocks), size)
        await self._send(number, "append_all", (blocks,))

    async def _send(self, number: int, method: str, arguments: Sequence[object]) -> None:
        try:
            await self._child.send(msgpack.packb((number, method, arguments)))
        except EOFError as gone:
            self._fail(ReplicaFailed(f"the store process {self.pid} has gone"))
            raise ReplicaFailed(f"the store process {self.pid} has gone") from gone

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _read_answers(self) -> None:
        while True:
            try:
                number, error, result = msgpack.unpackb(await self._child.receive())
            except EOFError:
                self._fail(ReplicaFailed(f"the store process {self.pid} has gone"))
                return
            if number in self._behind:
                blocks, size = self._behind.pop(number)
                self._behind_blocks -= blocks
                self._behind_bytes -= size
                self._taken.set()
                if error:
                    self._fail(_exception(error))
                continue
            future = self._calls.pop(number)
            if future.done():
                continue
            if error:
                future.set_exception(_exception(error))
            else:
                future.set_result(result)

    def _fail(self, error: Exception) -> None:
        """Nothing more can be asked; everyone who waits is told."""
        self._failure = self._failure or error
        self._taken.set()
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(error)

    def _raise_if_failed(self) -> None:
        if self._failure is not None:
            raise ReplicaFailed(f"the event store has failed: {self._failure}") from self._failure


def _exception(error: Sequence[str]) -> Exception:
    name, text = error
    return DataDirectoryError(text) if name == "DataDirectoryError" else ReplicaFailed(text)


def main() -> None:
    """The child: open, serve, close."""
    # It ends when its input does, so that it still takes what its parent hands over while that is stopping.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What a library prints must not get between the frames.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asyncio.run(_serve(sys.argv[1], sys.stdin.fileno(), answers))


async def _serve(path: str, asked: int, answers: int) -> None:
    """One call after the other; nothing else runs on this loop, so it may block."""
    try:
        store = await _open(path)
    except DataDirectoryError as error:
        write_frame(answers, msgpack.packb((0, ("DataDirectoryError", str(error)), None)))
        return
    write_frame(answers, msgpack.packb((0, None, None)))
    try:
        while (frame := read_frame(asked)) is not None:
            write_frame(answers, msgpack.packb(await _answer(store, *msgpack.unpackb(frame))))
    except BrokenPipeError:
        return  # the parent died between its question and our answer
    finally:
        await store.close()


async def _open(path: str) -> RocksStore:
    clock = SystemClock()
    deadline = clock.monotonic() + OPEN_SECONDS_MAX
    while True:
        try:
            return RocksStore(SystemDisk(), path)
        except DataDirectoryError as error:
            if "in use" not in str(error) or clock.monotonic() > deadline:
                raise
        await clock.sleep(_OPEN_RETRY_SECONDS)


async def _answer(
    store: RocksStore, number: int, method: str, arguments: Sequence[Any]
) -> tuple[int, tuple[str, str] | None, object]:
    assert method in _METHODS, method
    try:
        return number, None, await getattr(store, method)(*arguments)
    except RaftallocError as error:
        return number, (type(error).__name__, str(error)), None
    except Exception as error:  # noqa: BLE001 - the boundary of the process: the parent raises it, and stops
        return number, (type(error).__name__, f"{method}: {error}"), None


if __name__ == "__main__":
    main()
