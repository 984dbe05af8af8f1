"""Which entries are skipped, and when an entry is tried again that stopped this replica before."""

from __future__ import annotations

from raftalloc.service.skips import HOLD_SECONDS, SKIPS_MAX, Skips


class StillClock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return 1000


class Log:
    """A Raft log up to index 10."""

    members = ("n1", "n2", "n3")

    def __init__(self) -> None:
        self.skips: dict[int, str] = {}

    def learn_skip(self, index: int, at_ms: int, reason: str) -> bool:
        if index <= 10:
            self.skips[index] = reason
        return index <= 10


def made(stopped_at: int = 0) -> tuple[Skips, Log, StillClock]:
    clock, log = StillClock(), Log()
    skips = Skips(clock=clock, stopped_at=stopped_at)  # type: ignore[arg-type]  # it asks for no more
    skips.attach(log)
    return skips, log, clock


def test_what_one_of_three_skips_is_not_learnt_and_what_two_skip_is():
    skips, log, _ = made()
    skips.hear("n2", {7: "bug"})
    assert log.skips == {}
    assert skips.skippers(7) == ["n2"]
    skips.hear("n3", {7: "the bug"})
    assert log.skips == {7: "as n2: bug"}
    assert skips.known() == log.skips


def test_what_a_majority_skips_is_learnt_once_the_entry_is_there():
    skips, log, _ = made()
    for name in ("n2", "n3"):
        skips.hear(name, {11: "bug"})
    assert log.skips == {}
    log.learn_skip = lambda index, at_ms, reason: log.skips.update({index: reason}) or True  # type: ignore[method-assign]
    skips.look()
    assert 11 in log.skips


def test_an_entry_that_stopped_this_replica_waits_for_the_others_word_but_not_for_ever():
    skips, _, clock = made(stopped_at=7)
    assert skips.may_apply(6)
    assert not skips.may_apply(7)
    clock.seconds += HOLD_SECONDS - 0.1
    assert not skips.may_apply(7)
    clock.seconds += 0.2
    assert skips.may_apply(7)


def test_it_waits_no_longer_than_until_a_majority_has_spoken():
    skips, _, _ = made(stopped_at=7)
    assert not skips.may_apply(7)
    skips.hear("n2", {7: "bug"})
    assert not skips.may_apply(7)
    skips.hear("n3", {7: "bug"})
    assert skips.may_apply(7)


def test_what_is_heard_is_bounded():
    skips, _, _ = made()
    for index in range(1000, 1000 + 10 * SKIPS_MAX):
        skips.hear("n2", {index: "x"})
    assert len(skips._heard) <= SKIPS_MAX
