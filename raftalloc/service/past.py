"""Past states: what the state was at an index, or at a time, answered from outside the serving path.

A READER is a process of its own that holds one past state (service/rewind.py) and answers reads from it; what-ifs run
there too, on a copy. This module is its replica's side: it finds the index, feeds the reader the blocks it needs, page
by page, and keeps how many readers there are, how many callers wait for one, and how long one may take, within bounds.
The event loop does no more than pass bytes on; the live state is in another process and cannot be touched.

A caller that goes away does not end the work: who asks again finds the state where the reader left it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack

from raftalloc.errors import (
    Compacted,
    DataDirectoryError,
    InvalidRequest,
    Overloaded,
    ReplicaFailed,
    Unavailable,
)
from raftalloc.service.retention import first_since
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from raftalloc.ports import Child, Clock, EventReader, Spawn, Timer
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine

READERS_MAX: Final = 2
WAITING_MAX: Final = 16
"""Callers that wait for a reader; what comes on top is Overloaded."""
PAGE_BLOCKS: Final = 128
SECONDS_MAX: Final = 60.0
"""Of one piece of work; then its reader is ended."""
IDLE_SECONDS: Final = 60.0
"""A reader that nobody asks for so long is ended: it holds a whole state."""
ANSWERED: Final = "answered"
"""What a reader says first where a result follows; else it is the name of an error, and its details."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class At:
    """A moment of the log: an index, or the last index whose entry is not later than `time_ms`. Neither: now."""

    index: int = 0
    time_ms: int = 0

    @property
    def is_now(self) -> bool:
        """Whether no moment is named."""
        return not (self.index or self.time_ms)


class ReaderError(Exception):
    """What the reader's servicer raised: a name and bytes for whoever asked to make an exception of."""

    def __init__(self, name: str, detail: Any) -> None:
        """As they came."""
        super().__init__(name)
        self.name = name
        self.detail = detail


