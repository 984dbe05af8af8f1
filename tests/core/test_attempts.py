"""Attempts that come again, late, out of order, or from somebody else: nothing is granted twice."""

from __future__ import annotations

import pytest

from raftalloc.core import (
    commands,
    dedupe,
    rejections,
    sessions,
)
from raftalloc.core.commands import Asked, Constraint, Origin
from raftalloc.core.records import DONE
from raftalloc.core.rejections import describe
from tests.core.asking import Talk, allocate, code_of, node

ON_N1 = (Constraint("is", commands.IN, ("n1",)),)
N1 = (("is", "n1"),)


@pytest.fixture
def talk():
    return Talk()


def attempt(session: int, sequence: int, command=None) -> Asked:
    return Asked(command or commands.Tick(), Origin("local", session, sequence))


def test_the_window_of_a_session_forgets_the_oldest_and_grants_nothing_twice(talk):
    talk.rig.judged = False
    talk.ask(1000, node("n1", cpu=8000), commands.OpenSession())
    first = talk.ask(1001, attempt(1, 1, allocate("a", cpu=1000)))
    talk.ask(1002, *[attempt(1, sequence) for sequence in range(2, sessions.WINDOW + 1)])
    again = talk.ask(1003, attempt(1, 1, allocate("a", cpu=1000)))
    assert (again.replayed, again.subject, again.token) == (True, first.subject, first.token)
    talk.ask(1004, attempt(1, sessions.WINDOW + 1))
    talk.rig.restore()
    late = talk.ask(1005, attempt(1, 1, allocate("a", cpu=1000)))
    assert code_of(late) == rejections.KEY_EXPIRED
    assert talk.ask(1006, attempt(1, 2)).replayed
    assert talk.state.live_count() == 1


def test_a_sequence_far_ahead_expires_what_is_a_window_behind(talk):
    talk.ask(1000, commands.OpenSession())
    talk.ask(1001, attempt(1, 10_000))
    assert code_of(talk.ask(1002, attempt(1, 10_000 - sessions.WINDOW))) == rejections.KEY_EXPIRED
    assert talk.ask(1003, attempt(1, 10_001 - sessions.WINDOW)).status == DONE


def test_sequences_may_come_in_any_order(talk):
    talk.ask(1000, node("n1", cpu=8000), commands.OpenSession())
    talk.ask(1001, *[attempt(1, sequence, allocate("a", cpu=500)) for sequence in (5, 3, 4, 1)])
    talk.ask(1002, *[attempt(1, sequence, allocate("a", cpu=500)) for sequence in (1, 3, 5, 4, 2)])
    assert [o.replayed for o in talk.applied.outcomes] == [True, True, True, True, False]
    assert talk.state.live_count() == 5


def test_a_session_is_kept_while_it_is_used_and_goes_when_it_is_not(talk):
    talk.ask(1000, commands.OpenSession(), commands.OpenSession())
    talk.ask(500_000, attempt(1, 1))
    talk.ask(650_000, commands.Tick())
    assert code_of(talk.ask(650_001, attempt(2, 1))) == rejections.KEY_EXPIRED
    assert talk.ask(650_002, attempt(1, 1)).replayed
    assert (
        code_of(talk.ask(650_003, Asked(commands.Tick(), Origin("other", 1, 2)))) == "KEY_EXPIRED"
    )


def test_a_key_leaves_a_tombstone_for_a_day(talk):
    key = Origin(key="k")
    talk.ask(1000, node("n1", cpu=8000))
    first = talk.ask(1001, allocate("a", cpu=1000), origin=key)
    assert talk.ask(600_000, allocate("a", cpu=1000), origin=key).subject == first.subject
    late = talk.ask(640_000, allocate("a", cpu=1000), origin=key)
    assert code_of(late) == rejections.KEY_EXPIRED
    talk.rig.restore()
    assert code_of(talk.ask(86_400_000, allocate("a", cpu=1000), origin=key)) == "KEY_EXPIRED"
    assert talk.state.live_count() == 1


def test_anothers_key_tells_nothing_of_the_other(talk):
    talk.ask(1000, node("n1", cpu=8000))
    talk.ask(1001, allocate("a", cpu=1000), origin=Origin("alice", key="k"))
    told = talk.ask(1002, allocate("a", cpu=1000), origin=Origin("bob", key="k"))
    assert code_of(told) == rejections.KEY_REUSED
    assert (told.subject, told.token) == (0, 0)


def test_keys_run_out_rather_than_being_forgotten(talk, monkeypatch):
    monkeypatch.setattr(dedupe, "KEYS_MAX", 2)
    talk.ask(1000, commands.Tick(), origin=Origin(key="a"))
    talk.ask(1000, commands.Tick(), origin=Origin(key="b"))
    refused = talk.ask(1001, commands.Tick(), origin=Origin(key="c"))
    assert code_of(refused) == rejections.KEYS_EXHAUSTED
    assert describe(refused.rejection) == "too many idempotency keys are in use (2)"
    assert talk.ask(1002, commands.Tick(), origin=Origin(key="a")).replayed


def test_a_refusal_is_remembered_as_well(talk):
    talk.ask(1000, node("n1", cpu=1000), commands.OpenSession(), allocate("x", cpu=1000))
    refused = talk.ask(1001, attempt(1, 1, allocate("a", cpu=1000)))
    talk.ask(1002, commands.Release(2, 1, "x"))
    again = talk.ask(1003, attempt(1, 1, allocate("a", cpu=1000)))
    assert again.replayed
    assert again.rejection == refused.rejection
    assert code_of(talk.ask(1004, attempt(1, 1, allocate("a", cpu=500)))) == rejections.KEY_REUSED
