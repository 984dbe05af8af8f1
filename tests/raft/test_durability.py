"""What is said is on the disk before: votes, acknowledgements, answers to callers."""

from __future__ import annotations

import asyncio
import errno
import random  # noqa: TID251 - seeded, for the faults of the disk
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.errors import OutcomeUnknown, ReplicaFailed, Unavailable
from tests.raft.replicas import CLOCK, Group
from tests.simulation.disk import SimulatedDisk

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.ports import LogDisk
    from raftalloc.raft.journal import Journal
    from raftalloc.raft.replica import Replica
    from tests.conftest import Run

PATIENCE = 0.1


class Frail(Group):
    """A group on simulated disks; `hang` makes one keep what it is given to do."""

    def __init__(self, directory: Path, size: int) -> None:
        super().__init__(directory, size)
        self.disks = {
            name: SimulatedDisk(random.Random(number), CLOCK)
            for number, name in enumerate(self.ids)
        }

    def disk_of(self, replica_id: str) -> LogDisk:
        return self.disks[replica_id]

    def hang(self, *replica_ids: str) -> None:
        for replica_id in replica_ids:
            self.disks[replica_id].timers = None

    def go_on(self, *replica_ids: str) -> None:
        for replica_id in replica_ids:
            disk = self.disks[replica_id]
            disk.timers = CLOCK
            disk.drain()

    def cut_power(self, *replica_ids: str) -> None:
        for replica_id in replica_ids:
            replica = self.replicas.pop(replica_id)
            replica.driver.stop()
            self.network.leave(replica_id)
            self.disks[replica_id].cut_power()
            replica._fail_pending(OutcomeUnknown("the process is gone"))

    def others(self, replica: Replica) -> list[str]:
        return [name for name in self.ids if name != replica.replica_id]


def journal_of(replica: Replica) -> Journal:
    log: Any = replica._log
    journal: Journal = log._SyncObj__raftLog
    return journal


async def until(condition: Any) -> None:
    while not condition():
        await CLOCK.sleep(0.005)


