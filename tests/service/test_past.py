"""Past states: the state that was, at every index, or an error that says what there is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.core.codec import content_digest, decode_block
from raftalloc.errors import Compacted, DataDirectoryError, InvalidRequest, Overloaded, Unavailable
from raftalloc.service.past import READERS_MAX, WAITING_MAX, At
from raftalloc.storage.memory import MemoryStore
from tests.service.fakes import Replica, ask, entry_of, node, settle
from tests.service.past import past_of, walked

if TYPE_CHECKING:
    from tests.conftest import Run


async def replica_after(
    store: MemoryStore, entries: list[bytes], *, gap: int = 1, snapshot_entries: int = 10_000
) -> tuple[Replica, dict[int, str]]:
    """A replica that decided these, at every `gap`-th index; and the digest at each."""
    replica = await Replica(store, snapshot_entries=snapshot_entries).open()
    digests = {}
    for number, entry in enumerate(entries, 1):
        replica.engine.apply(number * gap, entry)
        digests[number * gap] = content_digest(replica.engine.state)
    await replica.engine.stored(replica.engine.index)
    return replica, digests


def few(count: int) -> list[bytes]:
    """A node, and allocations a second apart."""
    entries = [entry_of(node(), at_ms=1_000_000)]
    return entries + [entry_of(ask(f"a{n}"), at_ms=1_000_000 + n * 1000) for n in range(1, count)]


@pytest.mark.parametrize(("seed", "snapshot_entries"), [(1, 10_000), (2, 20), (3, 7)])
def test_at_every_index_the_state_is_the_one_that_was(run: Run, seed: int, snapshot_entries: int):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(
            store, walked(seed), snapshot_entries=snapshot_entries
        )
        past, _ = past_of(replica, store)
        before = replica.engine.digests()
        order = sorted(digests, key=lambda index: (index * 37) % 41)
        for index in order:
            assert (await past.ask(At(index), "digest")).decode() == digests[index]
        assert (await past.ask(At(), "digest")).decode() == digests[max(digests)]
        assert replica.engine.digests() == before
        await past.close()
        await replica.close()

    run(story())


def test_between_two_entries_the_state_is_that_of_the_first(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(store, few(6), gap=10)
        past, _ = past_of(replica, store)
        for index, expected in ((20, 20), (29, 20), (30, 30), (60, 60)):
            assert (await past.ask(At(index), "digest")).decode() == digests[expected]
        for time_ms, expected in (
            (1_000_000, 10),
            (1_000_999, 10),
            (1_001_000, 20),
            (1_004_999, 50),
            (1_005_000, 60),
        ):
            answer = await past.ask(At(time_ms=time_ms), "digest")
            assert answer.decode() == digests[expected], time_ms
        await past.close()
        await replica.close()

    run(story())


def test_a_moment_that_has_not_come_is_refused(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, _ = await replica_after(store, few(3))
        past, spawn = past_of(replica, store)
        for at, field in ((At(4), "at_index"), (At(time_ms=1_002_001), "at_time_ms")):
            with pytest.raises(InvalidRequest) as refused:
                await past.ask(at, "digest")
            assert refused.value.field == field
        assert spawn.children == []
        await replica.close()

    run(story())


def test_what_has_left_the_store_is_compacted_and_the_lowest_index_is_named(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(store, few(40), snapshot_entries=10)
        await store.prune(15)
        past, _ = past_of(replica, store)
        lowest = min(each for each in await store.snapshots() if each >= 14)
        for at in (At(1), At(5), At(13), At(time_ms=1_000_500), At(time_ms=5)):
            with pytest.raises(Compacted) as gone:
                await past.ask(at, "digest")
            assert gone.value.lowest_index == lowest
        for index in range(lowest, 41):
            assert (await past.ask(At(index), "digest")).decode() == digests[index]
        await past.close()
        await replica.close()

    run(story())


def test_a_hole_behind_a_snapshot_is_never_taken_for_silence(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(store, few(45), snapshot_entries=10)
        assert 30 in await store.snapshots()
        await store.prune(36)  # as where blocks are still to be fetched
        past, _ = past_of(replica, store)
        assert (await past.ask(At(30), "digest")).decode() == digests[30]
        for index in (31, 34, 37, 39):
            with pytest.raises(Compacted) as gone:
                await past.ask(At(index), "digest")
            assert gone.value.lowest_index == 40
        assert (await past.ask(At(41), "digest")).decode() == digests[41]
        await past.close()
        await replica.close()

    run(story())


def test_damage_in_the_store_is_an_error_and_no_state(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, _ = await replica_after(store, few(9))
        del store._blocks[5]
        store._indices.remove(5)
        past, _ = past_of(replica, store)
        with pytest.raises(DataDirectoryError, match="nothing leads to the block at index 6"):
            await past.ask(At(8), "digest")
        await past.close()
        await replica.close()

    run(story())


def test_a_reader_goes_on_from_where_it_stands(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, _ = await replica_after(store, few(30))
        past, spawn = past_of(replica, store)
        for index in (10, 10, 12, 30):
            await past.ask(At(index), "digest")
        asked = ["rewind", "fold", "digest", "digest", *["rewind", "fold", "digest"] * 2]
        assert spawn.frames == asked
        assert len(spawn.children) == 1
        await past.close()
        assert spawn.children[0].is_dead
        await replica.close()

    run(story())


def test_so_many_work_and_so_many_wait_and_no_more(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(store, few(5))
        past, spawn = past_of(replica, store)
        spawn.silent = True
        calls = [
            asyncio.create_task(past.ask(At(3), "digest")) for _ in range(READERS_MAX + WAITING_MAX)
        ]
        await settle()
        with pytest.raises(Overloaded):
            await past.ask(At(3), "digest")
        assert len(spawn.children) == READERS_MAX
        spawn.silent = False
        for child in spawn.children:
            await child.kill()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in found[:READERS_MAX]] == [Unavailable] * READERS_MAX
        assert found[READERS_MAX:] == [digests[3].encode()] * WAITING_MAX
        await past.close()
        await replica.close()

    run(story())


def test_what_takes_too_long_is_ended_and_the_next_is_served(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, digests = await replica_after(store, few(5))
        past, spawn = past_of(replica, store, seconds_max=5.0)
        spawn.silent = True
        call = asyncio.create_task(past.ask(At(3), "digest"))
        await settle()
        await replica.clock.advance(5.1)
        with pytest.raises(Unavailable, match="longer than 5 s"):
            await call
        assert spawn.children[0].is_dead
        spawn.silent = False
        assert (await past.ask(At(3), "digest")).decode() == digests[3]
        await past.close()
        await replica.close()

    run(story())


def test_a_caller_that_goes_away_leaves_the_work_to_who_comes_next(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, _ = await replica_after(store, few(5))
        past, spawn = past_of(replica, store)
        call = asyncio.create_task(past.ask(At(3), "digest"))
        await asyncio.sleep(0)
        call.cancel()
        await settle()
        assert spawn.frames == ["rewind", "fold", "digest"]
        await past.ask(At(3), "digest")
        assert spawn.frames[3:] == ["digest"]
        await past.close()
        await replica.close()

    run(story())


def test_a_reader_that_nobody_asks_is_let_go(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica, _ = await replica_after(store, few(5))
        past, spawn = past_of(replica, store, idle_seconds=10.0)
        await past.ask(At(3), "digest")
        await replica.clock.advance(9.0)
        await past.ask(At(3), "digest")
        await replica.clock.advance(9.0)
        assert not spawn.children[0].is_dead
        await replica.clock.advance(2.0)
        assert spawn.children[0].is_dead
        await past.ask(At(3), "digest")
        assert len(spawn.children) == 2
        await past.close()
        await replica.close()

    run(story())


def test_blocks_of_a_walk_can_be_read_back(run: Run):
    """What the other tests stand on: a walk leaves one block for each entry."""

    async def story() -> None:
        store = MemoryStore()
        entries = walked(1)
        replica, digests = await replica_after(store, entries)
        blocks = [decode_block(data) for _, data in await store.read(1, 10_000)]
        assert [block.entry for block in blocks] == entries
        assert len(digests) == len(entries) > 30
        await replica.close()

    run(story())
