"""The engine: decides once, stores in order, comes back as it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.core.commands import Renew
from raftalloc.errors import DataDirectoryError, ReplicaFailed
from raftalloc.storage.memory import MemoryStore
from tests.service.fakes import Replica, ask, entry_of, node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Run


def fill(replica: Replica, indices: Sequence[int]) -> None:
    """A node at the first index, an allocation at each of the others."""
    for index in indices:
        command = node() if replica.engine.index == 0 else ask(f"a{index}")
        replica.engine.apply(index, entry_of(command, at_ms=1_000 + index))


def stored_entries(store: MemoryStore) -> list[tuple[int, bytes]]:
    from raftalloc.core.codec import decode_block

    return [(index, decode_block(data).entry) for index, data in store._blocks.items()]


@pytest.mark.parametrize("snapshot_entries", [1, 3, 7, 1000])
def test_a_recovered_engine_is_where_it_was(run: Run, snapshot_entries: int):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store, snapshot_entries=snapshot_entries).open()
        fill(first, [3, 4, 5, 9, 10, 11, 20])
        before = first.engine.digests()
        await first.close()
        second = await Replica(store).open()
        assert second.engine.digests() == before
        assert second.engine.index == second.engine.stored_index == 20
        await second.close()
        assert bool(await store.snapshots()) == (snapshot_entries <= 20)

    run(story())


def test_indices_that_are_stored_are_not_decided_again(run: Run):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store).open()
        fill(first, [3, 4, 5])
        await first.close()
        second = await Replica(store).open()
        before = second.engine.digests()
        answers = [second.engine.apply(index, entry) for index, entry in stored_entries(store)]
        assert answers == [None, None, None]
        assert second.engine.digests() == before
        assert second.decided == []
        fill(second, [6])
        await second.close()
        assert [index for index, _ in await store.read(0, 9)] == [3, 4, 5, 6]

    run(story())


def test_what_the_store_had_not_taken_is_decided_again_to_the_same_bytes(run: Run):
    whole, cut = MemoryStore(), MemoryStore()

    async def story() -> None:
        for store, indices in ((whole, [3, 4, 5, 6]), (cut, [3, 4])):
            replica = await Replica(store).open()
            fill(replica, indices)
            await replica.close()
        replica = await Replica(cut).open()
        for index, entry in stored_entries(whole):
            replica.engine.apply(index, entry)
        await replica.close()
        assert await cut.read(0, 9) == await whole.read(0, 9)

    run(story())


def test_a_journal_with_another_entry_at_a_stored_index_is_refused(run: Run):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store).open()
        fill(first, [3, 4, 5])
        await first.close()
        second = await Replica(store).open()
        with pytest.raises(DataDirectoryError, match=r"index 4: .* different entries"):
            second.engine.apply(4, entry_of(ask("somebody else")))
        await second.close()

    run(story())


def test_a_journal_that_has_lost_a_stored_entry_is_refused(run: Run):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store).open()
        fill(first, [3, 4, 5])
        await first.close()
        second = await Replica(store).open()
        entries = stored_entries(store)
        for index, entry in entries[:2]:
            second.engine.apply(index, entry)
        with pytest.raises(DataDirectoryError, match="index 5 is in the event store"):
            second.engine.apply(6, entry_of(ask()))
        await second.close()

    run(story())


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_or_missing_block_is_named(run: Run, damage: str):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store).open()
        fill(first, [3, 4, 5, 6])
        await first.close()
        if damage == "flip":
            block = store._blocks[5]
            store._blocks[5] = block[:40] + bytes([block[40] ^ 1]) + block[41:]
        else:
            store._indices.remove(5)
        with pytest.raises(DataDirectoryError, match=r"index [56]"):
            await Replica(store).open()

    run(story())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state, manifest: (state[:-1] + b"\xc0", manifest), "snapshot at index 5"),
        (lambda state, manifest: (b"rubbish", manifest), "cannot be read"),
        (lambda state, manifest: (state, b"rubbish"), "cannot be read"),
        (
            lambda state, manifest: (state, manifest.replace(b'"format": 1', b'"format": 9')),
            "format 9",
        ),
        (lambda state, manifest: (state, manifest.replace(b"tests", b"other")), "cluster 'other'"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(run: Run, change, says: str):
    store = MemoryStore()

    async def story() -> None:
        first = await Replica(store).open()
        fill(first, [3, 4, 5])
        await first.engine.snapshot()
        await first.close()
        store._snapshots[5] = change(*store._snapshots[5])
        with pytest.raises(DataDirectoryError, match=says):
            await Replica(store).open()

    run(story())


def test_a_snapshot_of_now_answers_where_it_is(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        fill(replica, [3, 4])
        index, path, size = await replica.engine.snapshot()
        assert (index, path) == (4, "memory:4")
        assert size > 0
        assert replica.engine.snapshot_index == 4
        await replica.close()

    run(story())


def test_observers_hear_every_entry_in_order_until_they_stop(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        heard: list[int] = []
        stop = replica.engine.subscribe(lambda decided: heard.append(decided.index))
        fill(replica, [3, 4])
        stop()
        fill(replica, [5])
        assert heard == [3, 4]
        await replica.close()

    run(story())


def test_grants_and_renewals_come_with_their_allocations_where_they_were_proposed(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        replica.engine.apply(3, entry_of(node()))
        mine = replica.engine.apply(4, entry_of(ask("mine", lease_ttl_ms=5_000, count=3)))
        theirs = replica.engine.apply(5, entry_of(ask("theirs"), proposer="r2"))
        assert mine is not None
        assert theirs is not None
        granted = mine.granted[0]
        assert [one.agent_id for one in granted] == ["mine"] * 3
        assert theirs.granted == ()
        first = granted[0]
        renew = Renew(first.allocation_id, first.token, "mine")
        renewed = replica.engine.apply(6, entry_of(renew, at_ms=1_002_000))
        assert renewed is not None
        assert renewed.granted[0][0].expires_ms == first.expires_ms + 2_000
        await replica.close()

    run(story())


class FailingStore(MemoryStore):
    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        raise OSError("the disk is full")


def test_a_store_that_fails_stops_the_replica_and_whoever_waits_for_it(run: Run):
    async def story() -> None:
        replica = await Replica(FailingStore()).open()
        fill(replica, [3])
        with pytest.raises(ReplicaFailed, match="the disk is full"):
            await replica.engine.stored(3)
        assert [str(error) for error in replica.fatal] == ["the disk is full"]
        await replica.close()

    run(story())


class SlowStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        await self.gate.wait()
        await super().append(index, block, keys)


def test_deciding_does_not_wait_for_the_store_but_proposing_does(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raftalloc.service.engine.BACKLOG_BLOCKS_MAX", 2)

    async def story() -> None:
        store = SlowStore()
        replica = await Replica(store).open()
        fill(replica, [3, 4, 5, 6])
        assert replica.engine.index == 6
        assert replica.engine.backlog == 4
        waiting = asyncio.create_task(replica.engine.room())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        store.gate.set()
        await waiting
        await replica.engine.stored(6)
        assert replica.engine.backlog == 0
        await replica.close()

    run(story())
