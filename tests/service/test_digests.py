"""Digests compared across replicas: who is wrong, who only seems to be, and when that is said."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.service.digests import CHAIN, CONTENT, DOUBT_SECONDS, Digests, Judgement, judge
from raftalloc.service.gossip import GOSSIP_BYTES_MAX, Gossip
from raftalloc.service.skips import Skips
from raftalloc.storage.memory import MemoryStore
from tests.service.fakes import Replica, ask, entry_of, node

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from raftalloc.service.digests import Divergence
    from tests.conftest import Run

    Make = Callable[..., Awaitable["Watched"]]
    Told = Callable[[Callable[[Make], Coroutine[Any, Any, None]]], None]

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


class StillClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Watched:
    """A replica with its digests and its gossip."""

    def __init__(self, size: int = 3, content_entries: int = 10) -> None:
        self.replica = Replica(MemoryStore())
        self.clock = StillClock()
        self.size = size
        self.found: list[Divergence] = []
        self._content_entries = content_entries

    async def open(self) -> Watched:
        await self.replica.open()
        self.digests = Digests(
            engine=self.replica.engine,
            clock=self.clock,  # type: ignore[arg-type]  # it is only asked for the time
            group_size=lambda: self.size,
            on_diverged=self.found.append,
            content_entries=self._content_entries,
        )
        skips = Skips(clock=self.clock, stopped_at=0)  # type: ignore[arg-type]  # as above
        self.gossip = Gossip(digests=self.digests, skips=skips, version="1")
        return self

    def apply(self, index: int, agent: str = "a") -> None:
        command = node() if self.replica.engine.index == 0 else ask(agent)
        entry = entry_of(command, at_ms=1_000 + 400 * index)
        self.replica.engine.apply(index, entry)

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.digests.look()


@pytest.fixture
def told(run: Run) -> Told:
    """Run a story, and close what it made."""

    def tell(story: Callable[[Make], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as opened:

                async def make(size: int = 3) -> Watched:
                    member = await Watched(size).open()
                    opened.push_async_callback(member.replica.close)
                    return member

                await story(make)

        run(whole())

    return tell


@pytest.mark.parametrize(
    ("own", "others", "needed", "judgement"),
    [
        (A, {}, 2, Judgement.OPEN),
        (A, {"n2": A}, 2, Judgement.AGREED),
        (A, {"n2": B}, 2, Judgement.DOUBT),
        (A, {"n2": B, "n3": B}, 2, Judgement.DIFFERS),
        (A, {"n2": A, "n3": B}, 2, Judgement.OTHERS_DIFFER),
        (A, {"n2": B, "n3": C}, 2, Judgement.DOUBT),
        (A, {"n2": A}, 3, Judgement.OPEN),
        (A, {"n2": A, "n3": B, "n4": B}, 3, Judgement.DOUBT),
        (A, {"n2": A, "n3": B, "n4": B, "n5": B}, 3, Judgement.DIFFERS),
    ],
)
def test_digests_at_one_index_are_judged_by_their_majority(own, others, needed, judgement):
    assert judge(own, others, needed) is judgement


def test_replicas_that_applied_the_same_have_the_same_checkpoints_and_agree(told: Told):
    async def story(make: Make) -> None:
        one, other = await make(), await make()
        for index in range(1, 31):
            one.apply(index)
        for index in range(1, 31):
            other.apply(index)
            # They need not be at the same index when they speak.
            other.gossip.hear("n1", one.gossip.say())
            one.gossip.hear("n2", other.gossip.say())
        assert {sort for _, sort, _ in one.digests.newest()} == {CHAIN, CONTENT}
        assert one.digests.newest() == other.digests.newest()
        assert one.digests.agreed_index == other.digests.agreed_index >= 29
        assert one.found == other.found == []
        assert one.gossip.peers["n2"].version == "1"

    told(story)


def test_who_decided_otherwise_than_two_others_is_told_so_at_once_and_they_go_on(told: Told):
    async def story(make: Make) -> None:
        group = [await make() for _ in range(3)]
        for index in range(1, 20):
            for number, member in enumerate(group):
                member.apply(index, agent="x" if number == 2 and index == 9 else "a")
        said = [member.gossip.say() for member in group]
        for here, member in enumerate(group):
            for there, data in enumerate(said):
                if here != there:
                    member.gossip.hear(f"n{there}", data)
        assert [len(member.found) for member in group] == [0, 0, 1]
        divergence = group[2].found[0]
        assert divergence.by_majority
        assert divergence.index >= 9
        assert set(divergence.others) == {"n0", "n1"}
        assert set(group[0].digests.differing) == set(group[1].digests.differing) == {"n2"}

    told(story)


def test_a_bit_that_no_decision_has_met_shows_in_the_content(told: Told):
    async def story(make: Make) -> None:
        group = [await make() for _ in range(3)]
        for index in range(1, 30):
            for member in group:
                member.apply(index)
            if index == 15:
                group[1].replica.engine.state.leases.set(0, "granted_ms", 7)
        for name, peer in (("n0", group[0]), ("n2", group[2])):
            group[1].gossip.hear(name, peer.gossip.say())
        assert [found.sort for found in group[1].found] == ["content"]
        assert group[1].found[0].index == 20, "the next checkpoint of the content"

    told(story)


def test_two_that_differ_wait_for_a_third_and_then_both_stop(told: Told):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 10):
            one.apply(index)
        index, sort, _ = one.digests.newest()[-1]
        one.digests.hear("n2", index, sort, B)
        one.wait(DOUBT_SECONDS - 1)
        assert one.found == []
        one.wait(2)
        assert len(one.found) == 1
        assert not one.found[0].by_majority
        assert "no majority" in str(one.found[0])

    told(story)


def test_a_third_that_speaks_in_time_ends_the_doubt(told: Told):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 10):
            one.apply(index)
        index, sort, own = one.digests.newest()[-1]
        one.digests.hear("n2", index, sort, B)
        one.wait(1)
        one.digests.hear("n3", index, sort, own)
        one.wait(DOUBT_SECONDS * 2)
        assert one.found == []
        assert one.digests.differing == {"n2": (index, sort)}

    told(story)


def test_one_that_is_known_to_differ_raises_no_doubt_when_the_third_is_away(told: Told):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 30):
            one.apply(index)
        chain = next(each for each in one.digests.newest() if each[1] == CHAIN)
        content = next(each for each in one.digests.newest() if each[1] == CONTENT)
        one.digests.hear("n2", content[0], CONTENT, B)
        one.digests.hear("n2", chain[0], CHAIN, B)
        one.digests.hear("n3", *chain)
        assert set(one.digests.differing) == {"n2"}
        one.wait(DOUBT_SECONDS * 2)
        assert one.found == []

    told(story)


def test_of_five_with_two_silent_ones_the_odd_one_of_three_stops(told: Told):
    async def story(make: Make) -> None:
        odd, well = await make(size=5), await make(size=5)
        for member in (odd, well):
            for index in range(1, 10):
                member.apply(index)
        index, sort, own = odd.digests.newest()[-1]
        for name in ("n2", "n3"):
            odd.digests.hear(name, index, sort, B)
        well.digests.hear("n2", index, sort, own)
        well.digests.hear("n3", index, sort, C)
        odd.wait(DOUBT_SECONDS + 1)
        well.wait(DOUBT_SECONDS + 1)
        assert len(odd.found) == 1
        assert well.found == []

    told(story)


def test_a_replica_that_was_made_anew_is_taken_back(told: Told):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 10):
            one.apply(index)
        index, sort, own = one.digests.newest()[-1]
        one.digests.hear("n2", index, sort, own)
        one.digests.hear("n3", index, sort, B)
        assert set(one.digests.differing) == {"n3"}
        for later in range(10, 20):
            one.apply(later)
        index, sort, own = next(each for each in one.digests.newest()[::-1] if each[1] == sort)
        one.digests.hear("n2", index, sort, own)
        one.digests.hear("n3", index, sort, own)
        assert one.digests.differing == {}

    told(story)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        bytes(GOSSIP_BYTES_MAX + 1),
        b"\x83\xa1v\xa11\xa1r\x01\xa1d\x91\x93\x01\x09\xc4\x01a",
        b"\x83\xa1v\xa11\xa1r\xc0\xa1d\x90",
    ],
)
def test_gossip_that_cannot_be_read_is_dropped(told: Told, data: bytes):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 10):
            one.apply(index)
        one.gossip.hear("n2", data)
        assert one.found == []
        assert one.digests.agreed_index == 0

    told(story)


def test_what_is_heard_without_end_is_not_kept_without_end(told: Told):
    async def story(make: Make) -> None:
        one = await make()
        for index in range(1, 5_000):
            one.digests.hear("n2", 10_000 + index, CHAIN, A)
        assert len(one.digests._heard) <= 256

    told(story)