class PastStates:
    """Every past state that this replica answers from."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: EventReader,
        spawn: Spawn,
        clock: Clock,
        cluster_clock: ClusterClock,
        program: tuple[str, ...],
        seconds_max: float = SECONDS_MAX,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`program`: module and arguments of the reader. Nothing is started before somebody asks."""
        self._engine = engine
        self._store = store
        self._spawn = spawn
        self._clock = clock
        self._cluster_clock = cluster_clock
        self._program = program
        self._seconds_max = seconds_max
        self._idle_seconds = idle_seconds
        self._readers: list[_Reader] = []
        self._waiting = 0
        self._free = asyncio.Condition()
        self._working: set[asyncio.Task[Any]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(self, at: At, question: str, *arguments: object) -> bytes:
        """The reader's answer to `question` at that moment.

        Raises InvalidRequest for a moment that has not come, Compacted for one that is gone, Overloaded when too many
        ask, Unavailable where it takes too long or the reader ends, and ReaderError for what the reader refuses.
        """
        index = await self._index_of(at)
        reader = await self._take(index)
        work = asyncio.create_task(self._work(reader, index, question, arguments))
        self._working.add(work)
        work.add_done_callback(self._done)
        return await asyncio.shield(work)

    async def close(self) -> None:
        """End every reader. May be called twice."""
        self._closed = True
        for reader in list(self._readers):
            self._end(reader)
        async with self._free:
            self._free.notify_all()
        while self._ending or self._working:
            await asyncio.wait([*self._ending, *self._working])

    def _done(self, work: asyncio.Task[Any]) -> None:
        """Its caller may have gone, and would not hear of what went wrong."""
        self._working.discard(work)
        if not work.cancelled() and work.exception() is not None:
            logger.debug("no past state", why=str(work.exception()))

    # -- which index -------------------------------------------------------------------------------

    async def _index_of(self, at: At) -> int:
        """The index that is meant; every block up to it is in the store."""
        head = self._engine.index
        await self._engine.stored(head)
        if at.is_now:
            return head
        if at.time_ms:
            return await self._index_at(at.time_ms, head)
        if at.index > head:
            raise InvalidRequest(
                "at_index", f"{at.index} has not come yet", f"this replica is at index {head}"
            )
        return at.index

    async def _index_at(self, time_ms: int, head: int) -> int:
        """The last index that is not later."""
        now_ms = max(self._cluster_clock.now_ms(), self._engine.state.now_ms)
        if time_ms > now_ms:
            remedy = f"it is {now_ms} in the group; ask a what-if to advance the clock"
            raise InvalidRequest("at_time_ms", f"{time_ms} has not come yet", remedy)
        return max(0, min(head, await first_since(self._store, time_ms + 1) - 1))

    async def _missing(self, index: int, block_index: int) -> Exception:
        """Why the state at `index` cannot be had: the block before `block_index` is not there."""
        lowest, _ = await self._store.bounds()
        if block_index > lowest:
            return DataDirectoryError(
                f"the event store is damaged: nothing leads to the block at index {block_index}"
            )
        snapshots = [each for each in await self._store.snapshots() if each >= block_index - 1]
        return Compacted(index, min(snapshots, default=self._engine.index))

    # -- readers -----------------------------------------------------------------------------------

    async def _take(self, index: int) -> _Reader:
        """A reader that is free, from now on ours: one that stands there already, if possible."""
        if self._waiting >= WAITING_MAX:
            raise Overloaded(f"{self._waiting} others wait for a past state; try again")
        self._waiting += 1
        try:
            async with self._free:
                while True:
                    self._refuse_closed()
                    free = [reader for reader in self._readers if not reader.is_busy]
                    free.sort(
                        key=lambda reader: (reader.at != index, reader.at > index, -reader.at)
                    )
                    if free:
                        return free[0].taken()
                    if len(self._readers) < READERS_MAX:
                        self._readers.append(_Reader())
                        return self._readers[-1].taken()
                    await self._free.wait()
        finally:
            self._waiting -= 1

    async def _give_back(self, reader: _Reader) -> None:
        reader.is_busy = False
        if reader.child is None:
            if reader in self._readers:
                self._readers.remove(reader)
        else:
            reader.idle = self._clock.call_later(self._idle_seconds, lambda: self._end(reader))
        async with self._free:
            self._free.notify()

    async def _work(
        self, reader: _Reader, index: int, question: str, arguments: tuple[object, ...]
    ) -> bytes:
        timer = self._clock.call_later(self._seconds_max, lambda: self._end(reader, slow=True))
        try:
            if reader.child is None:
                module, *words = self._program
                reader.child = await self._spawn.child(module, words)
            if reader.at != index:
                await self._rewind(reader, index)
            answer: bytes = await reader.call(question, *arguments)
            return answer
        except EOFError as gone:
            self._end(reader)
            self._refuse_closed()
            if reader.is_slow:
                raise Unavailable(
                    f"this takes longer than {self._seconds_max:g} s: ask for less, or at an index after a snapshot"
                ) from gone
            raise Unavailable("the process that works on past states has gone; try again") from gone
        finally:
            timer.cancel()
            await self._give_back(reader)

    async def _rewind(self, reader: _Reader, index: int) -> None:
        """Feed the reader what it needs to stand at `index`."""
        reader.at = -1
        reached = int(await reader.call("rewind", index))
        while reached < index:
            page = await self._store.read(reached + 1, PAGE_BLOCKS)
            if not page:
                break
            block_index = await reader.call("fold", page, index)
            if block_index:
                raise await self._missing(index, block_index)
            reached = page[-1][0]
        reader.at = index

    def _end(self, reader: _Reader, *, slow: bool = False) -> None:
        """Stop its process; who waits for an answer hears that it has gone."""
        reader.is_slow = reader.is_slow or slow
        child, reader.child, reader.at = reader.child, None, -1
        if child is not None:
            if not reader.is_busy and reader in self._readers:
                self._readers.remove(reader)
            ending = asyncio.create_task(_stop(child))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ReplicaFailed("this replica is stopping")


class _Reader:
    """A reader process, and what is known of it. at: the index that it stands at; -1: nowhere yet."""

    def __init__(self) -> None:
        """Not started."""
        self.child: Child | None = None
        self.at = -1
        self.is_busy = False
        self.is_slow = False
        self.idle: Timer | None = None

    def taken(self) -> _Reader:
        """It is ours until it is given back."""
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None
        self.is_busy = True
        return self

    async def call(self, method: str, *arguments: object) -> Any:
        """Ask, and wait for the answer. Raises EOFError when the process has gone."""
        child = self.child
        if child is None:
            raise EOFError("the reader was ended")
        await child.send(msgpack.packb((method, arguments)))
        said, result = msgpack.unpackb(await child.receive())
        if said == ANSWERED:
            return result
        raise ReaderError(said, result)


async def _stop(child: Child) -> None:
    await child.kill()
