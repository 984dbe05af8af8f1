"""Members of a group come, go, and lose their disks; what was acknowledged stays."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError, InvalidRequest, NotLeader, Rejected
from raftalloc.ports import Seat
from raftalloc.raft import membership
from tests.raft.replicas import CLOCK, Group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from raftalloc.raft.replica import Replica
    from tests.conftest import Run

SEATS = tuple(
    Seat(name, f"127.0.0.1:{number}", "", "", is_voter=True, incarnation=name.encode() * 16)
    for number, name in enumerate("abc", 1)
)


def newcomer(name: str, raft: str = "") -> Seat:
    return Seat(name, raft, "", "", is_voter=False, incarnation=b"")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await CLOCK.sleep(0.01)


def voters(replica: Replica) -> list[str]:
    return sorted(membership.voters_of(replica.members))


async def patiently(act: Callable[[], Awaitable[int]]) -> None:
    """Again while another change is under way: a promotion comes by itself."""
    while True:
        try:
            await act()
        except Rejected as error:
            if error.code != membership.CHANGE_UNDER_WAY:
                raise
            await CLOCK.sleep(0.01)
        else:
            return


def test_a_replica_that_is_added_learns_first_and_then_votes(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        for number in range(50):
            await leader.propose(b"%d" % number)
        group.join("d")
        await group.start("d")
        await leader.add_member(newcomer("d"))
        assert membership.seat_of(leader.members, "d") is not None
        assert voters(leader) == ["a", "b", "c"], "it has not caught up yet"
        await until(lambda: voters(leader) == ["a", "b", "c", "d"])
        await leader.propose(b"with four")
        assert len(await group.agree()) == 51
        assert leader.others == tuple(name for name in "abcd" if name != leader.replica_id)
        assert await leader.transfer("d") == "d"
        await (await group.leader()).propose(b"led by the new one")
        await group.agree()
        await group.stop()
        await group.start()
        await group.leader()
        assert all(voters(each) == ["a", "b", "c", "d"] for each in group.replicas.values())
        assert (await group.agree())[-1][1] == b"led by the new one"
        await group.stop()
        assert group.fatal == []

    run(story())


def test_a_leader_that_is_removed_hands_over_and_disturbs_nobody(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 4)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"before")
        await leader.remove_member(leader.replica_id)
        await until(lambda: not leader.is_leader)
        rest = [name for name in group.ids if name != leader.replica_id]
        new = await group.leader(rest)
        term = new.term
        await new.propose(b"after")
        assert voters(new) == rest
        await CLOCK.sleep(1.5)
        assert (await group.leader(rest)).term == term, "whoever was removed stands for nothing"
        await group.agree(rest)
        await group.stop()

    run(story())


def test_who_lost_its_disk_counts_for_nothing_until_it_is_replaced(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"kept")
        await group.agree()
        lost, other = [name for name in group.ids if name != leader.replica_id]
        await group.stop(lost)
        shutil.rmtree(tmp_path / lost)
        await group.start(lost)
        await group.stop(other)
        unheard = asyncio.create_task(leader.propose(b"on one disk only"))
        await asyncio.wait([unheard], timeout=1.5)
        assert not leader.is_leader, "the empty one is no majority's second half"
        await group.start(other)
        leader = await group.leader((leader.replica_id, other))
        await asyncio.wait([unheard], timeout=1.0)
        unheard.cancel()
        await leader.replace_member(lost)
        await until(lambda: voters(leader) == ["a", "b", "c"])
        await leader.propose(b"whole again")
        log = await group.agree()
        assert log[0][1] == b"kept"
        seat = membership.seat_of(leader.members, lost)
        assert seat is not None
        assert seat.incarnation
        await group.stop()

    run(story())


def test_a_group_does_not_begin_before_all_its_first_replicas_are_there(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start("a", "b")
        await CLOCK.sleep(1.5)
        assert not any(replica.is_leader for replica in group.replicas.values())
        await group.start("c")
        await group.leader()
        await group.stop("c")
        await (await group.leader()).propose(b"two of three go on")
        await group.stop()

    run(story())


def test_changes_that_cannot_be_are_refused_with_what_would_help(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        follower = next(name for name in group.ids if name != leader.replica_id)
        with pytest.raises(NotLeader):
            await group.replicas[follower].remove_member("a")
        for code, act in (
            (membership.UNKNOWN_REPLICA, leader.remove_member("x")),
            (membership.REPLICA_EXISTS, leader.add_member(newcomer("a"))),
        ):
            with pytest.raises(Rejected) as refused:
                await act
            assert refused.value.code == code
            assert refused.value.remedy
        first = asyncio.create_task(leader.add_member(newcomer("d")))
        await CLOCK.sleep(0)
        with pytest.raises(Rejected) as refused:
            await leader.add_member(newcomer("e"))
        assert refused.value.code == membership.CHANGE_UNDER_WAY
        await first
        await group.stop(follower)
        await CLOCK.sleep(0.8)
        third = next(n for n in group.ids if n not in (follower, leader.replica_id))
        with pytest.raises(Rejected) as refused:
            await leader.remove_member(third)
        assert refused.value.code == membership.QUORUM_AT_RISK
        assert refused.value.numbers == {"voters": 2, "answering": 1}
        await group.stop()

    run(story())


def test_the_last_voter_stays(tmp_path: Path, run: Run):
    async def story() -> None:
        group = Group(tmp_path, 1)
        await group.start()
        with pytest.raises(Rejected) as refused:
            await group.replicas["a"].remove_member("a")
        assert refused.value.code == membership.LAST_VOTER
        group.join("b")
        await group.start("b")
        await group.replicas["a"].add_member(newcomer("b"))
        await until(lambda: voters(group.replicas["a"]) == ["a", "b"])
        await patiently(lambda: group.replicas["a"].remove_member("a"))
        new = await group.leader(("b",))
        await new.propose(b"alone again")
        assert voters(new) == ["b"]
        await group.stop()

    run(story())


def test_a_configuration_is_what_was_put_in_and_may_be_longer_one_day():
    assert membership.decode(membership.encode(SEATS)) == SEATS
    row = b"\xa1a\xab127.0.0.1:1\xa0\xa0\xc3\xc4\x10" + b"a" * 16
    assert membership.encode(SEATS[:1]) == b"\x92\x01\x91\x96" + row
    assert membership.decode(b"\x93\x01\x91\x97" + row + b"\x05\x06") == SEATS[:1]
    with pytest.raises(DataDirectoryError):
        membership.decode(b"\xc1")


def test_changes_differ_by_one_vote():
    more = membership.added(SEATS, newcomer("d", "127.0.0.1:9"))
    assert membership.voters_of(more) == membership.voters_of(SEATS)
    assert membership.voters_of(membership.promoted(more, "d", b"x")) == set("abcd")
    assert membership.voters_of(membership.removed(SEATS, "b")) == set("ac")
    again = membership.replaced(SEATS, "b")
    assert membership.voters_of(again) == set("ac")
    assert [seat.replica_id for seat in again] == ["a", "b", "c"]
    assert again[1].incarnation == b""
    with pytest.raises(InvalidRequest, match=r"127.0.0.1:2 is already an address of b"):
        membership.added(SEATS, newcomer("d", "127.0.0.1:2"))
    seven = tuple(Seat(str(n), "", "", "", is_voter=True, incarnation=b"") for n in range(7))
    with pytest.raises(Rejected) as refused:
        membership.added(seven, newcomer("d"))
    assert refused.value.code == membership.TOO_MANY_REPLICAS
