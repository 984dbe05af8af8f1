"""How long events are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.service.retention import Retention
from raftalloc.storage.memory import MemoryStore
from tests.service.fakes import Replica, ask, entry_of, node

if TYPE_CHECKING:
    from tests.conftest import Run


async def filled(store: MemoryStore, *, snapshots: tuple[int, ...]) -> Replica:
    """Indices 10, 20 .. 100, each at its index in seconds."""
    replica = await Replica(store).open()
    for index in range(10, 101, 10):
        command = node() if index == 10 else ask(f"a{index}")
        replica.engine.apply(index, entry_of(command, at_ms=index * 1_000))
        if index in snapshots:
            await replica.engine.snapshot()
    await replica.engine.stored(100)
    return replica


async def kept(store: MemoryStore) -> list[int]:
    return [index for index, _ in await store.read(0, 100)]


@pytest.mark.parametrize(
    ("age_ms", "lowest"),
    [(0, 10), (1_000_000, 10), (70_000, 30), (70_001, 30), (69_999, 40), (20_000, 80), (1, 100)],
)
def test_what_is_too_old_goes_but_not_what_a_kept_snapshot_needs(
    run: Run, age_ms: int, lowest: int
):
    async def story() -> None:
        store = MemoryStore()
        replica = await filled(store, snapshots=(80, 90, 100))
        before = replica.engine.digests()
        await Retention(store, age_ms_max=age_ms, bytes_max=0).forget(now_ms=100_000)
        assert await kept(store) == list(range(lowest, 101, 10))
        await replica.close()
        again = await Replica(store).open()
        assert again.engine.digests() == before
        await again.close()

    run(story())


def test_what_is_too_much_goes_oldest_first(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica = await filled(store, snapshots=(90, 100))
        size = await store.size()
        await Retention(store, age_ms_max=0, bytes_max=size // 2).forget(now_ms=100_000)
        assert 4 <= len(await kept(store)) <= 6
        assert max(await kept(store)) == 100
        await replica.close()

    run(story())


def test_the_newest_block_stays_though_a_snapshot_has_it(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica = await filled(store, snapshots=(100,))
        await Retention(store, age_ms_max=1, bytes_max=1).forget(now_ms=10**9)
        assert await kept(store) == [100]
        await replica.close()
        await (await Replica(store).open()).close()

    run(story())


def test_without_a_snapshot_everything_is_kept(run: Run):
    async def story() -> None:
        store = MemoryStore()
        replica = await filled(store, snapshots=())
        assert await Retention(store, age_ms_max=1, bytes_max=1).forget(now_ms=10**9) == 0
        assert len(await kept(store)) == 10
        await replica.close()

    run(story())


def test_the_engine_looks_after_each_snapshot(run: Run):
    async def story() -> None:
        store = MemoryStore()
        retention = Retention(store, age_ms_max=5_000, bytes_max=0)
        replica = await Replica(store, retention=retention).open()
        for index in range(10, 101, 10):
            replica.engine.apply(index, entry_of(node(f"n{index}"), at_ms=index * 1_000))
            await replica.engine.snapshot()
        # The older of two snapshots is at 90: what is behind it stays.
        assert await kept(store) == [100]
        await replica.close()

    run(story())
