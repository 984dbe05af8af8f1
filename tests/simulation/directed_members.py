"""Schedules about the members of the group; see directed.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raftalloc.errors import Rejected
from raftalloc.raft import membership
from raftalloc.raft.quorum import CANDIDATE, LEADER
from tests.simulation.bench import A, B, Bench, C, D, Peer, seats_of

OLD, NEW = b"o" * 16, b"n" * 16


def the_next_change_waits_for_the_last() -> None:
    """S9: two changes at once may have majorities that do not meet."""
    leader = Bench([0, 1], term=1)
    leader.lead()
    leader._SyncObj__raftCommitIndex = 2
    leader.check_change()
    index = leader.change_seats(membership.added(leader.seats, seats_of("d")[0]), None)
    try:
        leader.check_change()
    except Rejected:
        refused = True
    else:
        refused = False
    assert refused, "the change before is not committed"
    leader._SyncObj__raftCommitIndex = index
    leader.check_change()


def a_learner_has_no_vote() -> None:
    """Raft dissertation 4.2.1."""
    candidate = Bench([0], others=(B, C, D), term=2, learners=("d",))
    candidate.stand()
    candidate.handle(D, {"type": "response_vote", "term": 2})
    assert candidate._SyncObj__raftState == CANDIDATE
    candidate.handle(C, {"type": "response_vote", "term": 2})
    assert candidate._SyncObj__raftState == LEADER


def what_a_learner_has_commits_nothing() -> None:
    """Raft dissertation 4.2.1: both voters must have it."""
    leader = Bench([0, 1, 1], others=(B, C), term=1, learners=("c",))
    leader.lead()
    leader.answer(C, 1, 4, success=True)
    leader._commit()
    assert leader._SyncObj__raftCommitIndex == 1
    leader.answer(B, 1, 4, success=True)
    leader._commit()
    assert leader._SyncObj__raftCommitIndex == 3


def the_lead_goes_to_a_voter_that_has_all() -> None:
    """A learner would stand for nothing, and who lacks an entry would lose."""
    leader = Bench([0, 1, 1], others=(B, C), term=1, learners=("c",))
    leader.lead()
    leader.answer(C, 1, 4, success=True)
    leader.answer(B, 1, 3, success=True)
    leader.sent.clear()
    assert not leader.hand_over()
    leader.answer(B, 1, 4, success=True)
    leader.hand_over()
    assert [(node, message["type"]) for node, message in leader.sent] == [(B, "timeout_now")]


def a_configuration_counts_when_it_is_appended() -> None:
    """Raft 6: of four, three; or the three of before and the four of now could decide apart."""
    leader = Bench([0, 1], others=(B, C, D), term=1, learners=("d",))
    leader.lead()
    leader.change_seats(membership.promoted(leader.seats, "d", b""), None)
    assert leader._voter_count() == 4
    assert not leader._is_majority(2)
    follower = Bench([0, 1], others=(B, C, D), term=1, learners=("d",))
    entry = (leader._SyncObj__raftLog[-1][0], 3, 1)
    follower._take(2, [entry])
    assert follower._voter_count() == 4
    follower._cut_from(3)
    assert follower._voter_count() == 3, "undone with its entry"


def an_emptied_disk_has_no_vote() -> None:
    """Whoever lost its disk has forgotten what it voted and acknowledged."""
    seats = tuple(replace(seat, incarnation=OLD) for seat in seats_of("a", "b", "c"))
    candidate = Bench([0, 1], term=2, seats=seats)
    candidate.stand()
    candidate.handle(B, {"type": "response_vote", "term": 2, "inc": NEW})
    assert candidate._SyncObj__raftState == CANDIDATE
    candidate.handle(B, {"type": "response_vote", "term": 2, "inc": OLD})
    assert candidate._SyncObj__raftState == LEADER


def an_emptied_disk_confirms_nothing_until_it_is_given_the_seat() -> None:
    """And then from nothing: the old one's acknowledgements went with it."""
    seats = tuple(replace(seat, incarnation=OLD) for seat in seats_of("a", "b", "c"))
    leader = Bench([0, 1, 1], term=1, seats=seats)
    leader.lead()
    leader.answer(B, 1, 4, success=True, inc=OLD)
    leader.answer(B, 1, 2, success=True, inc=NEW)
    assert leader._SyncObj__raftMatchIndex[B] == 3, "the seat is the old one's"
    leader._SyncObj__raftCommitIndex = 3
    leader.change_seats(membership.replaced(leader.seats, "b"), None)
    assert leader._SyncObj__raftMatchIndex[B] == 0
    assert not leader._is_voter(B)
    leader.answer(B, 1, 3, success=True, inc=NEW)
    assert leader._SyncObj__raftMatchIndex[B] == 2
    leader.answer(B, 1, 2, success=True, inc=b"x" * 16)
    assert leader._SyncObj__raftMatchIndex[B] == 1, "emptied once more while it learned"


