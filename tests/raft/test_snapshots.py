"""The log is forgotten below snapshots, and who needs what was forgotten is sent one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.ports import Image
from raftalloc.raft.offering import Parcel
from tests.raft.replicas import CLOCK, TIMING, Group

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raftalloc.raft.replica import Replica
    from tests.conftest import Run

SHORT = replace(TIMING, tail_entries=5, tail_bytes=1 << 20)


async def write(leader: Replica, count: int, size: int = 3) -> None:
    await asyncio.gather(*(leader.propose(b"%d" % each + b"x" * size) for each in range(count)))


def journal_of(replica: Replica) -> Any:
    return replica._log._journal  # type: ignore[union-attr]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await CLOCK.sleep(0.005)


def three(tmp_path: Path) -> Group:
    group = Group(tmp_path, 3)
    group.with_machines()
    return group


def test_a_log_is_forgotten_below_a_snapshot_but_for_its_tail(tmp_path: Path, run: Run):
    async def story() -> None:
        group = three(tmp_path)
        await group.start(timing=SHORT)
        leader = await group.leader()
        await write(leader, 50)
        await group.agree()
        for replica_id in group.ids:
            group.forget(replica_id)
            journal = journal_of(group.replicas[replica_id])
            assert journal.first_index == group.machines[replica_id].index - 4
        await write(leader, 20)
        before = list(await group.agree())
        await group.stop()
        await group.start(timing=SHORT)
        assert (await group.agree())[-1] == before[-1]
        await write(await group.leader(), 1)
        assert len(await group.agree()) == len(before) + 1
        await group.stop()

    run(story())


def test_who_was_away_for_too_long_is_sent_a_snapshot_while_others_write(tmp_path: Path, run: Run):
    async def story() -> None:
        group = three(tmp_path)
        await group.start(timing=SHORT)
        await group.leader()
        await group.stop("c")
        leader = await group.leader()
        await write(leader, 100, 12_000)
        group.forget(leader.replica_id)
        await group.start("c", timing=SHORT)
        for _ in range(20):
            await write(leader, 5)
            group.forget(leader.replica_id)
            await CLOCK.sleep(0.002)
        machine = group.machines["c"]
        await until(lambda: machine.index == leader.applied_index)
        assert len(machine.adopted) == 1, "no compaction begins a transfer anew"
        assert machine.applied == group.machines[leader.replica_id].applied
        assert leader.is_leader
        await group.stop("c")
        await group.start("c", timing=SHORT)
        await write(leader, 1)
        await group.agree()
        await group.stop()

    run(story())


def test_a_state_that_was_lost_is_asked_of_the_leader(tmp_path: Path, run: Run):
    async def story() -> None:
        group = three(tmp_path)
        await group.start(timing=SHORT)
        leader = await group.leader()
        await write(leader, 40)
        await group.agree()
        other = next(name for name in group.ids if name != leader.replica_id)
        group.forget(other)
        await group.stop(other)
        machine = group.machines[other]
        machine.applied.clear()
        machine.kept = None
        group.forget(leader.replica_id)
        await group.start(other, timing=SHORT)
        await until(lambda: machine.applied == group.machines[leader.replica_id].applied)
        assert machine.adopted
        await group.stop()

    run(story())


def test_alone_a_state_that_was_lost_is_refused(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        group.with_machines()
        await group.start(timing=SHORT)
        await write(group.replicas["a"], 40)
        group.forget("a")
        await group.stop()
        group.machines["a"].applied.clear()
        with pytest.raises(DataDirectoryError, match="restore a backup"):
            await group.start(timing=SHORT)

    run(story())


def test_what_was_killed_between_snapshot_and_log_is_finished_at_the_start(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = three(tmp_path)
        await group.start(timing=SHORT)
        await group.leader()
        await group.stop("c")
        leader = await group.leader()
        await write(leader, 30)
        machine, its = group.machines["c"], group.machines[leader.replica_id]
        its.take()
        assert its.durable is not None
        term = journal_of(leader).term_at(its.index)
        image = replace(its.durable, term=term)
        await machine.keep(image)
        machine.adopt(image)
        await group.start("c", timing=SHORT)
        journal = journal_of(group.replicas["c"])
        assert (journal.first_index, journal.term_at(image.index)) == (image.index + 1, term)
        await write(leader, 3)
        await until(lambda: machine.applied == its.applied)
        await group.stop()

    run(story())


def test_a_parcel_is_what_was_put_in_and_damage_is_seen():
    image = Image(7, 3, b"members", b"manifest", b"state")
    parcel = Parcel.of(image)
    assert parcel.image() == image
    with pytest.raises(ValueError, match="begins at"):
        replace(parcel, content=parcel.content[:12]).image()
    with pytest.raises(ValueError, match="of 3 bytes"):
        replace(parcel, content=b"abc").image()
