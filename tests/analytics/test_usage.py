from __future__ import annotations

from raftalloc.analytics.usage import Usage

CAPACITY = (("cpu", 4000), ("memory", 1024))


def usage_at_zero():
    usage = Usage()
    usage.advance(1000)
    usage.register("n1", CAPACITY)
    return usage


def test_the_mean_weighs_with_time():
    usage = usage_at_zero()
    usage.take((("cpu", 4000),))
    usage.advance(1010)
    usage.take((("cpu", 4000),), -1)
    usage.advance(1040)
    assert usage.mean_ppm("cpu") == 250_000
    assert usage.mean_ppm("memory") == 0


def test_the_mean_ends_where_it_is_closed_and_the_course_does_not():
    usage = usage_at_zero()
    usage.take((("cpu", 2000),))
    usage.advance(1010)
    usage.close_mean()
    usage.take((("cpu", 2000),), -1)
    usage.advance(1020)
    assert usage.mean_ppm("cpu") == 500_000
    assert usage.course_ppm("cpu") == [500_000] * 10 + [0] * 10


def test_in_one_instant_the_mean_is_what_is_taken():
    usage = usage_at_zero()
    usage.take((("cpu", 1000),))
    usage.close_mean()
    usage.advance(9999)
    assert usage.mean_ppm("cpu") == 250_000


def test_the_peak_is_the_highest_share_not_the_highest_amount():
    usage = usage_at_zero()
    usage.take((("cpu", 3000),))
    usage.note_peaks()
    usage.register("n2", (("cpu", 4000),))
    usage.take((("cpu", 1000),))
    usage.note_peaks()
    assert usage.peak_ppm("cpu") == 750_000


def test_a_node_registered_again_counts_once_and_a_removed_one_not_at_all():
    usage = usage_at_zero()
    usage.register("n1", (("cpu", 8000),))
    assert dict(usage.capacity) == {"cpu": 8000, "memory": 0}
    assert usage.kinds() == ["cpu"]
    usage.register("n1", ())
    assert usage.kinds() == []


def test_shares_are_rounded_half_up():
    usage = Usage()
    usage.advance(0)
    usage.register("n1", (("cpu", 3),))
    usage.take((("cpu", 2),))
    usage.advance(1)
    assert usage.mean_ppm("cpu") == 666_667


def test_there_is_no_course_before_the_first_event():
    assert Usage().course_ppm("cpu") == []
