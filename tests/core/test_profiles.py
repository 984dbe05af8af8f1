"""What will be free, next to the naive world's answer: of one row, and of all rows over a window."""

from __future__ import annotations

import numpy as np
import pytest

from raftalloc.core.profiles import least_free, profile_of
from tests.core.asking import Talk, allocate, node, provider, reserve
from tests.core.dice import SeededDice
from tests.core.walk import Walk


def assert_free(walk, row, row_id, at_ms, free, device_free):
    world, kinds = walk.world, walk.rig.state.kinds.names
    assert {k: int(free[c]) for c, k in enumerate(kinds)} == {
        kind: world.free(row_id, kind, at_ms) for kind in kinds
    }
    there = world.devices_free(row_id, at_ms)
    assert device_free[: len(there)].tolist() == there


@pytest.mark.parametrize("seed", range(4))
def test_what_will_be_free_is_what_the_promises_leave(seed):
    walk, dice = Walk(judged=False), SeededDice(7000 + seed)
    walk.begin(dice)
    looked = 0
    for step in range(100):
        (walk.step if step % 5 else walk.reserve)(dice)
        state = walk.rig.state
        if not state.reservations.any_booked():
            continue
        for row, row_id in enumerate(state.fleet.ids):
            for start_ms, free, device_free in profile_of(state, row) if row_id else ():
                assert_free(walk, row, row_id, start_ms, free, device_free)
                looked += 1
        end_ms = state.now_ms + 5000
        free, device_free = least_free(state, state.now_ms, end_ms)
        starts = {w.made.start_ms for w in walk.world.windows.values() if not w.open}
        moments = [state.now_ms, *(t for t in starts if state.now_ms < t < end_ms)]
        for row, row_id in enumerate(state.fleet.ids):
            for column, kind in enumerate(state.kinds.names) if row_id else ():
                least = min(walk.world.free(row_id, kind, at_ms) for at_ms in moments)
                assert int(free[row, column]) == least
    assert looked > 10


def test_a_window_that_moves_takes_nothing_where_it_is():
    talk = Talk()
    talk.ask(1000, node("n1", ("T4",), cpu=4000), provider("p", api_quota=500))
    talk.ask(1000, reserve("r", cpu=3000, gpu=400, start_ms=5000, duration_ms=1000))
    talk.ask(1000, reserve("s", cpu=500, start_ms=5500, duration_ms=1000))
    state, column = talk.state, talk.state.kinds.column("cpu")
    assert [int(least_free(state, 5000, at)[0][0, column]) for at in (5500, 5501)] == [1000, 500]
    free, device_free = least_free(state, 5000, 6000, moving_id=1)
    assert int(free[0, column]) == 3500
    assert device_free[0, 0] == 1000


def test_what_ends_by_then_is_free_by_then_and_a_lease_is_not_counted_on():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=4000))
    talk.ask(
        1000, allocate("a", cpu=1000, duration_ms=4000), allocate("b", cpu=500, lease_ttl_ms=100)
    )
    talk.ask(1000, reserve("r", cpu=2000, start_ms=5000, duration_ms=1000))
    ((start_ms, free, _),) = profile_of(talk.state, 0)
    assert (start_ms, int(free[talk.state.kinds.column("cpu")])) == (5000, 1500)
    assert isinstance(free, np.ndarray)
