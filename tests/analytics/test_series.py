from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftalloc.analytics.series import STEPS_MAX, Series

SPANS = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 1_000)), min_size=1, max_size=30)


@given(st.integers(0, 10**12), SPANS)
def test_every_step_holds_the_sum_over_its_milliseconds(origin_ms, spans):
    series = Series(origin_ms)
    by_ms: list[int] = []
    for span_ms, amount in spans:
        series.add(series.end_ms + span_ms, {"cpu": amount})
        by_ms += [amount] * span_ms
    step = series.step_ms
    wanted = [sum(by_ms[first : first + step]) for first in range(0, len(by_ms), step)]
    assert series.integrals("cpu") == wanted
    assert series.length() <= STEPS_MAX


def test_months_take_no_more_steps_than_seconds():
    series = Series(0)
    series.add(149 * 86_400_000, {"gpu": 3})
    assert STEPS_MAX // 2 < series.length() <= STEPS_MAX
    assert sum(series.integrals("gpu")) == 3 * 149 * 86_400_000


def test_a_name_that_comes_late_was_nothing_before():
    series = Series(0)
    series.add(2, {"cpu": 1})
    series.add(4, {"cpu": 1, "gpu": 5})
    assert series.integrals("gpu") == [0, 0, 5, 5]
    assert series.integrals("disk") == [0, 0, 0, 0]