def nobody_votes_before_the_group_has_begun() -> None:
    """It may be an old member without its memory."""
    fresh = Bench([0], term=0, seats=())
    for kind in ("pre_vote", "request_vote"):
        fresh.handle(B, {"type": kind, "term": 1, "last_log_index": 9, "last_log_term": 1})
    assert [message.get("granted") for _, message in fresh.sent] == [False]
    fresh.time += 9
    fresh.ask_before_standing()
    fresh.take_turn()
    assert fresh._SyncObj__raftState not in (CANDIDATE, LEADER)


def greet(replicas: dict[Peer, Bench], *, rounds: int = 6) -> None:
    """They say hello, and hear each other, so often."""
    for _ in range(rounds):
        for bench in replicas.values():
            bench.time += 1.0
            bench.greet()
        for peer, bench in replicas.items():
            while bench.sent:
                to, message = bench.sent.popleft()
                if to in replicas:
                    replicas[to].handle(peer, {**message, "inc": bench.incarnation})


def fresh_ones(*peers: Peer, group: tuple[Peer, ...] = (A, B, C)) -> dict[Peer, Bench]:
    """Replicas with empty disks, whose files name `group`."""
    benches: dict[Peer, Bench] = {}
    for peer in peers:
        others = tuple(other for other in group if other != peer)
        bench = Bench([0], others=others, term=0, seats=(), me=peer)
        bench.own_incarnation = peer.id.encode() * 16
        bench.begin_with(seats_of(*(other.id for other in group)), is_known=False)
        benches[peer] = bench
    return benches


def founded(bench: Bench) -> dict[str, bytes]:
    """Whose seats there are in its group."""
    return {seat.replica_id: seat.incarnation for seat in bench.seats}


def a_group_begins_when_all_are_there_and_empty() -> None:
    """And not with two of three, of which one may have been a member."""
    benches = fresh_ones(A, B)
    greet(benches)
    assert not benches[A].seats
    benches |= fresh_ones(C)
    greet(benches)
    expected = {"a": b"a" * 16, "b": b"b" * 16, "c": b"c" * 16}
    assert [founded(bench) for bench in benches.values()] == [expected] * 3
    assert benches[A]._may_lead()


def an_emptied_disk_begins_no_group() -> None:
    """The others have begun one, or have promised to."""
    benches = fresh_ones(A, B, C)
    greet(benches)
    wiped = fresh_ones(B)
    wiped[B].own_incarnation = NEW
    greet(benches | wiped)
    assert not wiped[B].seats
    assert not wiped[B]._may_lead()
    assert founded(benches[A])["b"] == b"b" * 16


def no_two_groups_begin_where_a_disk_is_lost_half_way() -> None:
    """Each promises once: what B was when A promised, it must still be when C does."""
    benches = fresh_ones(A, B, C)
    for bench in benches.values():
        bench.greet()
    a = benches[A]
    for peer in (B, C):
        hello = next(message for to, message in benches[peer].sent if to == A)
        a.handle(peer, hello)
    assert a._SyncObj__raftLog.promise
    wiped = fresh_ones(B)[B]
    wiped.own_incarnation = NEW
    benches[B] = wiped
    greet(benches)
    assert not any(bench.seats for bench in benches.values()), "nothing was decided: begin anew"


def who_was_down_at_the_end_of_the_beginning_hears_of_it() -> None:
    """It has promised; somebody else has heard everybody."""
    benches = fresh_ones(A, B, C)
    greet(benches, rounds=1)
    while not all(bench._SyncObj__raftLog.promise for bench in benches.values()):
        greet(benches, rounds=1)
    late: Any = benches[C]
    late._configurations.clear()
    late._SyncObj__raftLog.base_members = b""
    greet(benches)
    assert founded(late) == founded(benches[A])


ABOUT_MEMBERS = (
    the_next_change_waits_for_the_last,
    a_learner_has_no_vote,
    what_a_learner_has_commits_nothing,
    the_lead_goes_to_a_voter_that_has_all,
    a_configuration_counts_when_it_is_appended,
    an_emptied_disk_has_no_vote,
    an_emptied_disk_confirms_nothing_until_it_is_given_the_seat,
    nobody_votes_before_the_group_has_begun,
    a_group_begins_when_all_are_there_and_empty,
    an_emptied_disk_begins_no_group,
    no_two_groups_begin_where_a_disk_is_lost_half_way,
    who_was_down_at_the_end_of_the_beginning_hears_of_it,
)
