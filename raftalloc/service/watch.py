"""The event log as a stream: first what is stored, then what happens, each event once and in order.

A stream reads the store until it is close to the head; then it begins to listen, remembers the head of that moment,
reads up to exactly there, and goes on with what it heard since. So there is neither a gap nor a double.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.errors import Compacted, Overloaded, ReplicaFailed, Unavailable
from raftalloc.service.indexing import about

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from raftalloc.core.events import Event, Happened
    from raftalloc.ports import Clock, EventReader, Timer
    from raftalloc.service.engine import Decided, Engine

PAGE_ENTRIES: Final = 64
JUMPED: Final = (
    "this replica was far behind and took its state from another; go on there from the last index"
)
CLOSE_INDICES: Final = 256
"""This near to the head a stream begins to listen."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is empty or 0 does not filter. `types` are names of core.events."""

    types: tuple[str, ...] = ()
    agent_id: str = ""
    workflow_id: str = ""
    subject: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """One event, where and when. sequence: its number within the entry, counted before filtering."""

    index: int
    sequence: int
    at_ms: int
    event: Event


@dataclass(frozen=True, slots=True)
class Seens:
    """Some events; every one up to and including `index` has been given. Without events: a sign of life."""

    events: tuple[Seen, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of events. next_index: where to go on; head_index + 1 at the end."""

    events: tuple[Seen, ...]
    next_index: int
    head_index: int
    lowest_index: int


@dataclass(frozen=True, slots=True)
class BlockPage:
    """A page of blocks, (index, bytes). from_the_first: the lowest of the store is the first there ever was."""

    blocks: tuple[tuple[int, bytes], ...]
    next_index: int
    head_index: int
    lowest_index: int
    from_the_first: bool


class Watches:
    """Every stream and page of events that this replica gives out."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: EventReader,
        clock: Clock,
        watchers_max: int = 1024,
        buffer_entries: int = 4096,
        life_seconds: float = 5.0,
    ) -> None:
        """`buffer_entries`: how far a reader may fall behind. `life_seconds`: between signs of life."""
        self._engine = engine
        self._store = store
        self._clock = clock
        self._watchers_max = watchers_max
        self._buffer_entries = buffer_entries
        self._life_seconds = life_seconds
        self._watchers = 0
        self._listeners: set[_Listener] = set()
        self._closed = False
        self._jumps = 0
        self._unsubscribe = engine.subscribe(self._publish)
        engine.on_jump(self._jumped)

    @property
    def watchers(self) -> int:
        """Streams that are open."""
        return self._watchers

    async def watch(self, from_index: int, wanted: EventFilter) -> AsyncGenerator[Seens, None]:
        """Events from `from_index` on (0: from now on), and then as they happen.

        Raises Compacted at once where the index has left the store, Overloaded when there are too many watchers or this
        one reads too slowly, ReplicaFailed when the replica stops. Close it (`aclosing`) when done.
        """
        self._refuse_closed()
        jumps = self._jumps
        if self._watchers >= self._watchers_max:
            raise Overloaded(f"{self._watchers} watchers are open, no more are allowed; end one")
        self._watchers += 1
        listener = _Listener(self._clock, self._buffer_entries)
        try:
            position = from_index or self._engine.index + 1
            await self._refuse_compacted(position)
            while position + CLOSE_INDICES < self._engine.stored_index:
                found, position = await self._stored_page(
                    position, self._engine.stored_index, wanted
                )
                self._refuse_jumped(jumps)
                if found:
                    yield Seens(found, position - 1)
            self._refuse_closed()
            self._listeners.add(listener)
            head = self._engine.index
            await self._engine.stored(head)
            while position <= head:
                found, position = await self._stored_page(position, head, wanted)
                self._refuse_jumped(jumps)
                if found:
                    yield Seens(found, position - 1)
            yield Seens((), max(head, position - 1))
            given_at = self._clock.monotonic()
            while True:
                seens = await self._heard(listener, position, wanted)
                quiet = self._clock.monotonic() - given_at
                if seens.events or quiet >= self._life_seconds:
                    yield seens
                    given_at = self._clock.monotonic()
        finally:
            self._watchers -= 1
            self._listeners.discard(listener)
            listener.close()

    async def read(self, from_index: int, limit: int, wanted: EventFilter) -> Page:
        """Events of up to `limit` entries from `from_index` on (0: from the lowest). Raises Compacted."""
        page = await self.blocks(from_index, limit)
        events = tuple(seen for _, data in page.blocks for seen in _of_block(data, wanted))
        return Page(events, page.next_index, page.head_index, page.lowest_index)

    async def blocks(self, from_index: int, limit: int) -> BlockPage:
        """Up to `limit` blocks from `from_index` on (0: from the lowest), as they are stored. Raises Compacted."""
        jumps = self._jumps
        await self._refuse_compacted(from_index or 1 << 62)
        head = self._engine.index
        await self._engine.stored(head)
        lowest = await self._store.read(0, 1)
        lowest_index = lowest[0][0] if lowest else 0
        blocks = await self._store.read(from_index or lowest_index, limit)
        self._refuse_jumped(jumps)
        blocks = [(index, data) for index, data in blocks if index <= head]
        last = blocks[-1][0] if blocks else head
        # With fewer blocks than asked for there may still be more: a page also ends by its bytes.
        more = bool(blocks) and last < head
        is_whole = _is_first(lowest[0][1]) if lowest else not head
        return BlockPage(
            tuple(blocks), last + 1 if more else head + 1, head, lowest_index, is_whole
        )

    def close(self) -> None:
        """End every stream with ReplicaFailed. May be called twice."""
        if not self._closed:
            self._closed = True
            self._unsubscribe()
            for listener in self._listeners:
                listener.end()

    async def _heard(self, listener: _Listener, position: int, wanted: EventFilter) -> Seens:
        """What was heard and is wanted; without events: nothing was heard for a while, or nothing wanted."""
        heard = await listener.listen(self._life_seconds)
        if not heard:
            return Seens((), self._engine.index)
        found = tuple(
            seen
            for decided in heard
            if decided.index >= position
            for seen in _pick(decided.index, decided.at_ms, decided.happened, wanted)
        )
        return Seens(found, heard[-1].index)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ReplicaFailed("this replica is stopping")

    def _refuse_jumped(self, jumps: int) -> None:
        """What was read since may be without its middle."""
        if jumps != self._jumps:
            raise Unavailable(JUMPED)

    def _jumped(self) -> None:
        """The state was replaced: entries that were never decided here are missing from every stream."""
        self._jumps += 1
        for listener in self._listeners:
            listener.jump()

    def _publish(self, decided: Decided) -> None:
        for listener in self._listeners:
            listener.hear(decided)

    async def _stored_page(
        self, position: int, end: int, wanted: EventFilter
    ) -> tuple[tuple[Seen, ...], int]:
        """Events of the next stored blocks up to index `end`, and where to go on."""
        blocks = await self._store.read(position, PAGE_ENTRIES)
        blocks = [(index, data) for index, data in blocks if index <= end]
        if not blocks:
            return (), end + 1
        events = tuple(seen for _, data in blocks for seen in _of_block(data, wanted))
        return events, blocks[-1][0] + 1

    async def _refuse_compacted(self, index: int) -> None:
        """Below the lowest block there may be nothing because nothing ever was: the chain tells."""
        lowest = await self._store.read(0, 1)
        if not lowest:
            head = self._engine.index
            if head and index <= head == self._engine.stored_index:
                raise Compacted(index, head + 1)
            return
        if index >= lowest[0][0]:
            return
        if not _is_first(lowest[0][1]):
            raise Compacted(index, lowest[0][0])


