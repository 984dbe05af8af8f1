"""A Raft log against a list, on a disk that loses power at any operation.

What a log says after a crash is what it said at one moment before it, not earlier than what had been called durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.raft.journal import Journal
from tests.raft.logs import Said, append, open_journal, said
from tests.simulation.disk import Killed, SimulatedDisk

if TYPE_CHECKING:
    import random  # noqa: TID251 - a seeded source, given by hypothesis

SIZES = st.sampled_from([0, 1, 30, 300, 700, 3_000, 9_000])
STEPS = st.one_of(
    st.tuples(st.just("append"), st.lists(SIZES, min_size=1, max_size=6)),
    st.tuples(st.just("truncate"), st.floats(0, 1)),
    st.tuples(st.just("compact"), st.floats(0, 1)),
    st.tuples(st.just("rebase"), st.integers(0, 50)),
    st.tuples(st.just("vote"), st.sampled_from([None, "a", "b"])),
    st.tuples(st.just("commit"), st.just(0)),
    st.tuples(st.sampled_from(["sync", "work", "flush", "restart", "kill", "cut"]), st.just(0)),
    st.tuples(st.sampled_from(["cut at", "kill at"]), st.integers(0, 12)),
)


class Story:
    """One log through its lives. `history[m]`: what it said when its mark was m."""

    def __init__(self, chance: random.Random) -> None:
        self.disk = SimulatedDisk(chance)
        self.term = 1
        self.number = 0
        self._crash_cuts = False
        self.journal: Journal
        self.history: dict[int, Said]
        self._open()

    def _open(self) -> None:
        self.journal = open_journal(self.disk)
        self.term = max(self.term, self.journal.getCurrentTerm())
        self.history = {self.journal.mark: said(self.journal)}

    def step(self, name: str, argument: Any) -> None:
        try:
            getattr(self, "do_" + name.replace(" ", "_"))(argument)
        except Killed:
            self._crash(power=self._crash_cuts)
        self.history[self.journal.mark] = said(self.journal)

    def do_append(self, sizes: list[int]) -> None:
        for size in sizes:
            self.number += 1
            append(self.journal, b"%d " % self.number + b"x" * size, term=self.term)
            self.history[self.journal.mark] = said(self.journal)

    def do_truncate(self, share: float) -> None:
        self.term += 1
        self.journal.deleteEntriesFrom(int(share * len(self.journal)))

    def do_compact(self, share: float) -> None:
        self.journal.deleteEntriesTo(int(share * len(self.journal)))

    def do_rebase(self, beyond: int) -> None:
        self.journal.rebase(self.journal.last_index + 1 + beyond, self.term)

    def do_vote(self, vote: str | None) -> None:
        self.term += 1
        self.journal.setCurrentTerm(self.term, vote)

    def do_commit(self, _: int) -> None:
        self.journal.setRaftCommitIndex(self.journal.last_index)

    def do_sync(self, _: int) -> None:
        self.journal.sync()

    def do_work(self, _: int) -> None:
        self.disk.run_one()

    def do_flush(self, _: int) -> None:
        self.journal.flush()
        assert self.journal.durable_mark == self.journal.mark

    def do_restart(self, _: int) -> None:
        before = said(self.journal)
        self.journal.close()
        self._open()
        assert said(self.journal) == before

    def do_kill(self, _: int) -> None:
        self._crash(power=False)

    def do_cut(self, _: int) -> None:
        self._crash(power=True)

    def do_kill_at(self, operations: int) -> None:
        self._flush_until(operations, power=False)

    def do_cut_at(self, operations: int) -> None:
        self._flush_until(operations, power=True)

    def _flush_until(self, operations: int, *, power: bool) -> None:
        """Crash in the middle of what a flush does, or of what the next start does, or soon after."""
        self._crash_cuts = power
        self.disk.kill_after = operations
        self.journal.flush()
        self._crash(power=power, reopen_operations=self.disk.kill_after)

    def _crash(self, *, power: bool, reopen_operations: int | None = None) -> None:
        durable = self.journal.durable_mark
        last = self.journal.mark
        crash = self.disk.cut_power if power else self.disk.kill
        crash()
        if reopen_operations is not None:
            self.disk.kill_after = reopen_operations
        allowed = [self.history[mark] for mark in range(durable, last + 1) if mark in self.history]
        try:
            self._open()
        except Killed:
            crash()
            self._open()
        self.disk.kill_after = 1 << 62
        assert said(self.journal) in allowed


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.lists(STEPS, max_size=40))
def test_after_any_crash_a_log_says_what_it_said_at_one_moment_and_nothing_durable_is_gone(
    chance: random.Random, steps: list[tuple[str, Any]]
):
    story = Story(chance)
    for name, argument in steps:
        story.step(name, argument)
    story.step("cut", 0)
    expected = said(story.journal)
    story.journal.close()
    assert said(open_journal(story.disk)) == expected
