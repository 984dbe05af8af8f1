"""Replicas over a network without sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import (
    ConfigError,
    DataDirectoryError,
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    ReplicaFailed,
)
from tests.raft.replicas import CLOCK, TIMING, Group

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.raft.replica import Replica
    from tests.conftest import Run


@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_replica_applies_the_same_entries_at_the_same_indices(
    tmp_path: Path, run: Run, size: int
):
    async def story() -> None:
        group = Group(tmp_path, size)
        await group.start()
        leader = await group.leader()
        answers = [await leader.propose(b"entry %d" % number) for number in range(5)]
        log = await group.agree()
        await group.stop()
        assert [entry for _, entry in log] == [b"entry %d" % number for number in range(5)]
        assert answers == [(leader.replica_id, index) for index, _ in log]
        assert [index for index, _ in log] == sorted({index for index, _ in log})

    run(story())


def test_entries_proposed_at_once_are_all_applied_in_the_order_of_proposing(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        entries = [b"%d" % number for number in range(200)]
        await asyncio.gather(*(leader.propose(entry) for entry in entries))
        log = await group.agree()
        await group.stop()
        assert [entry for _, entry in log] == entries

    run(story())


def test_a_lone_replica_has_applied_its_whole_log_when_it_has_started(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        for number in range(20):
            await group.replicas["a"].propose(b"%d" % number)
        before = list(group.applied["a"])
        await group.stop()
        await group.start()
        assert group.applied["a"] == before
        assert group.replicas["a"].is_leader
        await group.stop()

    run(story())


def test_a_group_that_was_stopped_has_its_log_back_with_the_same_indices(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        for number in range(20):
            await leader.propose(b"%d" % number)
        before = list(await group.agree())
        await group.stop()
        await group.start()
        await group.leader()
        assert await group.agree() == before
        await group.stop()

    run(story())


def test_another_takes_over_when_the_leader_has_gone_and_nothing_is_lost(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        first = await group.leader()
        await first.propose(b"before")
        await group.stop(first.replica_id)
        second = await group.leader()
        await second.propose(b"after")
        log = await group.agree()
        assert [entry for _, entry in log] == [b"before", b"after"]
        await group.start(first.replica_id)
        assert await group.agree() == log
        await group.stop()

    run(story())


def test_a_follower_refuses_a_proposal_at_once_and_names_the_leader(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        follower = next(r for r in group.replicas.values() if r is not leader)
        while follower.leader_id != leader.replica_id:
            await CLOCK.sleep(0.005)
        with pytest.raises(NotLeader) as refusal:
            await follower.propose(b"x")
        assert refusal.value.leader == leader.replica_id
        await group.stop()
        assert all(not log for log in group.applied.values())

    run(story())


def test_without_a_quorum_a_proposal_ends_as_unknown_and_the_leader_steps_back(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        group.network.isolate(leader.replica_id)
        cut_at = CLOCK.monotonic()
        reading = asyncio.create_task(leader.read_index())
        with pytest.raises(OutcomeUnknown):
            await leader.propose(b"never")
        assert not leader.is_leader
        assert CLOCK.monotonic() - cut_at < 2 * TIMING.election_max_ms / 1000
        with pytest.raises(NoLeader):
            await reading
        with pytest.raises(NoLeader):
            await leader.read_index()
        with pytest.raises(NoLeader):
            await leader.propose(b"not even taken")
        others = [name for name in group.ids if name != leader.replica_id]
        new = await group.leader(others)
        await new.propose(b"kept")
        group.network.heal()
        log = await group.agree()
        await group.stop()
        assert [entry for _, entry in log] == [b"kept"]

    run(story())


def test_a_read_sees_what_was_acknowledged_before_it_and_a_follower_names_the_leader(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        for number in range(20):
            answer = await leader.propose(b"%d" % number)
            assert isinstance(answer, tuple)
            indices = await asyncio.gather(*(leader.read_index() for _ in range(10)))
            assert all(answer[1] <= index <= leader.applied_index for index in indices)
        await group.agree()
        follower = next(
            replica
            for replica in group.replicas.values()
            if replica.leader_id and not replica.is_leader
        )
        with pytest.raises(NotLeader):
            await follower.read_index()
        await group.stop()
        with pytest.raises(NoLeader):
            await leader.read_index()

    run(story())


def test_a_lone_replica_reads_at_once(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        await group.replicas["a"].propose(b"x")
        assert await group.replicas["a"].read_index() == group.replicas["a"].applied_index
        await group.stop()

    run(story())


def test_an_exception_in_apply_stops_the_replica_for_good(tmp_path: Path, run: Run):
    calls = []

    def fail(replica_id: str, index: int, entry: bytes) -> None:
        if entry == b"bad":
            calls.append(index)
            raise AssertionError("a bug")

    async def story() -> None:
        group = Group(tmp_path, 1)
        group.on_apply = fail
        await group.start()
        replica = group.replicas["a"]
        await replica.propose(b"good")
        with pytest.raises(ReplicaFailed, match="a bug"):
            await replica.propose(b"bad")
        await CLOCK.sleep(0.05)
        with pytest.raises(ReplicaFailed):
            await replica.propose(b"good")
        assert not replica.is_leader
        assert [name for name, _ in group.fatal] == ["a"]
        await group.stop()

    run(story())
    assert len(calls) == 1, "it must not be tried again"


def test_leadership_can_be_handed_to_a_chosen_replica(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"x")
        chosen = next(name for name in group.ids if name != leader.replica_id)
        assert await leader.transfer(chosen) == chosen
        assert (await group.leader()).replica_id == chosen
        await group.stop()

    run(story())


async def _refused(replica: Replica, to_replica_id: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        await replica.transfer(to_replica_id)
    assert refusal.value.field == "to_replica_id"
    return str(refusal.value)


def test_leadership_is_not_handed_to_nobody_to_a_stranger_or_to_itself(tmp_path: Path, run: Run):
    async def story() -> None:
        alone = Group(tmp_path / "one", 1)
        await alone.start()
        assert "alone" in await _refused(alone.replicas["a"], "")
        await alone.stop()
        group = Group(tmp_path / "three", 3)
        await group.start()
        leader = await group.leader()
        assert "use one of" in await _refused(leader, "z")
        assert "use one of" in await _refused(leader, leader.replica_id)
        await group.stop()

    run(story())


def test_heartbeats_carry_the_groups_time_to_the_followers(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        followers = [name for name in group.ids if name != leader.replica_id]
        while not all(4711 in group.heard[name] for name in followers):
            await CLOCK.sleep(0.005)
        await group.stop()

    run(story())


def test_an_entry_that_is_too_large_is_refused_and_the_next_one_taken(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        with pytest.raises(InvalidRequest, match="8388609 bytes"):
            await leader.propose(b"x" * ((8 << 20) + 1))
        await leader.propose(b"x" * (8 << 20))
        assert len(await group.agree()) == 1
        await group.stop()

    run(story())


def test_a_long_log_is_applied_without_holding_up_the_event_loop(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        await asyncio.gather(*(group.replicas["a"].propose(b"x") for _ in range(2000)))
        await group.stop()
        pauses = [CLOCK.monotonic()]

        def busy(replica_id: str, index: int, entry: bytes) -> None:
            until = CLOCK.monotonic() + 0.0005
            while CLOCK.monotonic() < until:
                continue

        async def beat() -> None:
            while True:
                await CLOCK.sleep(0.001)
                pauses.append(CLOCK.monotonic())

        group.on_apply = busy
        beating = asyncio.create_task(beat())
        await group.start()
        beating.cancel()
        await asyncio.wait([beating])
        await group.stop()
        assert len(pauses) > 10, "2000 entries of 0.5 ms are a second, and each tick applies 20 ms"

    run(story())


def test_a_damaged_journal_is_refused(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        for number in range(3):
            await group.replicas["a"].propose(b"entry %d" % number)
        await group.stop()
        (path,) = (tmp_path / "a").glob("*.wal")
        data = bytearray(path.read_bytes())
        data[data.index(b"entry 1")] ^= 0x40
        path.write_bytes(bytes(data))
        with pytest.raises(DataDirectoryError, match=r"\.wal: offset \d+: damaged"):
            await group.start()

    run(story())


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("10.0.0.1", "loopback"),
        ("0.0.0.0", "no address of a machine"),
        ("localhost", "use 127.0.0.1"),
        ("example.com", "use 127.0.0.1"),
    ],
)
def test_a_raft_address_beyond_this_machine_is_refused_without_tls(
    tmp_path: Path, host: str, says: str
):
    group = Group(tmp_path, 3, ports=[1, 2, 3], tls=False)
    group.peers["b"] = (host, 2)
    with pytest.raises(ConfigError, match=says):
        group.make("a")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.1"])
def test_members_are_told_where_each_other_is_and_not_anywhere(tmp_path: Path, host: str):
    group = Group(tmp_path, 3, ports=[1, 2, 3])
    group.peers["b"] = ("10.0.0.1", 2)
    group.make("a")
    group.peers["b"] = (host, 2)
    with pytest.raises(ConfigError, match="the address that the others reach it at"):
        group.make("a")


def test_two_replicas_cannot_have_one_address(tmp_path: Path):
    group = Group(tmp_path, 3, ports=[1, 2, 2])
    with pytest.raises(ConfigError, match="same Raft address"):
        group.make("a")


def test_a_replica_that_is_not_a_member_is_refused(tmp_path: Path):
    group = Group(tmp_path, 3)
    del group.peers["a"]
    with pytest.raises(ConfigError, match="not among the members"):
        group.make("a")
