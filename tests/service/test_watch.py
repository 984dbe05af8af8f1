"""The event log as a stream and in pages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from raftalloc.core.commands import Release
from raftalloc.core.events import Granted
from raftalloc.errors import Compacted, Overloaded, ReplicaFailed
from raftalloc.service.watch import EventFilter, Watches
from raftalloc.storage.memory import MemoryStore
from raftalloc.system import SystemClock
from tests.service.fakes import Replica, ask, node, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.service.watch import Seen, Seens
    from tests.conftest import Run

ANY = EventFilter()


def watches_of(replica: Replica, **options: int) -> Watches:
    return Watches(engine=replica.engine, store=replica.store, clock=replica.clock, **options)


def everything(replica: Replica) -> list[tuple[int, int]]:
    return [
        (item.index, sequence)
        for item in replica.decided
        for sequence, _ in enumerate(item.happened)
    ]


def places(events: Sequence[Seen]) -> list[tuple[int, int]]:
    return [(seen.index, seen.sequence) for seen in events]


def agents(events: Sequence[Seen]) -> list[str]:
    return [seen.event.agent_id for seen in events if isinstance(seen.event, Granted)]


class Reader:
    """Collects a stream in a task of its own."""

    def __init__(self, watches: Watches, from_index: int, wanted: EventFilter = ANY) -> None:
        self.got: list[Seens] = []
        self._task = asyncio.create_task(self._read(watches, from_index, wanted))

    async def _read(self, watches: Watches, from_index: int, wanted: EventFilter) -> None:
        async with aclosing(watches.watch(from_index, wanted)) as stream:
            async for seens in stream:
                self.got.append(seens)

    @property
    def events(self) -> list[Seen]:
        return [seen for seens in self.got for seen in seens.events]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def fails(self) -> BaseException:
        await asyncio.wait([self._task], timeout=5)
        error = self._task.exception()
        assert error is not None
        return error


class SlowStore(MemoryStore):
    """Takes and gives blocks late, so that the head moves on meanwhile."""

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        await asyncio.sleep(0.001)
        await super().append(index, block, keys)

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        await asyncio.sleep(0.002)
        return await super().read(from_index, limit)


@pytest.mark.parametrize("watchers_start_after", [0, 1, 7, 50])
def test_a_stream_from_the_beginning_has_neither_a_gap_nor_a_double(
    run: Run, watchers_start_after: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raftalloc.service.watch.PAGE_ENTRIES", 3)
    monkeypatch.setattr("raftalloc.service.watch.CLOSE_INDICES", 5)

    async def story() -> None:
        replica = await Replica(SlowStore()).open()
        watches = watches_of(replica)
        await replica.submit(node())
        readers = []
        for number in range(100):
            if number % 20 == watchers_start_after % 20 and number >= watchers_start_after:
                readers.append(Reader(watches, from_index=1))
            await replica.submit(ask(f"a{number}"))
            if number % 3 == 0:
                await asyncio.sleep(0.001)
        await replica.engine.stored(replica.engine.index)
        for _ in range(500):
            if all(
                reader.events and reader.events[-1].index == replica.engine.index
                for reader in readers
            ):
                break
            await asyncio.sleep(0.01)
        for reader in readers:
            assert places(reader.events) == everything(replica)
            indices = [seens.index for seens in reader.got]
            assert indices == sorted(indices)
            await reader.stop()
        assert readers
        assert watches.watchers == 0
        await replica.close()

    run(story())


def test_a_stream_goes_on_after_the_last_index_it_saw(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        await replica.submit(node())
        for number in range(10):
            await replica.submit(ask(f"a{number}"))
        middle = replica.decided[5].index
        reader = Reader(watches, from_index=middle + 1)
        await settle()
        assert places(reader.events) == [one for one in everything(replica) if one[0] > middle]
        await reader.stop()
        await replica.close()

    run(story())


def test_a_stream_from_now_has_only_what_comes(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        await replica.submit(node(), ask("before"))
        reader = Reader(watches, from_index=0)
        await settle()
        await replica.submit(ask("after"))
        await settle()
        assert agents(reader.events) == ["after"]
        await reader.stop()
        await replica.close()

    run(story())


@pytest.mark.parametrize("from_index", [0, 1])
def test_a_filter_picks_and_keeps_the_sequence_numbers(run: Run, from_index: int):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        readers = {
            "agent": Reader(watches, from_index, EventFilter(agent_id="b")),
            "workflow": Reader(watches, from_index, EventFilter(workflow_id="w2")),
            "types": Reader(watches, from_index, EventFilter(types=("Granted", "Ended"))),
            "both": Reader(watches, from_index, EventFilter(types=("Ended",), agent_id="a")),
        }
        await settle()
        answer = await replica.submit(node(), ask("a"), ask("b", workflow_id="w2"))
        a = answer.granted[1][0]
        await replica.submit(Release(a.allocation_id, a.token, "a"))
        readers["subject"] = Reader(watches, 1, EventFilter(subject=a.allocation_id))
        await settle()
        got = {
            name: [type(seen.event).__name__ for seen in reader.events]
            for name, reader in readers.items()
        }
        assert got["agent"] == got["workflow"] == ["Granted"]
        assert got["types"] == ["Granted", "Granted", "Ended"]
        assert got["both"] == ["Ended"]
        assert got["subject"] == ["Granted", "Ended"]
        assert readers["agent"].events[0].sequence > 0
        for reader in readers.values():
            await reader.stop()
        await replica.close()

    run(story())


def test_a_reader_that_is_too_slow_gets_what_was_kept_and_then_the_end(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica, buffer_entries=3)
        await replica.submit(node())
        stream = watches.watch(0, ANY)
        first = await anext(stream)
        for number in range(10):
            await replica.submit(ask(f"a{number}"))
        kept = await anext(stream)
        await replica.submit(ask("later"))
        assert agents(kept.events) == ["a0", "a1", "a2"]
        assert kept.index > first.index
        with pytest.raises(Overloaded, match="too slowly"):
            await anext(stream)
        assert watches.watchers == 0
        resumed = Reader(watches, kept.index + 1)
        await settle()
        assert agents(resumed.events)[:2] == ["a3", "a4"]
        await resumed.stop()
        await replica.close()

    run(story())


def test_there_are_only_so_many_streams(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica, watchers_max=1)
        reader = Reader(watches, 0)
        await settle()
        with pytest.raises(Overloaded, match="no more are allowed"):
            await anext(watches.watch(0, ANY))
        await reader.stop()
        again = Reader(watches, 0)
        await settle()
        assert len(again.got) == 1
        await again.stop()
        await replica.close()

    run(story())


def test_a_silent_stream_gives_signs_of_life_that_say_how_far_it_is(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        reader = Reader(watches, 0, EventFilter(agent_id="nobody"))
        await replica.submit(node())
        await replica.submit(ask("a"))
        await replica.clock.advance(6, step=0.5)
        assert reader.events == []
        assert reader.got[-1].index == replica.engine.index
        count = len(reader.got)
        await replica.clock.advance(6, step=0.5)
        assert len(reader.got) == count + 1
        await reader.stop()
        await replica.close()

    run(story())


def test_a_stream_whose_filter_lets_nothing_through_still_says_how_far_it_is(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        reader = Reader(watches, 0, EventFilter(agent_id="nobody"))
        await replica.submit(node())
        for _ in range(16):
            await replica.submit(ask("a"))
            await replica.clock.advance(0.5, step=0.5)
        assert reader.events == []
        # All the while something was heard, so that silence alone would never have ended.
        assert reader.got[-1].index > replica.engine.index - 12
        assert len(reader.got) <= 4
        await reader.stop()
        await replica.close()

    run(story())


def test_an_index_that_has_left_the_store_is_compacted_at_once(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica = await Replica(store).open()
        watches = watches_of(replica)
        await replica.submit(node())
        for number in range(5):
            await replica.submit(ask(f"a{number}"))
        await replica.engine.stored(replica.engine.index)
        reader = Reader(watches, 1)
        await settle()
        assert len(reader.events) == len(everything(replica)), "nothing has left it yet"
        await reader.stop()
        lowest = store._indices[3]
        del store._indices[:3]
        with pytest.raises(Compacted) as refusal:
            await anext(watches.watch(lowest - 1, ANY))
        assert refusal.value.lowest_index == lowest
        with pytest.raises(Compacted):
            await watches.read(1, 10, ANY)
        page = await watches.read(0, 1, ANY)
        assert page.lowest_index == lowest
        assert {seen.index for seen in page.events} == {lowest}
        await replica.close()

    run(story())


def test_streams_end_when_the_replica_stops(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        reader = Reader(watches, 0)
        await settle()
        watches.close()
        assert isinstance(await reader.fails(), ReplicaFailed)
        with pytest.raises(ReplicaFailed):
            await anext(watches.watch(0, ANY))
        await replica.close()

    run(story())


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_pages_add_up_to_the_whole_log(run: Run, limit: int):
    async def story() -> None:
        replica = await Replica().open()
        watches = watches_of(replica)
        await replica.submit(node())
        for number in range(7):
            await replica.submit(ask(f"a{number}"))
        got, position = [], 0
        while True:
            page = await watches.read(position, limit, ANY)
            got += places(page.events)
            position = page.next_index
            if position == page.head_index + 1:
                break
        assert got == everything(replica)
        last = await watches.read(position, limit, ANY)
        assert last.events == ()
        assert last.next_index == position
        await replica.close()

    run(story())


def test_the_store_of_an_empty_log_reads_as_an_empty_page(run: Run):
    async def story() -> None:
        replica = Replica()
        await replica.open()
        watches = Watches(engine=replica.engine, store=replica.store, clock=SystemClock())
        page = await watches.read(0, 10, ANY)
        assert (page.events, page.next_index, page.head_index) == ((), 1, 0)
        await replica.close()

    run(story())
