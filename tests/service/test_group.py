"""Whole replicas, from commands to stored events, over a network without sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.core import invariants
from raftalloc.core.commands import Asked, Origin
from raftalloc.errors import OutcomeUnknown, RaftallocError, Unavailable
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.local import LocalNetwork
from raftalloc.raft.replica import Replica
from raftalloc.raft.timing import Timing
from raftalloc.service.clock import ClusterClock
from raftalloc.service.engine import Engine
from raftalloc.service.submit import Submitter
from raftalloc.service.ticker import Ticker
from raftalloc.storage.directory import open_directory
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemClock, SystemDisk, SystemRng
from tests.service.fakes import ask, node

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.service.submit import Answer
    from tests.conftest import Run

CLOCK = SystemClock()
TIMING = Timing(heartbeat_ms=30, election_min_ms=300, election_max_ms=600)


class Member:
    """One replica on its data directory."""

    def __init__(
        self,
        path: Path,
        replica_id: str,
        ids: list[str],
        net: LocalNetwork,
        clock: SystemClock = CLOCK,
    ) -> None:
        self.replica_id = replica_id
        self.fatal: list[BaseException] = []
        self.directory = open_directory(
            SystemDisk(), str(path / replica_id), cluster_id="tests", replica_id=replica_id
        )
        self.store = RocksStore(SystemDisk(), self.directory.events_path)
        self.engine = Engine(
            store=self.store,
            replica_id=replica_id,
            cluster_id="tests",
            snapshot_entries=20,
            on_fatal=self.fatal.append,
        )
        self.clock = ClusterClock(clock)
        self.raft = Replica(
            replica_id=replica_id,
            peers=dict.fromkeys(ids, ("", 0)),
            cluster_id="tests",
            directory=self.directory.raft_path,
            log_disk=SystemLogDisk(),
            clock=CLOCK,
            net=net,
            rng=SystemRng(),
            apply=self.engine.apply,
            on_fatal=self.fatal.append,
            stamp=self.clock.now_ms,
            hear=self.clock.hear,
            timing=TIMING,
        )
        self.submitter = Submitter(
            engine=self.engine, consensus=self.raft, clock=self.clock, replica_id=replica_id
        )
        self.ticker = Ticker(
            engine=self.engine,
            consensus=self.raft,
            submitter=self.submitter,
            clock=CLOCK,
            cluster_clock=self.clock,
            replica_id=replica_id,
        )

    async def open(self) -> Member:
        await self.engine.recover()
        await self.raft.start()
        await self.ticker.start()
        return self

    async def close(self) -> None:
        await self.ticker.close()
        await self.submitter.close()
        await self.raft.stop()
        await self.engine.close()
        await self.store.close()
        self.directory.close()


class Group:
    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.ids = [f"r{number}" for number in range(size)]
        self.net = LocalNetwork(CLOCK)
        self.members: dict[str, Member] = {}
        self.clocks: dict[str, SystemClock] = {}

    async def start(self, *ids: str) -> None:
        for replica_id in ids or self.ids:
            clock = self.clocks.get(replica_id, CLOCK)
            member = Member(self.path, replica_id, self.ids, self.net, clock)
            self.members[replica_id] = await member.open()

    async def stop(self, *ids: str) -> None:
        for replica_id in ids or list(self.members):
            await self.members.pop(replica_id).close()

    async def leader(self) -> Member:
        while True:
            for member in self.members.values():
                if member.ticker.has_lead:
                    return member
            await CLOCK.sleep(0.005)

    async def submit(self, *asked: Asked) -> Answer:
        """As a client does: the same again, until somebody answers."""
        while True:
            try:
                return await (await self.leader()).submitter.submit(asked)
            except (Unavailable, OutcomeUnknown):
                await CLOCK.sleep(0.01)

    async def digests(self) -> tuple[int, str, str]:
        """Wait until all are at one index; they must be equal there."""
        while True:
            members = list(self.members.values())
            if len({member.engine.index for member in members}) == 1:
                found = {member.engine.digests() for member in members}
                assert len(found) == 1, "replicas at one index differ"
                return found.pop()
            await CLOCK.sleep(0.005)


def keyed(number: int) -> Asked:
    return Asked(ask(f"agent_{number}", cpu=1), Origin(key=f"{number:032x}"))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_replicas_decide_the_same_and_come_back_as_they_were(tmp_path: Path, run: Run, size: int):
    async def story() -> None:
        group = Group(tmp_path, size)
        await group.start()
        await group.submit(*(Asked(node(f"n{number}")) for number in range(5)))
        for number in range(45):
            await group.submit(keyed(number))
        before = await group.digests()
        await group.stop()
        await group.start()
        await group.submit(keyed(0))
        index, *_ = await group.digests()
        state = (await group.leader()).engine.state
        assert index > before[0]
        assert state.live_count() == 45, "a retry after the restart is answered, not repeated"
        assert invariants.check(state) == []
        await group.stop()

    run(story())


def test_nothing_acknowledged_is_lost_or_doubled_when_leaders_go_and_come_back(
    tmp_path: Path, run: Run
):
    acknowledged: dict[int, int] = {}

    async def caller(group: Group, first: int) -> None:
        for number in range(first, first + 60):
            answer = await group.submit(keyed(number))
            assert answer.outcomes[0].subject
            acknowledged[number] = answer.outcomes[0].subject
            await CLOCK.sleep(0.005)

    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        await group.submit(*(Asked(node(f"n{number}")) for number in range(5)))
        callers = [asyncio.create_task(caller(group, first)) for first in (0, 1000, 2000)]
        for _ in range(3):
            await CLOCK.sleep(0.2)
            leader = await group.leader()
            await group.stop(leader.replica_id)
            await CLOCK.sleep(0.3)
            await group.start(leader.replica_id)
        await asyncio.gather(*callers)
        await group.digests()
        state = (await group.leader()).engine.state
        assert len(acknowledged) == 180
        assert len(set(acknowledged.values())) == 180
        assert sorted(state.leases.rows) == sorted(acknowledged.values())
        assert invariants.check(state) == []
        assert all(member.fatal == [] for member in group.members.values())
        await group.stop()

    run(story(), timeout=60)


def test_leases_run_on_over_a_change_of_leaders(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        answer = await group.submit(Asked(node()), Asked(ask(lease_ttl_ms=400)))
        allocation = answer.granted[1][0]
        first = await group.leader()
        await group.stop(first.replica_id)
        second = await group.leader()
        row = second.engine.state.leases.row(allocation.allocation_id)
        assert row >= 0
        given_back = second.engine.state.leases.get(row, "expires_ms") - allocation.expires_ms
        assert 20 <= given_back <= 2_000, "about as long as nobody led"
        while second.engine.state.live_count():
            await CLOCK.sleep(0.01)
        await group.digests()
        await group.stop()

    run(story())


def test_an_event_store_of_another_life_is_noticed(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        await group.submit(Asked(node()))
        for number in range(5):
            await group.submit(keyed(number))
        await group.stop()
        for file in (tmp_path / "r0" / "raft").iterdir():
            file.unlink()  # the journal is gone, the events are not
        await group.start()
        member = group.members["r0"]
        with pytest.raises(RaftallocError):
            await asyncio.wait_for(member.submitter.submit([keyed(9)]), 10)
        assert member.fatal != []
        await group.stop()

    run(story())
