"""Dominant shares over time, and Jain's index of them."""

from __future__ import annotations

import pytest

from raftalloc.analytics.fairness import MILLION, Shares, jain_ppm
from raftalloc.core.events import Happened, Resized


def test_the_dominant_share_is_the_most_of_any_kind_in_the_mean_over_time():
    shares = Shares()
    shares.advance(1_000)
    shares.begin(1, "a", (("cpu", 2_000), ("memory", 1_024)))
    shares.begin(2, "b", (("cpu", 1_000),))
    shares.advance(2_000)
    shares.end(1)
    shares.advance(3_000)
    capacity_ms = {"cpu": 4_000 * 2_000, "memory": 1_024 * 2_000}
    # a held all memory for half of the time, and half of the cpu; b a quarter of the cpu all the time.
    assert shares.dominant_ppm(capacity_ms) == {"a": MILLION // 2, "b": MILLION // 4}


def test_what_is_resized_counts_with_what_it_holds_then():
    shares = Shares()
    shares.advance(1)
    shares.begin(1, "a", (("cpu", 1),))
    shares.add(11, [Happened(Resized(1, (("cpu", 3),), ("n",), (), "a", "", "n"), 0)])
    shares.advance(21)
    assert shares.dominant_ppm({"cpu": 80}) == {"a": MILLION // 2}


def test_what_ends_twice_or_was_never_there_changes_nothing():
    shares = Shares()
    shares.advance(1)
    shares.end(7)
    shares.begin(1, "a", (("cpu", 1),))
    shares.end(1)
    shares.end(1)
    shares.advance(11)
    assert shares.dominant_ppm({"cpu": 10}) == {"a": 0}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([5, 5, 5, 5], MILLION),
        ([1, 0, 0, 0], MILLION // 4),
        ([2, 1], 900_000),
        ([], MILLION),
        ([0, 0], MILLION),
    ],
)
def test_jains_index(given: list[int], expected: int):
    assert jain_ppm(given) == expected
