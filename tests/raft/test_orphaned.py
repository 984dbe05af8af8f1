"""A follower whose link to the leader breaks does not wait out its election timeout; and deposes nobody who lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.raft.orphaned import SHARE
from raftalloc.raft.timing import Timing
from tests.raft.replicas import CLOCK, Group
from tests.simulation.bench import B, Bench, C

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

TIMEOUT = 0.5
"""What the bench draws, always."""


def followed() -> Bench:
    follower = Bench([0, 1])
    follower.append(B, 1, 2, [], commit=2)
    follower.sent.clear()
    return follower


def deadline_in(follower: Bench) -> float:
    return float(follower._SyncObj__raftElectionDeadline - follower.time)


def test_a_lost_leader_brings_the_election_forward():
    follower = followed()
    assert deadline_in(follower) == pytest.approx(TIMEOUT)
    follower.link_lost(B)
    assert deadline_in(follower) == pytest.approx(SHARE * TIMEOUT)
    follower.time += SHARE * TIMEOUT * 1.01
    follower.ask_before_standing()
    assert [message["type"] for _, message in follower.sent] == ["pre_vote"] * 2


def test_another_link_changes_nothing():
    follower = followed()
    follower.link_lost(C)
    assert deadline_in(follower) == pytest.approx(TIMEOUT)
    leader = Bench([0, 1])
    leader.lead()
    leader.link_lost(B)
    assert deadline_in(leader) == pytest.approx(1.0)


def test_a_leader_that_is_heard_again_stays():
    follower = followed()
    follower.link_lost(B)
    follower.append(B, 1, 2, [], commit=2)
    assert deadline_in(follower) == pytest.approx(TIMEOUT)


def test_whoever_lost_the_leader_supports_another_and_lets_it_go_first():
    follower = followed()
    asked = {"type": "pre_vote", "term": 2, "last_log_index": 2, "last_log_term": 1}
    follower.handle(C, asked)
    assert follower.sent.pop()[1]["granted"] is False, "it hears the leader"
    follower.link_lost(B)
    follower.time += SHARE * TIMEOUT * 0.9
    follower.handle(C, asked)
    assert follower.sent.pop()[1]["granted"] is True
    assert deadline_in(follower) == pytest.approx(SHARE * TIMEOUT), "put off, not given up"


def test_who_asks_with_a_shorter_log_is_not_let_past():
    follower = followed()
    follower.link_lost(B)
    follower.time += SHARE * TIMEOUT * 0.9
    follower.handle(C, {"type": "pre_vote", "term": 2, "last_log_index": 1, "last_log_term": 0})
    assert follower.sent.pop()[1]["granted"] is False
    assert deadline_in(follower) == pytest.approx(SHARE * TIMEOUT * 0.1)


def test_a_cut_link_between_two_of_three_deposes_nobody(tmp_path: Path, run: Run):
    async def story() -> tuple[str, int, str, int]:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"before")
        before = (leader.replica_id, leader.term)
        cut = next(name for name in group.ids if name != leader.replica_id)
        group.network.cut(leader.replica_id, cut)
        await CLOCK.sleep(1.0)
        await leader.propose(b"after")
        group.network.heal()
        await group.agree()
        found = (*before, leader.replica_id if leader.is_leader else "", leader.term)
        await group.stop()
        return found

    leader, term, still, term_after = run(story())
    assert (leader, term) == (still, term_after)


def test_when_the_leader_is_gone_another_leads_long_before_a_timeout(tmp_path: Path, run: Run):
    timing = Timing(heartbeat_ms=50, election_min_ms=2_500, election_max_ms=3_000)

    async def story() -> None:
        group = Group(tmp_path, 3)
        await group.start(timing=timing)
        leader = await group.leader()
        await leader.propose(b"before")
        await group.agree()
        network = group.network
        for name in group.ids:
            if name != leader.replica_id:
                network.cut(leader.replica_id, name)
        others = [name for name in group.ids if name != leader.replica_id]
        second = await asyncio.wait_for(group.leader(others), timing.election_min_ms / 1000)
        await second.propose(b"after")
        await group.stop()

    run(story(), timeout=40)