def test_alone_a_write_is_answered_and_applied_only_when_it_is_on_the_disk(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Frail(tmp_path, 1)
        await group.start()
        group.hang("a")
        asked = asyncio.create_task(group.replicas["a"].propose(b"x"))
        await CLOCK.sleep(PATIENCE)
        assert not asked.done()
        assert group.applied["a"] == []
        group.go_on("a")
        assert await asked == ("a", group.replicas["a"].applied_index)
        await group.stop()

    run(story())


def test_a_leader_sends_while_it_syncs_but_counts_itself_only_then(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"before")
        await group.agree()
        committed = leader.commit_index
        group.hang(leader.replica_id)
        asked = asyncio.create_task(leader.propose(b"x"))
        others = [journal_of(group.replicas[name]) for name in group.others(leader)]
        await until(lambda: all(journal[-1][0][1:] == b"x" for journal in others))
        await CLOCK.sleep(PATIENCE)
        assert not asked.done(), "both others have it, but a caller is told what is durable here"
        assert leader.commit_index == committed
        assert leader.is_leader
        group.go_on(leader.replica_id)
        await asked
        await group.agree()
        await group.stop()

    run(story())


def test_a_leader_whose_disk_hangs_makes_room_for_another_and_follows_when_it_moves_again(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        stuck = await group.leader()
        await stuck.propose(b"before")
        await group.agree()
        group.hang(stuck.replica_id)
        asked = asyncio.create_task(stuck.propose(b"x"))
        others = group.others(stuck)
        leader = await group.leader(others)
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await asked
        await leader.propose(b"after")
        group.go_on(stuck.replica_id)
        applied = [entry for _, entry in await group.agree()]
        assert applied[0] == b"before"
        assert applied[-1] == b"after"
        assert applied.count(b"x") <= 1
        assert not stuck.is_leader
        await group.stop()

    run(story())


def test_a_disk_that_hangs_for_a_moment_costs_no_lead(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        term = leader.term
        for _ in range(3):
            group.hang(leader.replica_id)
            asked = asyncio.create_task(leader.propose(b"x"))
            await CLOCK.sleep(1.0)
            group.go_on(leader.replica_id)
            await asked
        assert leader.is_leader
        assert leader.term == term
        await group.stop()

    run(story())


def test_a_follower_acknowledges_only_what_is_on_its_disk(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"before")
        await group.agree()
        group.hang(*group.others(leader))
        asked = asyncio.create_task(leader.propose(b"x"))
        await CLOCK.sleep(PATIENCE)
        assert not asked.done()
        one, other = group.others(leader)
        group.go_on(one)
        await asked
        await until(lambda: group.applied[one][-1][1] == b"x")
        await CLOCK.sleep(PATIENCE)
        assert group.applied[other][-1][1] == b"before", "it may lose what it would have applied"
        group.go_on(other)
        await group.agree()
        await group.stop()

    run(story())


def test_nobody_votes_or_stands_before_it_is_on_the_disk(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"before")
        await group.agree()
        left = group.others(leader)
        group.hang(*left)
        await group.stop(leader.replica_id)
        sent: list[dict[str, Any]] = []
        send = group.network.send
        group.network.send = lambda *told: sent.append(told[2]) or send(*told)  # type: ignore[method-assign,func-returns-value]  # a spy
        await CLOCK.sleep(1.5)
        kinds = {message["type"] for message in sent}
        assert not kinds & {"request_vote", "response_vote", "next_node_idx"}
        assert "leader" not in {group.replicas[name].role for name in left}
        group.go_on(*left)
        second = await group.leader(left)
        await second.propose(b"after")
        assert {"request_vote", "response_vote"} <= {message["type"] for message in sent}
        await group.stop()
        assert group.fatal == []

    run(story())


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_leader_whose_disk_fails_stops_and_the_others_go_on(tmp_path: Path, run: Run, code: int):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        await group.start()
        first = await group.leader()
        await first.propose(b"before")
        group.disks[first.replica_id].fail("sync", code)
        with pytest.raises((ReplicaFailed, OutcomeUnknown)):
            await first.propose(b"perhaps")
        await until(lambda: group.fatal)
        assert [name for name, _ in group.fatal] == [first.replica_id]
        assert "cannot be written" in str(group.fatal[0][1])
        with pytest.raises(ReplicaFailed):
            await first.propose(b"never")
        await group.stop(first.replica_id)
        second = await group.leader(group.others(first))
        await second.propose(b"after")
        group.disks[first.replica_id].mend()
        await group.start(first.replica_id)
        log = [entry for _, entry in await group.agree()]
        await group.stop()
        assert log[0] == b"before"
        assert log[-1] == b"after"
        assert b"never" not in log

    run(story())


def test_power_cuts_of_all_replicas_at_once_take_nothing_that_was_answered(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Frail(tmp_path, 3)
        answered: set[bytes] = set()

        async def ask(worker: int, round_number: int) -> None:
            number = 0
            while True:
                entry = b"%d %d %d" % (round_number, worker, number)
                number += 1
                try:
                    leader = await group.leader()
                    await leader.propose(entry)
                except (Unavailable, OutcomeUnknown, ReplicaFailed):
                    await CLOCK.sleep(0.005)
                else:
                    answered.add(entry)

        for round_number in range(6):
            await group.start()
            workers = [asyncio.create_task(ask(each, round_number)) for each in range(8)]
            await group.leader()
            await CLOCK.sleep(0.15 + 0.03 * round_number)
            group.cut_power(*group.ids)
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        await group.start()
        last = await group.leader()
        await last.propose(b"end")
        log = [entry for _, entry in await group.agree()]
        await group.stop()
        assert len(answered) > 100
        assert answered <= set(log)
        assert len(log) == len(set(log))
        assert group.fatal == []

    run(story(), 60)
