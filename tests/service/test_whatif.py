"""A fork goes its own way: it answers what the log would have, and the state it was taken from knows nothing of it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.core import machine
from raftalloc.core.codec import content_digest, decode_entry
from raftalloc.core.commands import Asked, Entry, MarkLost, Tick
from raftalloc.core.events import Granted
from raftalloc.core.invariants import check
from raftalloc.core.state import State
from raftalloc.service import whatif
from raftalloc.service.whatif import PROPOSER, Fork, TooMuch
from tests.service.fakes import ask, node
from tests.service.past import walked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.commands import Command
    from raftalloc.core.events import Happened

START_MS = 1_000_000


def state_after(entries: Sequence[bytes]) -> State:
    state = State.genesis()
    for index, entry in enumerate(entries, 1):
        machine.apply(state, decode_entry(entry), index)
    return state


def started(*commands: Command, at_ms: int = START_MS) -> State:
    """A state after one entry of these."""
    state = State.genesis()
    asked = tuple(Asked(command) for command in commands)
    machine.apply(state, Entry(at_ms, "r1", asked), 1)
    return state


@functools.cache
def log(seed: int) -> tuple[bytes, ...]:
    return tuple(walked(seed))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(1, 4), share=st.integers(0, 100), now_ms=st.sampled_from((0, 1, 5_000)))
def test_a_fork_answers_what_happens_when_the_same_is_then_done(seed: int, share: int, now_ms: int):
    entries = log(seed)
    forked_at = len(entries) * share // 101
    live = state_after(entries[:forked_at])
    fork = Fork(live, now_ms=live.now_ms + now_ms)
    for data in entries[forked_at:]:
        entry = decode_entry(data)
        fork.now_ms = max(fork.now_ms, entry.at_ms)
        for asked in entry.asked:
            tried = fork.ask(asked)
            done = machine.apply(live, Entry(fork.now_ms, PROPOSER, (asked,)), live.index + 1)
            assert tried.outcome == done.outcomes[0]
            assert tuple(item for _, _, item in tried.happened) == done.happened
    assert content_digest(fork.state) == content_digest(live)
    assert check(fork.state) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_state_it_was_taken_from_is_as_it_was(seed: int):
    entries = log(seed)
    state = state_after(entries)
    digest = content_digest(state)
    for command in decode_entry(entries[-1]).asked:
        fork = Fork(state)
        fork.ask(command)
        fork.advance(3_600_000)
    assert content_digest(state) == digest


def test_time_that_passes_lets_everything_happen_at_its_own_time():
    state = started(node(cpu=3), ask("a", duration_ms=10_000), ask("b", duration_ms=4_000))
    fork = Fork(state, now_ms=START_MS + 1_000)
    queued = fork.ask(Asked(ask("c", cpu=3, wait_ms=60_000, duration_ms=1_000)))
    taken = fork.advance(20_000)
    told = [(type(item.event).__name__, at_ms - START_MS) for _, at_ms, item in taken.happened]
    assert queued.outcome is not None
    assert told == [
        ("Ended", 4_000),
        ("Ended", 10_000),
        ("Granted", 10_000),
        ("Ended", 11_000),
    ]
    assert fork.now_ms == START_MS + 21_000
    assert fork.state.now_ms == START_MS + 21_000


def test_a_leader_that_ticks_comes_to_the_same():
    """What the ticker of a replica does: an entry with a Tick whenever something is due."""
    state = state_after(log(4))
    fork, live = Fork(state), Fork(state).state
    taken = fork.advance(7_200_000)
    happened: list[Happened] = []
    while (due := machine.next_due_ms(live)) and due <= fork.now_ms:
        at_ms = max(due, live.now_ms)
        happened += machine.apply(
            live, Entry(at_ms, "r1", (Asked(Tick()),)), live.index + 1
        ).happened
    assert [item for _, _, item in taken.happened] == happened


def test_the_clock_of_a_fork_of_now_is_that_of_the_group_and_never_behind_the_state():
    state = started(node())
    assert Fork(state).now_ms == START_MS
    assert Fork(state, now_ms=START_MS - 5).now_ms == START_MS
    assert Fork(state, now_ms=START_MS + 5).now_ms == START_MS + 5


def test_a_lost_node_is_one_step():
    state = started(node("n1"), node("n2"))
    fork = Fork(state)
    fork.ask(Asked(MarkLost("n1")))
    granted = fork.ask(Asked(ask("a")))
    events = [item.event for _, _, item in granted.happened]
    assert [event.node_id for event in events if isinstance(event, Granted)] == ["n2"]


def test_so_much_may_happen_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(whatif, "ENTRIES_MAX", 20)
    commands = [ask(f"a{n}", duration_ms=1_000 * (n + 1)) for n in range(40)]
    state = started(node(), *commands)
    fork = Fork(state)
    fork.advance(15_000)
    with pytest.raises(TooMuch):
        fork.advance(60_000)
    monkeypatch.setattr(whatif, "EVENTS_MAX", 100)
    fork = Fork(started(node(cpu=1000)))
    fork.ask(Asked(ask("a", count=400)))
    with pytest.raises(TooMuch):
        fork.ask(Asked(ask("a")))
