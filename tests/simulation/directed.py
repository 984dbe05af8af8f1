"""Schedules kept for what chance meets too rarely: a few messages, in the order that does the harm.

Each schedule asserts what must hold, so that it
fails where the correction it is kept for has been taken away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.errors import DataDirectoryError, NoLeader
from raftalloc.raft.quorum import CANDIDATE, FOLLOWER, LEADER
from tests.simulation.bench import B, Bench, C, D, Peer
from tests.simulation.directed_members import ABOUT_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Callable


def commit_only_what_is_verified() -> None:
    """S1: behind what the message brought are entries of a leader that lost its place."""
    follower = Bench([0, 1, 1, 1, 1])
    follower.append(B, 2, 1, [1], commit=4)
    assert follower._SyncObj__raftCommitIndex == 2, "the rest was not compared yet"


def a_snapshot_on_its_way_commits_nothing() -> None:
    """S1: a part of the leader's snapshot says nothing about the entries that we have."""
    follower = Bench([0, 1, 1, 1])
    follower.handle(
        B, {"type": "append_entries", "term": 2, "commit_index": 4, "serialized": ("part", 0, 9)}
    )
    assert follower._SyncObj__raftCommitIndex == 1, "another leader's entries were committed"


def cut_only_at_a_conflict() -> None:
    """S2: a message that comes late, or twice, takes nothing away."""
    follower = Bench([0])
    follower.append(B, 1, 1, [1, 1, 1], commit=1)
    follower.append(B, 1, 1, [1], commit=1)
    assert follower.terms == [0, 1, 1, 1], "two more had been confirmed"


def cut_at_a_conflict() -> None:
    """S2: what another leader left is replaced."""
    follower = Bench([0, 1, 1])
    follower.append(B, 2, 1, [2], commit=1)
    assert follower.terms == [0, 2]


def never_cut_what_is_committed() -> None:
    """S2: rather stop."""
    follower = Bench([0, 1, 1])
    follower._SyncObj__raftCommitIndex = 3
    try:
        follower.append(B, 2, 1, [2, 2], commit=1)
    except DataDirectoryError:
        return
    raise AssertionError("a committed entry was replaced")


def answers_of_another_term_do_not_count() -> None:
    """S3: it speaks of a log that may have been cut since."""
    leader = Bench([0, 1, 3], term=3)
    leader.lead()
    leader.answer(B, 1, 4, success=True)
    assert leader._SyncObj__raftMatchIndex[B] == 0


def answers_take_nothing_back() -> None:
    """S3: an older answer of the same term is overtaken by a newer one."""
    leader = Bench([0, 1, 1, 1])
    leader.lead()
    leader.answer(B, 1, 5, success=True)
    leader.answer(B, 1, 3, success=True)
    leader.answer(B, 1, 2, success=False)
    assert leader._SyncObj__raftMatchIndex[B] == 4
    assert leader._SyncObj__raftNextIndex[B] == 5


def nobody_goes_back_behind_the_beginning() -> None:
    """Found at seed 1020: an answer to a leader of old, late, sent the leader to look for a snapshot, for ever."""
    follower = Bench([0, 1], term=3)
    follower.append(B, 2, 1, [], commit=1)
    stale = follower.sent.pop()[1]
    leader = Bench([0, 1, 3], term=3)
    leader.lead()
    leader.handle(B, stale)
    assert leader._SyncObj__raftNextIndex[B] >= 3
    leader.answer(B, 3, 0, success=False)
    assert leader._SyncObj__raftNextIndex[B] == 2


def a_higher_term_deposes() -> None:
    """A1: a stale leader hears of it by any answer."""
    leader = Bench([0, 1])
    leader.lead()
    leader.answer(B, 5, 1, success=False)
    assert leader._SyncObj__raftState == FOLLOWER
    assert leader._SyncObj__raftCurrentTerm == 5


def votes_are_collected_by_voter() -> None:
    """S12: one voter is one vote, however often it says so."""
    candidate = Bench([0], others=(B, C, D, Peer("e")), term=2)
    candidate.stand()
    for _ in range(3):
        candidate.handle(B, {"type": "response_vote", "term": 2})
    assert candidate._SyncObj__raftState == CANDIDATE
    candidate.handle(C, {"type": "response_vote", "term": 2})
    assert candidate._SyncObj__raftState == LEADER


def one_vote_a_term() -> None:
    """Raft 5.2; and who has the vote is told again."""
    voter = Bench([0])
    for candidate in (B, C, B):
        voter.handle(
            candidate,
            {"type": "request_vote", "term": 1, "last_log_index": 1, "last_log_term": 0},
        )
    assert [node for node, _ in voter.sent] == [B, B]


