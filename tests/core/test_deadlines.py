"""What is due first, among much that is stale."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftalloc.core import deadlines
from raftalloc.core.deadlines import Deadlines

subjects = st.integers(1, 5)


@given(st.lists(st.tuples(subjects, st.integers(0, 20)), max_size=60))
def test_the_first_is_the_earliest_of_what_is_due_now(changes):
    """Every change of a deadline is pushed; only the last of each subject counts."""
    current: dict[int | str, int] = {}
    heap = Deadlines(lambda _, subject: current.get(subject, 0))
    for subject, at_ms in changes:
        current[subject] = at_ms
        heap.push(at_ms, deadlines.WAIT, subject)
        due = sorted((t, deadlines.WAIT, s) for s, t in current.items() if t)
        assert heap.first() == (due[0] if due else None)


def test_at_one_moment_what_ends_goes_before_what_begins():
    heap = Deadlines(lambda _sort, _subject: 7)
    for sort in (
        deadlines.WAIT,
        deadlines.RESERVATION_START,
        deadlines.DRAIN,
        deadlines.RESERVATION_END,
        deadlines.ALLOCATION,
    ):
        heap.push(7, sort, "n1" if sort == deadlines.DRAIN else 1)
    assert heap.first() == (7, deadlines.ALLOCATION, 1)
    heap.clear()
    assert heap.first() is None
