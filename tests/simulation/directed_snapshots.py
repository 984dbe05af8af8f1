"""Schedules about snapshots: see directed.py. Over the log of production, on a simulated disk."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from raftalloc.ports import Image
from raftalloc.raft.installing import Installing
from raftalloc.raft.journal import Journal
from raftalloc.raft.offering import Offer, Parcel
from raftalloc.raft.segments import Identity
from raftalloc.raft.sending import BATCH_BYTES, WINDOW_BYTES
from raftalloc.raft.timing import Timing
from raftalloc.service.engine import Engine
from raftalloc.storage.memory import MemoryStore
from tests.simulation.bench import A, B, C, Peer, _Base, seats_of
from tests.simulation.dice import Dice
from tests.simulation.directed import SCHEDULES
from tests.simulation.disk import SimulatedDisk


def journal_of(count: int, size: int = 1) -> Journal:
    dice = Dice(0, "journal")
    disk = SimulatedDisk(dice)
    journal = Journal(disk, "/raft", Identity("simulation", "a"), token=dice.token)
    journal.add(b"\x01", 1, 0)
    for index in range(2, count + 1):
        journal.add(b"x" * size, index, 1)
    journal.flush()
    return journal


class SnapshotBench(Installing, _Base):
    """Replica a, whose log has `count` entries of term 1 on its disk, all of them committed and applied."""

    def __init__(self, count: int, size: int = 1) -> None:
        self.installs: list[str] = []
        self._owner: Any = SimpleNamespace(
            timing=Timing(tail_entries=0),
            driver=SimpleNamespace(kick=lambda: None),
            spawn=self._spawn,
        )
        super().__init__([0, 1], (B, C), 1, A)
        self._SyncObj__raftLog = journal_of(count, size)
        self._SyncObj__raftCommitIndex = self._SyncObj__raftLastApplied = count
        self._SyncObj__connectedNodes = {B, C}
        self._configurations = [(0, seats_of("a", "b", "c"))]
        self.take_seats()
        self.conf.appendEntriesPeriod = 0.05

    def _spawn(self, work: Any) -> None:
        """Nothing is done; that it was begun is what is asked."""
        work.close()
        self.installs.append("begun")

    def now(self) -> float:
        return self.time

    def why_no_lead(self) -> Exception:
        raise AssertionError("nobody reads")

    def take(self, leader: Peer, parcel: Parcel) -> dict[str, Any]:
        """The whole snapshot in one message; what is answered."""
        self.handle(
            leader,
            {
                "type": "snapshot_chunk",
                "term": 1,
                "commit_index": 1,
                "index": parcel.index,
                "index_term": parcel.term,
                "size": len(parcel.content),
                "digest": parcel.digest,
                "offset": 0,
                "data": parcel.content,
            },
        )
        return self.sent.pop()[1]


def entries_behind_a_snapshot_stay() -> None:
    """S13: they were acknowledged."""
    journal = journal_of(10)
    journal.install(5, 1, b"")
    journal.flush()
    assert (journal.first_index, journal.last_index, journal.durable_index) == (6, 10, 10)


def entries_behind_another_entry_go() -> None:
    """S13: where the log has another entry at the snapshot's index, what follows it was never committed."""
    journal = journal_of(10)
    journal.install(5, 2, b"")
    assert (journal.first_index, journal.last_index, journal.term_at(5)) == (6, 5, 2)


def an_older_snapshot_is_not_taken() -> None:
    """S14: we have more."""
    follower = SnapshotBench(10)
    parcel = Parcel.of(Image(8, 1, b"", b"manifest", b"state"))
    answer = follower.take(B, parcel)
    assert answer["taken"], "there is no need for it"
    assert answer["next_node_idx"] == 11
    assert not follower.installs
    answer = follower.take(B, Parcel.of(Image(11, 1, b"", b"manifest", b"state")))
    assert len(follower.installs) == 1


def a_damaged_snapshot_is_asked_for_again() -> None:
    """S8: what came is not what was sent."""
    follower = SnapshotBench(10)
    parcel = Parcel.of(Image(11, 1, b"", b"manifest", b"state"))
    damaged = Parcel(parcel.index, parcel.term, parcel.content[:-1] + b"?", parcel.digest)
    assert follower.take(B, damaged)["offset"] == 0
    assert not follower.installs


def who_has_no_state_does_not_stand() -> None:
    """S8: it could not apply what it leads."""
    replica = SnapshotBench(10)
    replica._wants = 5
    replica.time += 10.0
    replica.ask_before_standing()
    assert not replica.sent
    assert replica._SyncObj__raftElectionDeadline > replica.time


def a_transfer_is_not_begun_anew_by_a_compaction() -> None:
    """A3: its snapshot stays, and the log behind it."""
    leader = SnapshotBench(100)
    leader._SyncObj__raftState = 2
    parcel = Parcel.of(Image(50, 1, b"", b"manifest", b"state"))
    leader._offers[B] = offer = Offer(1, 50, leader.time, parcel, parcel.index)
    leader.compact(90)
    assert leader._SyncObj__raftLog.first_index == 51
    assert leader._offers[B] is offer
    leader._offers.clear()
    leader.compact(90)
    assert leader._SyncObj__raftLog.first_index == 91


def who_is_behind_gets_a_window() -> None:
    """A8: the rest when that is confirmed."""
    leader = SnapshotBench(3, size=1)
    for index in range(4, 44):
        leader._SyncObj__raftLog.add(bytes(BATCH_BYTES // 2), index, 1)
    leader._SyncObj__raftState = 2
    leader._SyncObj__raftNextIndex = {B: 4, C: 44}
    leader._flight_of(B).probing = False
    leader._SyncObj__sendAppendEntries()
    sent = sum(
        len(command)
        for node, message in leader.sent
        for command, _, _ in message["entries"]
        if node == B
    )
    assert WINDOW_BYTES <= sent <= WINDOW_BYTES + BATCH_BYTES


class _Told(MemoryStore):
    """Notes when a snapshot is on the disk."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self._order = order

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        await asyncio.sleep(0)
        self._order.append("durable")
        return await super().save_snapshot(index, state, manifest)


async def _take_a_snapshot(order: list[str]) -> None:
    engine = Engine(
        store=_Told(order),
        replica_id="a",
        cluster_id="simulation",
        snapshot_entries=10,
        on_fatal=lambda error: order.append(str(error)),
    )
    engine.on_durable = lambda _index: order.append("forgotten")
    await engine.recover()
    await engine.snapshot()
    await engine.close()


def the_log_forgets_what_is_on_the_disk() -> None:
    """Design 9.3: and not before it is."""
    order: list[str] = []
    asyncio.run(_take_a_snapshot(order))
    assert order == ["durable", "forgotten"]


for _schedule in (
    entries_behind_a_snapshot_stay,
    entries_behind_another_entry_go,
    an_older_snapshot_is_not_taken,
    a_damaged_snapshot_is_asked_for_again,
    who_has_no_state_does_not_stand,
    a_transfer_is_not_begun_anew_by_a_compaction,
    who_is_behind_gets_a_window,
    the_log_forgets_what_is_on_the_disk,
):
    SCHEDULES[_schedule.__name__] = _schedule