def whoever_hears_a_leader_supports_nobody() -> None:
    """A2: a replica that comes back does not depose the leader."""
    follower = Bench([0, 1])
    follower.append(B, 1, 2, [], commit=2)
    follower.sent.clear()
    asked = {"type": "pre_vote", "term": 2, "last_log_index": 2, "last_log_term": 1}
    follower.handle(C, asked)
    assert follower.sent.pop()[1]["granted"] is False
    follower.time += 1.0
    follower.handle(C, asked)
    assert follower.sent.pop()[1]["granted"] is True
    assert follower._SyncObj__raftCurrentTerm == 1, "being asked changes nothing"


def nobody_stands_unasked() -> None:
    """A2: the term rises only once a majority would vote."""
    replica = Bench([0, 1])
    replica.time += 2.0
    replica.ask_before_standing()
    assert {message["type"] for _, message in replica.sent} == {"pre_vote"}
    assert replica._SyncObj__raftElectionDeadline > replica.time, "not yet"
    granted = {"type": "pre_vote_answer", "term": 2, "granted": True, "current": 1}
    replica.handle(B, granted)
    assert replica._SyncObj__raftElectionDeadline < replica.time, "two of three are for it"


def a_conflicting_term_is_stepped_over_at_once() -> None:
    """A3: one answer for each term that differs, not for each entry."""
    follower = Bench([0, 1, 1, *[2] * 50])
    follower.handle(
        B,
        {
            "type": "append_entries",
            "term": 3,
            "commit_index": 1,
            "entries": [],
            "prevLogIdx": 50,
            "prevLogTerm": 3,
        },
    )
    assert follower.sent.pop()[1]["next_node_idx"] == 4


def a_read_asks_a_majority() -> None:
    """Raft dissertation 6.4: answers to what was sent before the read began prove nothing."""
    leader = Bench([0, 1], others=(B, C, D, Peer("e")), term=1)
    leader.lead()
    leader.begin_round()
    read: list[tuple[int, Exception | None]] = []
    leader.read(lambda index, error: read.append((index, error)))
    leader.answer(B, 1, 3, success=True, number=1)
    leader.answer(C, 1, 3, success=True, number=1)
    leader.send_for_readers()
    assert read == [], "those are answers to the round before"
    leader.answer(B, 1, 3, success=True, number=2)
    assert read == [], "two of five"
    leader.answer(D, 1, 3, success=False, number=2)
    assert read == [(1, None)]


def a_deposed_leader_reads_nothing() -> None:
    """Its readers hear so at once."""
    leader = Bench([0, 1], term=1)
    leader.lead()
    read: list[tuple[int, Exception | None]] = []
    leader.read(lambda index, error: read.append((index, error)))
    leader.send_for_readers()
    leader.answer(B, 2, 1, success=False, number=1)
    leader.serve_readers()
    assert [type(error) for _, error in read] == [NoLeader]


def a_leader_alone_steps_down() -> None:
    """A1: within the longest election nobody answered it."""
    leader = Bench([0, 1], term=1)
    leader.lead()
    leader.answer(B, 1, 3, success=True)
    leader.time += 0.59
    leader._step_down_alone()
    assert leader._SyncObj__raftState == LEADER
    leader.time += 0.02
    leader._step_down_alone()
    assert leader._SyncObj__raftState == FOLLOWER


SCHEDULES: dict[str, Callable[[], None]] = {
    schedule.__name__: schedule
    for schedule in (
        commit_only_what_is_verified,
        a_snapshot_on_its_way_commits_nothing,
        cut_only_at_a_conflict,
        cut_at_a_conflict,
        never_cut_what_is_committed,
        answers_of_another_term_do_not_count,
        answers_take_nothing_back,
        nobody_goes_back_behind_the_beginning,
        a_higher_term_deposes,
        votes_are_collected_by_voter,
        one_vote_a_term,
        whoever_hears_a_leader_supports_nobody,
        nobody_stands_unasked,
        a_conflicting_term_is_stepped_over_at_once,
        a_read_asks_a_majority,
        a_deposed_leader_reads_nothing,
        a_leader_alone_steps_down,
        *ABOUT_MEMBERS,
    )
}


def found() -> str:
    """The first schedule that fails, or nothing."""
    for name, schedule in SCHEDULES.items():
        try:
            schedule()
        except (AssertionError, DataDirectoryError):
            return name
    return ""
