"""The group's clock."""

from __future__ import annotations

from raftalloc.service.clock import GRACE_MS, OUTAGE_MS_MAX, ClusterClock
from tests.service.fakes import FakeClock


def test_a_leader_stamps_the_last_heard_time_plus_what_has_passed_since():
    clock = FakeClock()
    cluster = ClusterClock(clock)
    cluster.hear(5_000)
    clock.now += 0.25
    assert cluster.take_lead(4_900) == 250
    assert cluster.stamp(4_900) == 5_250


def test_a_jump_of_the_wall_clock_changes_nothing_once_a_leader_was_heard():
    clock = FakeClock(wall_ms=5_000)
    cluster = ClusterClock(clock)
    cluster.hear(5_000)
    clock.wall += 365 * 86_400_000
    assert cluster.take_lead(5_000) == 0
    assert cluster.stamp(5_000) == 5_000


def test_a_cold_start_takes_wall_time_and_gives_the_outage_back():
    clock = FakeClock(wall_ms=90_000)
    cluster = ClusterClock(clock)
    assert cluster.is_cold
    assert cluster.take_lead(30_000) == 60_000 + GRACE_MS
    clock.now += 1.0
    assert cluster.stamp(30_000) == 91_000


def test_a_cold_start_with_a_wall_clock_in_the_past_does_not_take_time_back():
    clock = FakeClock(wall_ms=10_000)
    cluster = ClusterClock(clock)
    assert cluster.take_lead(30_000) == GRACE_MS
    clock.now += 1.0
    assert cluster.stamp(30_000) == 31_000


def test_a_cold_start_with_a_wall_clock_far_in_the_future_is_clamped():
    clock = FakeClock(wall_ms=4_000_000_000_000)
    cluster = ClusterClock(clock)
    assert cluster.take_lead(30_000) == OUTAGE_MS_MAX + GRACE_MS
    assert cluster.stamp(30_000) == 30_000 + OUTAGE_MS_MAX


def test_a_new_group_has_no_gap():
    assert ClusterClock(FakeClock(wall_ms=90_000)).take_lead(0) == 0


def test_stamps_never_go_back_even_if_a_slower_leader_came_between():
    clock = FakeClock()
    cluster = ClusterClock(clock)
    cluster.hear(5_000)
    assert cluster.stamp(0) == 5_000
    cluster.hear(4_000)
    assert cluster.stamp(0) == 5_000
    assert cluster.stamp(6_000) == 6_000
    assert cluster.stamp(0) == 6_000
    assert cluster.now_ms() == 6_000


def test_before_anyone_was_heard_the_time_is_not_known():
    assert ClusterClock(FakeClock()).now_ms() == 0
