"""A state that is taken from another replica, and the history that comes after it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.core import codec
from raftalloc.errors import Compacted, DataDirectoryError, Unavailable
from raftalloc.ports import Image
from raftalloc.service.backfill import Backfill
from raftalloc.service.images import Images
from raftalloc.service.watch import EventFilter, Watches
from raftalloc.storage.memory import MemoryStore
from tests.service.fakes import CLUSTER, FakeClock, Replica, entry_of, node, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from raftalloc.ports import EventStore
    from tests.conftest import Run

ANY = EventFilter()


class Wire:
    """The others, of one replica: messages arrive on the loop's next turn."""

    def __init__(self, name: str, everybody: dict[str, Wire]) -> None:
        self.name, self._everybody = name, everybody
        self.leader_id = ""
        self.told: list[dict[str, Any]] = []
        self.listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        everybody[name] = self

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(sorted(self._everybody.keys() - {self.name}))

    def tell(self, replica_id: str, message: dict[str, Any]) -> bool:
        self.told.append(message)
        receiver = self._everybody[replica_id].listeners[message["type"]]
        asyncio.get_running_loop().call_soon(receiver, self.name, message)
        return True

    def on_message(self, kind: str, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self.listeners[kind] = callback


OPEN: list[Replica] = []


async def opened(store: EventStore | None = None, cluster_id: str = CLUSTER) -> Replica:
    """Closed again when the story has ended."""
    replica = await Replica(store, cluster_id=cluster_id).open()
    OPEN.append(replica)
    return replica


def play(run: Run, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        try:
            await story()
        finally:
            while OPEN:
                await OPEN.pop().close()

    run(whole())


def images_of(replica: Replica) -> Images:
    return Images(engine=replica.engine, store=replica.store, cluster_id=CLUSTER)


async def ahead(count: int, store: MemoryStore | None = None) -> Replica:
    """One that has applied entries 2, 4, 6 ..."""
    replica = await opened(store)
    await go_on(replica, 2, count)
    return replica


async def go_on(replica: Replica, first: int, count: int) -> None:
    for index in range(first, first + 2 * count, 2):
        replica.engine.apply(index, entry_of(node(f"n{index}"), at_ms=1_000_000 + index))
    await replica.engine.stored(replica.engine.index)


async def image_of(replica: Replica) -> Image:
    image = await images_of(replica).image(replica.engine.index)
    assert image is not None
    return replace(image, term=3, members=b"abc")


async def take(replica: Replica, image: Image) -> None:
    images = images_of(replica)
    await images.keep(image)
    images.adopt(image)


async def indices(replica: Replica) -> list[int]:
    return [index for index, _ in await replica.engine.history.read(0, 1000)]


def test_a_state_is_taken_over_and_goes_on_to_the_same_digests(run: Run):
    async def story() -> None:
        leader, follower = await ahead(20), await ahead(3)
        await take(follower, await image_of(leader))
        assert follower.engine.digests() == leader.engine.digests()
        for each in (leader, follower):
            await go_on(each, 42, 5)
        assert follower.engine.digests() == leader.engine.digests()
        again = await opened(follower.store)
        assert again.engine.digests() == leader.engine.digests()
        assert again.engine.installed == Image(40, 3, b"abc", b"", b"")

    play(run, story)


def test_what_is_older_than_the_gap_is_not_shown_until_it_is_filled(run: Run):
    async def story() -> None:
        leader, follower = await ahead(20), await ahead(3)
        assert await indices(follower) == [2, 4, 6]
        await take(follower, await image_of(leader))
        watches = Watches(engine=follower.engine, store=follower.engine.history, clock=FakeClock())
        assert await follower.engine.history.bounds() == (0, 0)
        with pytest.raises(Compacted) as gone:
            await watches.read(4, 10, ANY)
        assert gone.value.lowest_index == 41
        await go_on(follower, 42, 2)
        assert await indices(follower) == [42, 44]
        assert (await watches.read(0, 10, ANY)).lowest_index == 42
        again = await opened(follower.store)
        assert await indices(again) == [42, 44], "nor after a restart"

    play(run, story)


def test_a_stream_is_ended_when_the_state_is_replaced(run: Run):
    async def story() -> None:
        leader, follower = await ahead(20), await ahead(3)
        watches = Watches(engine=follower.engine, store=follower.engine.history, clock=FakeClock())
        async with aclosing(watches.watch(1, ANY)) as stream:
            while (await anext(stream)).events:
                """Up to now."""
            following = asyncio.create_task(anext(stream))
            await settle()
            await take(follower, await image_of(leader))
            with pytest.raises(Unavailable, match="go on there"):
                await following

    play(run, story)


def test_missing_events_are_fetched_from_another_replica_and_lead_to_the_snapshot(run: Run):
    async def story() -> None:
        leader, follower = await ahead(200), await ahead(3)
        everybody: dict[str, Wire] = {}
        clock = FakeClock()
        giving, taking = (
            Backfill(engine=each.engine, peers=Wire(name, everybody), clock=clock, piece_bytes=999)
            for name, each in (("a", leader), ("b", follower))
        )
        await take(follower, await image_of(leader))
        for each in (giving, taking):
            each.start()
        while follower.engine.gaps.floor:
            await settle()
        assert await indices(follower) == await indices(leader)
        assert all(len(each["data"]) <= 999 for each in everybody["a"].told)
        for each in (giving, taking):
            await each.close()

    play(run, story)


def test_what_every_replica_has_forgotten_is_given_up_and_the_rest_is_fetched(run: Run):
    async def story() -> None:
        leader, follower = await ahead(50), await ahead(3)
        assert isinstance(leader.store, MemoryStore)
        await take(follower, await image_of(leader))
        await leader.store.prune(60)
        everybody: dict[str, Wire] = {}
        clock = FakeClock()
        sides = [
            Backfill(engine=each.engine, peers=Wire(name, everybody), clock=clock)
            for name, each in (("a", leader), ("b", follower))
        ]
        for side in sides:
            side.start()
        for _ in range(20):
            await clock.advance(0.5)
        assert follower.engine.gaps.wanted is None
        assert await indices(follower) == list(range(62, 101, 2)), (
            "60 has nothing before it to be checked by"
        )
        for side in sides:
            await side.close()

    play(run, story)


def test_what_all_lack_alike_is_given_up_by_all(run: Run):
    """Else each would wait for the others: the last one that had it was taken away."""

    async def story() -> None:
        gone, one, other = await ahead(50), await ahead(3), await ahead(3)
        image = await image_of(gone)
        everybody: dict[str, Wire] = {}
        clock = FakeClock()
        sides = []
        for name, each in (("a", one), ("b", other)):
            await take(each, image)
            sides.append(Backfill(engine=each.engine, peers=Wire(name, everybody), clock=clock))
            sides[-1].start()
        for _ in range(20):
            await clock.advance(0.5)
        for each in (one, other):
            assert each.engine.gaps.wanted is None
            assert each.engine.gaps.floor == image.index + 1
        for side in sides:
            await side.close()

    play(run, story)


def test_a_block_that_was_changed_on_the_way_is_not_kept(run: Run):
    async def story() -> None:
        leader, follower = await ahead(20), await ahead(3)
        await take(follower, await image_of(leader))
        backfill = Backfill(engine=follower.engine, peers=Wire("b", {}), clock=FakeClock())
        blocks = await leader.store.read(8, 5)
        other = codec.decode_block(blocks[2][1])
        blocks[2] = (blocks[2][0], codec.encode_block(replace(other, at_ms=1, events=b"")))
        gap = follower.engine.gaps.wanted
        assert gap is not None
        assert await backfill._take(gap, blocks)
        left = follower.engine.gaps.wanted
        assert left is not None
        assert left.above == 10
        assert not await backfill._take(left, [(12, b"rubbish")])

    play(run, story)


@pytest.mark.parametrize("spoiled", [False, True])
def test_a_kill_while_a_snapshot_is_kept_leaves_the_state_as_it_was(run: Run, spoiled: bool):
    """Before the snapshot was there, or after, and it cannot be read any more."""

    async def story() -> None:
        leader, follower = await ahead(20), await ahead(3)
        before = follower.engine.digests()
        store = follower.store
        assert isinstance(store, MemoryStore)
        await follower.engine.snapshot()
        await images_of(follower).keep(await image_of(leader))
        del store._snapshots[40]
        if spoiled:
            # It had gone on from there.
            await store.append(42, b"a block behind the gap", [])
        again = await opened(store)
        assert again.engine.digests() == before
        assert again.engine.installed is None
        assert again.engine.gaps.floor == (41 if spoiled else 0)

    play(run, story)


def test_a_snapshot_of_another_group_is_refused(run: Run):
    async def story() -> None:
        leader = await opened(cluster_id="another")
        await go_on(leader, 2, 5)
        image = await Images(engine=leader.engine, store=leader.store, cluster_id="another").image(
            0
        )
        assert image is not None
        follower = await ahead(1)
        with pytest.raises(DataDirectoryError, match="is of cluster 'another'"):
            await images_of(follower).keep(image)

    play(run, story)


def test_the_log_hears_of_a_snapshot_once_it_was_looked_at(run: Run):
    async def story() -> None:
        replica = await ahead(5)
        heard: list[int] = []
        replica.engine.on_durable = heard.append
        await replica.engine.snapshot()
        assert heard == [10]
        assert isinstance(replica.store, MemoryStore)
        replica.engine.apply(12, entry_of(node("n12")))
        await replica.engine.stored(12)
        await replica.store.append(12, replica.store._blocks[10], [])
        with pytest.raises(Exception, match="has stopped"):
            await replica.engine.snapshot()
        assert heard == [10]
        assert "another block at index 12" in str(replica.fatal[0])

    play(run, story)
