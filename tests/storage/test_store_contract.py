"""What every event store does, whether in memory, in RocksDB or in a process of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pytest

from raftalloc.storage.memory import MemoryStore
from raftalloc.storage.process import open_process_store
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemDisk, SystemSpawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from raftalloc.ports import PrunableStore
    from tests.conftest import Run


class Opener(Protocol):
    def __call__(self) -> AbstractAsyncContextManager[PrunableStore]:
        """The store, as it was left when it was last closed."""


@pytest.fixture(params=["memory", "rocks", "process"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    memory = MemoryStore()

    async def made() -> PrunableStore:
        if request.param == "memory":
            return memory
        if request.param == "rocks":
            return RocksStore(SystemDisk(), str(tmp_path))
        return await open_process_store(SystemSpawn(), str(tmp_path))

    @contextlib.asynccontextmanager
    async def open_store() -> AsyncIterator[PrunableStore]:
        store = await made()
        try:
            yield store
        finally:
            await store.close()

    return open_store


async def _fill(store: PrunableStore, indices: list[int]) -> None:
    for index in indices:
        await store.append(index, b"block %d" % index, [f"agent/{index % 2}", "workflow/w"])


def test_an_empty_store_has_nothing(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            assert await store.bounds() == (0, 0)
            assert await store.read(0, 10) == []
            assert await store.find("agent/1", 1 << 62, 10) == []
            assert await store.load_snapshot() is None
            assert await store.snapshots() == []
            await store.sync()

    run(story())


def test_blocks_come_back_in_order_from_any_index(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await _fill(store, [3, 4, 7, 300, 70_000])
            assert [index for index, _ in await store.read(0, 10)] == [3, 4, 7, 300, 70_000]
            assert await store.read(5, 2) == [(7, b"block 7"), (300, b"block 300")]
            assert await store.read(70_001, 10) == []
            assert await store.bounds() == (3, 70_000)

    run(story())


def test_a_key_finds_its_blocks_newest_first_and_page_by_page(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await _fill(store, [3, 4, 5, 6, 7])
            assert await store.find("agent/1", 1 << 62, 2) == [(7, b"block 7"), (5, b"block 5")]
            assert await store.find("agent/1", 5, 10) == [(3, b"block 3")]
            assert await store.find("agent/1", 3, 10) == []
            assert await store.find("agent/1", 0, 10) == []
            assert [index for index, _ in await store.find("workflow/w", 100, 9)] == [7, 6, 5, 4, 3]

    run(story())


def test_a_key_that_is_the_beginning_of_another_does_not_find_its_blocks(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await store.append(3, b"short", ["agent/a"])
            await store.append(4, b"long", ["agent/a1", "agent/ä"])
            assert await store.find("agent/a", 100, 9) == [(3, b"short")]
            assert await store.find("agent/ä", 100, 9) == [(4, b"long")]
            assert await store.find("agent", 100, 9) == []

    run(story())


def test_what_was_appended_is_there_after_closing_and_opening(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await _fill(store, list(range(3, 103)))
        async with opened() as store:
            assert await store.bounds() == (3, 102)
            assert len(await store.read(0, 1000)) == 100
            await store.append(103, b"more", [])
            assert await store.read(103, 1) == [(103, b"more")]

    run(story())


def test_the_newest_snapshot_comes_back_and_one_older_is_kept(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await _fill(store, [3])
            for index in (10, 20, 30, 40):
                path, size = await store.save_snapshot(index, b"state %d" % index, b"said")
                assert str(index) in path
                assert size == len(b"state 10")
        async with opened() as store:
            assert await store.snapshots() == [40, 30]
            assert await store.load_snapshot() == (40, b"state 40", b"said")

    run(story())


def test_blocks_of_earlier_indices_are_kept_in_one_step_with_a_note(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            assert await store.note() == b""
            await _fill(store, [3, 9])
            await store.set_note(b"two are missing", [(5, b"late", ["agent/a", "agent/b"])])
            await store.set_note(b"one is missing", [(5, b"late", ["agent/a", "agent/b"])])
        async with opened() as store:
            assert await store.note() == b"one is missing"
            assert [index for index, _ in await store.read(0, 10)] == [3, 5, 9]
            assert await store.find("agent/b", 100, 10) == [(5, b"late")]
            await store.set_note(b"", [])
            assert await store.note() == b""

    run(story())


def test_a_snapshot_of_the_same_index_again_changes_nothing(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await store.save_snapshot(10, b"state", b"said")
            await store.save_snapshot(10, b"state", b"said")
            assert await store.snapshots() == [10]
            assert await store.load_snapshot() == (10, b"state", b"said")

    run(story())


def test_large_blocks_and_snapshots_pass_whole(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            block = bytes(range(256)) * (8 << 12)
            await store.append(3, block, ["agent/a"])
            assert await store.read(3, 1) == [(3, block)]
            await store.save_snapshot(3, block * 4, b"")
            found = await store.load_snapshot()
            assert found is not None
            assert found[1] == block * 4

    run(story())


def test_pruned_blocks_are_gone_with_their_keys(opened: Opener, run: Run):
    async def story() -> None:
        async with opened() as store:
            await _fill(store, list(range(1, 2501)))
            size = await store.size()
            assert size > 0
            count = 0
            while dropped := await store.prune(2000):
                count += dropped
            assert count == 1999
            assert await store.bounds() == (2000, 2500)
            found = await store.find("agent/1", 1 << 62, 5000)
            assert [index for index, _ in found] == list(range(2499, 2000, -2))
            assert await store.prune(2000) == 0

    run(story())