class _Listener:
    """What one stream has heard and not yet given out."""

    def __init__(self, clock: Clock, entries_max: int) -> None:
        """Hears nothing yet."""
        self._clock = clock
        self._entries_max = entries_max
        self._heard: deque[Decided] = deque()
        self._too_slow = False
        self._ended = False
        self._jumped = False
        self._wake = asyncio.Event()
        self._timer: Timer | None = None

    def hear(self, decided: Decided) -> None:
        """An entry was decided."""
        # Once one is dropped, the next must be too: the stream ends there, and is resumed without a gap.
        if self._jumped:
            return
        if self._too_slow or len(self._heard) >= self._entries_max:
            self._too_slow = True
        else:
            self._heard.append(decided)
        self._wake.set()

    def jump(self) -> None:
        """What comes next does not follow what was heard."""
        self._jumped = True
        self._wake.set()

    def end(self) -> None:
        """The replica stops."""
        self._ended = True
        self._wake.set()

    def close(self) -> None:
        """Nobody listens any more."""
        self._heard.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def listen(self, seconds: float) -> list[Decided]:
        """What was heard; nothing after `seconds`. What is left is given out before Overloaded is raised."""
        if not (self._heard or self._too_slow or self._ended or self._jumped):
            self._timer = self._clock.call_later(seconds, self._wake.set)
            await self._wake.wait()
            self._timer.cancel()
        self._wake.clear()
        heard = list(self._heard)
        self._heard.clear()
        if heard:
            return heard
        if self._ended:
            raise ReplicaFailed("this replica is stopping")
        if self._jumped:
            raise Unavailable(JUMPED)
        if self._too_slow:
            raise Overloaded("this watcher reads too slowly; go on from the last index it saw")
        return []


def _is_first(data: bytes) -> bool:
    """Whether nothing was ever before this block."""
    block = codec.decode_block(data)
    return block.chain == codec.next_chain(
        codec.CHAIN_START, block.index, block.entry, block.events
    )


def _of_block(data: bytes, wanted: EventFilter) -> Iterable[Seen]:
    block = codec.decode_block(data)
    return _pick(block.index, block.at_ms, codec.decode_events(block.events), wanted)


def _pick(
    index: int, at_ms: int, happened: Iterable[Happened], wanted: EventFilter
) -> Iterable[Seen]:
    for sequence, item in enumerate(happened):
        if _matches(item.event, wanted):
            yield Seen(index, sequence, at_ms, item.event)


def _matches(event: Event, wanted: EventFilter) -> bool:
    if wanted == _ANY:
        return True
    found = about(event)
    return (
        (not wanted.types or found.type in wanted.types)
        and (not wanted.agent_id or found.agent_id == wanted.agent_id)
        and (not wanted.workflow_id or found.workflow_id == wanted.workflow_id)
        and (not wanted.subject or found.subject == wanted.subject)
    )


_ANY: Final = EventFilter()
