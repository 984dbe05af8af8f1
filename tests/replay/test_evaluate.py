"""A log decided again: the same settings give the same bytes, others what would have been, with nothing made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.core import codec, machine
from raftalloc.core.commands import (
    BEST_FIT,
    CRITICAL,
    FIFO,
    FIRST_FIT,
    GREEDY,
    LOW,
    LOWER_PRIORITY,
    PRIORITY,
    WORST_FIT,
    Allocate,
    Asked,
    Cancel,
    Command,
    Entry,
    OpenSession,
    Origin,
    RegisterNode,
    Release,
    Renew,
    SetQueue,
)
from raftalloc.core.events import EntrySkipped, Happened
from raftalloc.core.invariants import check
from raftalloc.core.records import GRANTED
from raftalloc.core.state import State
from raftalloc.core.terms import Terms
from raftalloc.errors import InvalidRequest
from raftalloc.replay.evaluate import evaluate
from raftalloc.replay.evaluation import Change, OtherRun
from raftalloc.replay.following import Following
from raftalloc.replay.history import DirectoryHistory, GroupHistory, Start
from tests.server.asking import allocate_request, ask, opened, register
from tests.service.past import walked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.conftest import Run

START_MS = 1_000_000
HOUR_MS = 3_600_000


class Lived:
    """A log in memory, lived entry by entry. A History too."""

    def __init__(self) -> None:
        self.state = State.genesis()
        self.chain = codec.CHAIN_START
        self.log: list[codec.Block] = []

    def enter(self, entry: bytes) -> machine.Applied:
        decoded = codec.decode_entry(entry)
        applied = machine.apply(self.state, decoded, self.state.index + 1)
        events = codec.encode_events(applied.happened)
        index = self.state.index
        self.chain = codec.next_chain(self.chain, index, entry, events)
        self.log.append(codec.Block(index, decoded.at_ms, entry, events, self.chain))
        return applied

    def ask(self, at_s: float, *commands: Command, origin: Origin = Origin()) -> machine.Applied:
        asked = tuple(Asked(command, origin) for command in commands)
        at_ms = START_MS + round(at_s * 1000)
        return self.enter(codec.encode_entry(Entry(at_ms, "r1", asked)))

    async def start(self, index: int, time_ms: int) -> Start:
        state, chain = State.genesis(), codec.CHAIN_START
        for block in self.log:
            if (index and block.index <= index) or (time_ms and block.at_ms <= time_ms):
                events = codec.decode_events(block.events)
                machine.fold(state, events, index=block.index, at_ms=block.at_ms)
                chain = block.chain
        return Start(state, chain)

    async def blocks(self, after_index: int) -> AsyncIterator[codec.Block]:
        for block in self.log:
            if block.index > after_index:
                yield block

    async def close(self) -> None:
        return None


def fleet(*cpus: int) -> list[Command]:
    return [
        RegisterNode(f"n{number}", False, (("cpu", cpu * 1000),), static=True)
        for number, cpu in enumerate(cpus, 1)
    ]


def request(agent: str = "a", cpu: int = 4, **fields: Any) -> Allocate:
    good = {"workflow_id": "", "priority": 2, "demand": (("cpu", cpu * 1000),), "wait_ms": HOUR_MS}
    return Allocate(agent_id=agent, agent_type=agent, **{**good, **fields})


def of_walk(seed: int) -> Lived:
    lived = Lived()
    for entry in walked(seed):
        lived.enter(entry)
    return lived


def release_of(applied: machine.Applied, row: int = 0) -> Release:
    outcome = applied.outcomes[row]
    assert outcome.status == GRANTED
    return Release(outcome.subject, outcome.token, "a")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_settings_give_the_same_log_to_the_last_byte(run: Run, seed: int):
    lived = of_walk(seed)
    report = run(evaluate(lived, Change()))
    assert report["same"]
    assert report["diverged_at"] == 0
    assert report["chain"] == lived.chain.hex()
    assert report["lived"] == report["other"]


def test_the_settings_named_as_they_were_give_the_same_log_too(run: Run):
    lived = Lived()
    lived.ask(0, SetQueue(initial=True, order=PRIORITY, ageing_ms=0))
    lived.ask(1, *fleet(8, 4))
    for number in range(9):
        applied = lived.ask(2 + number, request(cpu=3, duration_ms=4_000))
        if applied.outcomes[0].status == GRANTED and number % 2:
            lived.ask(2.5 + number, release_of(applied))
    report = run(evaluate(lived, Change(BEST_FIT, SetQueue(order=PRIORITY, ageing_ms=0))))
    assert report["same"]
    assert not run(evaluate(lived, Change(policy=FIRST_FIT)))["same"]


def test_an_entry_that_was_skipped_is_passed_over_again(run: Run):
    lived = of_walk(1)
    happened = (Happened(EntrySkipped("00" * 16), -1),)
    index, at_ms = lived.state.index + 1, lived.state.now_ms
    machine.fold(lived.state, happened, index=index, at_ms=at_ms)
    events = codec.encode_events(happened)
    lived.chain = codec.next_chain(lived.chain, index, b"cannot be read", events)
    lived.log.append(codec.Block(index, at_ms, b"cannot be read", events, lived.chain))
    lived.ask((at_ms - START_MS) / 1000 + 1, request())
    report = run(evaluate(lived, Change()))
    assert report["same"]
    assert report["chain"] == lived.chain.hex()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_it_may_begin_anywhere(run: Run, share: float):
    lived = of_walk(2)
    index = int(len(lived.log) * share)
    report = run(evaluate(lived, Change(), index=index))
    assert report["same"]
    assert report["from_index"] == index + 1
    with pytest.raises(InvalidRequest):
        run(evaluate(lived, Change(), index=len(lived.log)))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "change",
    [
        Change(policy=WORST_FIT),
        Change(queue=SetQueue(order=FIFO, backfill=GREEDY)),
        Change(FIRST_FIT, SetQueue(order=PRIORITY, ageing_ms=0, preemption=LOWER_PRIORITY)),
    ],
)
def test_whatever_was_asked_the_other_run_keeps_every_law(run: Run, seed: int, change: Change):
    lived = of_walk(seed)
    following = Following()
    for block in lived.log:
        following.take(block)
    other = OtherRun(State.genesis(), codec.CHAIN_START, change, following)
    for block in lived.log:
        other.take(block, codec.decode_events(block.events))
        assert check(other.state) == []
    other.finish(lived.state.now_ms)
    assert other.state.now_ms <= lived.state.now_ms
    assert run(evaluate(lived, change))["lived"] == run(evaluate(lived, Change()))["lived"]


def scene(order: int) -> Lived:
    """One slot. It is held for 10 s by whoever has it; a low request comes before a critical one."""
    lived = Lived()
    lived.ask(0, SetQueue(initial=True, order=order, ageing_ms=0))
    lived.ask(0, *fleet(4))
    held = lived.ask(1, request())
    lived.ask(2, request(priority=LOW))
    lived.ask(3, request(priority=CRITICAL))
    second = lived.ask(11, release_of(held))
    grants = [item.event for item in second.happened if type(item.event).__name__ == "Granted"]
    third = lived.ask(21, Release(grants[0].allocation_id, grants[0].token, "a"))  # type: ignore[union-attr]  # a grant
    grants = [item.event for item in third.happened if type(item.event).__name__ == "Granted"]
    lived.ask(31, Release(grants[0].allocation_id, grants[0].token, "a"))  # type: ignore[union-attr]  # a grant
    lived.ask(40, *fleet(4))
    return lived


def test_another_order_moves_waits_and_what_follows_moves_with_the_grants(run: Run):
    """By arrival LOW waits 9 s and CRITICAL 18 s; by priority CRITICAL 8 s and LOW 19 s. All hold it for 10 s."""
    by_arrival, by_priority = scene(FIFO), scene(PRIORITY)
    expected = {FIFO: {"LOW": 9.0, "CRITICAL": 18.0}, PRIORITY: {"LOW": 19.0, "CRITICAL": 8.0}}
    for lived, was, other in ((by_arrival, FIFO, PRIORITY), (by_priority, PRIORITY, FIFO)):
        report: dict[str, Any] = run(evaluate(lived, Change(queue=SetQueue(order=other))))
        for side, order in (("lived", was), ("other", other)):
            waits = {name: each["mean"] for name, each in report[side]["waits_s"].items()}
            assert waits == {**expected[order], "MEDIUM": 0.0}, (side, order)
            assert report[side]["granted"] == 3
            assert report[side]["ended"] == {"RELEASED": 3}
            assert report[side]["refused"] == {}
        lived_use = report["lived"]["utilisation"]["cpu"]
        assert (
            lived_use == report["other"]["utilisation"]["cpu"] == pytest.approx(30 / 40, abs=1e-6)
        )
        assert report["arrivals"] == 3


def test_a_holder_that_starts_earlier_gives_back_earlier_and_renews_in_time(run: Run):
    """worst_fit leaves no node whole for the large one; best_fit does, and it runs its 10 s at once."""
    lived = Lived()
    lived.ask(0, *fleet(8, 8))
    lived.ask(1, request("s", 2, policy=WORST_FIT, duration_ms=20_000))
    lived.ask(1, request("s", 2, policy=WORST_FIT, duration_ms=20_000))
    lived.ask(2, request("l", 8, policy=WORST_FIT, lease_ttl_ms=6_000))
    lived.ask(21, *fleet(8, 8))
    (grant,) = [live for live in range(1, 9) if lived.state.leases.row(live) >= 0]
    token = lived.state.token
    for at_s in (25, 30):
        lived.ask(at_s, Renew(grant, token, "l"))
    lived.ask(31, Release(grant, token, "l"))
    lived.ask(60, *fleet(8, 8))
    report: dict[str, Any] = run(evaluate(lived, Change(policy=BEST_FIT)))
    assert report["lived"]["waits_s"]["MEDIUM"]["p99"] == 19.0
    assert report["other"]["waits_s"]["MEDIUM"]["p99"] == 0.0
    for side in ("lived", "other"):
        assert report[side]["ended"] == {"DURATION_ENDED": 2, "RELEASED": 1}
        assert report[side]["utilisation"]["cpu"] == pytest.approx(
            (2 * 2 * 20 + 8 * 10) / (16 * 60), abs=1e-6
        )


def test_a_retry_is_no_second_request_and_what_was_refused_is_not_done(run: Run):
    lived = Lived()
    lived.ask(0, *fleet(4, 4))
    session = lived.ask(1, OpenSession()).outcomes[0].subject
    origin = Origin("local", session, 1)
    first = lived.ask(2, request(), origin=origin)
    lived.ask(3, request(), origin=origin)  # the answer was lost
    wrong = first.outcomes[0]
    lived.ask(4, Release(wrong.subject, wrong.token + 9, "a"))  # refused
    lived.ask(5, Release(wrong.subject, wrong.token, "a"))
    lived.ask(6, Release(wrong.subject, wrong.token, "a"))  # refused: it has ended
    lived.ask(9, *fleet(4, 4))
    report: dict[str, Any] = run(evaluate(lived, Change(policy=WORST_FIT)))
    assert report["arrivals"] == 1
    assert report["other"]["granted"] == report["lived"]["granted"] == 1
    assert report["other"]["ended"] == {"RELEASED": 1}


def test_requests_are_cancelled_by_what_they_were_and_not_by_their_number(run: Run):
    """The other run refuses nothing that the log granted, so its ids are others; the cancelled one is the same."""
    lived = Lived()
    lived.ask(0, *fleet(4))
    lived.ask(1, request("x", 3, policy=FIRST_FIT))
    waits = lived.ask(2, request("gone", 4, policy=FIRST_FIT)).outcomes[0]
    lived.ask(3, request("stays", 4, policy=FIRST_FIT))
    lived.ask(4, Cancel(waits.subject, "gone"))
    report: dict[str, Any] = run(evaluate(lived, Change(policy=WORST_FIT)))
    assert report["diverged_at"] == 2
    assert report["other"]["withdrawn"] == report["lived"]["withdrawn"] == {"CANCELLED": 1}
    assert report["other"]["waiting"] == 1


def test_a_policy_stands_in_for_the_scorers_that_a_request_brought(run: Run):
    lived = Lived()
    lived.ask(0, *fleet(8, 4))
    lived.ask(1, request("a", 2, terms=Terms(scorers=(("worst_fit", 1),))))
    lived.ask(2, request("b", 2))
    lived.ask(9, *fleet(8, 4))
    other = OtherRun(State.genesis(), codec.CHAIN_START, Change(BEST_FIT), Following())
    for block in lived.log:
        other.take(block, codec.decode_events(block.events))
    assert lived.state.fleet.allocations == [1, 1]
    assert other.state.fleet.allocations == [0, 2]


def agents_of(report: dict[str, Any], side: str) -> Sequence[str]:
    return list(report[side]["fairness"]["dominant_share"])


def test_a_directory_and_the_group_that_lived_in_it_give_the_same_report(run: Run, tmp_path: Path):
    async def lived() -> tuple[dict[str, Any], dict[str, Any], int]:
        from raftalloc.client.client import Client

        async with opened(tmp_path) as transport:
            await register(transport, cpu=4_000)
            for number in range(6):
                await ask(
                    transport,
                    "Allocator/Allocate",
                    allocate_request(
                        agent_id=f"a{number}", resources={"cpu": 1_500}, wait_ms=HOUR_MS
                    ),
                )
            client = Client(transport=transport)
            whole = await evaluate(GroupHistory(client), Change(queue=SetQueue(order=FIFO)))
            part = await evaluate(GroupHistory(client), Change(), index=6)
            return whole, part, 6

    async def left(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        history = DirectoryHistory(str(tmp_path / "data"))
        try:
            return (
                await evaluate(history, Change(queue=SetQueue(order=FIFO))),
                await evaluate(history, Change(), index=index),
            )
        finally:
            await history.close()

    whole, part, index = run(lived())
    again, again_part = run(left(index))
    assert part["same"]
    assert again_part["same"]
    assert again_part["from_index"] == part["from_index"] == index + 1
    assert again["arrivals"] == whole["arrivals"] == 6
    assert again["lived"]["granted"] == whole["lived"]["granted"] == 2
    assert agents_of(again, "other") == agents_of(whole, "other")


def test_a_directory_without_events_is_refused(tmp_path: Path):
    with pytest.raises(InvalidRequest):
        DirectoryHistory(str(tmp_path))
