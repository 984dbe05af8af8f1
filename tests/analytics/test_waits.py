from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftalloc.analytics.waits import Waits
from raftalloc.core.commands import CRITICAL, LOW


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_a_quantile_is_the_least_wait_that_so_many_did_not_exceed(lengths, percent):
    waits = Waits()
    for length in lengths:
        waits.add(LOW, length)
    wanted = min(
        at for at in lengths if 100 * sum(n <= at for n in lengths) >= percent * len(lengths)
    )
    assert waits.quantile_ms(LOW, percent) == wanted


def test_priorities_do_not_mix_and_come_highest_first():
    waits = Waits()
    waits.add(LOW, 100, 9)
    waits.add(CRITICAL, 1)
    assert waits.priorities() == [CRITICAL, LOW]
    assert (waits.quantile_ms(LOW, 50), waits.quantile_ms(CRITICAL, 99)) == (100, 1)
    assert (waits.count(LOW), waits.count(CRITICAL)) == (9, 1)


def test_a_run_counts_as_often_as_it_is_long():
    waits = Waits()
    waits.add(LOW, 0, 89)
    waits.add(LOW, 7, 11)
    assert [waits.quantile_ms(LOW, percent) for percent in (50, 89, 90)] == [0, 0, 7]


def test_nobody_waited_where_nobody_was_granted():
    assert Waits().quantile_ms(LOW, 99) == 0
