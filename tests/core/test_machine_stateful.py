"""Whatever is asked, in whatever order: the laws hold at every prefix of the log.

Each rule asks something (`walk`), `rig` runs the entry by every way there is, and `audit` judges what came of it.
RAFTALLOC_HYPOTHESIS=long looks for longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from raftalloc.core import admission, explain, settle
from raftalloc.core.codec import encode_state
from raftalloc.core.records import FITS_NOW, MUST_WAIT, NEVER_FITS
from tests.core.dice import DrawnDice, SeededDice
from tests.core.promised import ahead_of, keeping, protections
from tests.core.reference import Wish
from tests.core.walk import Walk

MORE = os.environ.get("RAFTALLOC_HYPOTHESIS") == "long"
SEEDS = range(1000 if MORE else 6)
STEPS = 400 if MORE else 150
choices = st.data()


class Group(RuleBasedStateMachine):
    """Someone who asks for everything, at any time, sometimes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.walk = Walk()

    @initialize(data=choices)
    def begin(self, data):
        self.walk.begin(DrawnDice(data))

    @rule(data=choices)
    def allocate(self, data):
        self.walk.allocate(DrawnDice(data))

    @rule(data=choices)
    def burst(self, data):
        self.walk.burst(DrawnDice(data))

    @rule(data=choices)
    def same_again(self, data):
        self.walk.same_again(DrawnDice(data))

    @rule(data=choices)
    def hold(self, data):
        self.walk.hold(DrawnDice(data))

    @rule(data=choices)
    def reserve(self, data):
        self.walk.reserve(DrawnDice(data))

    @rule(data=choices)
    def draw(self, data):
        self.walk.draw(DrawnDice(data))

    @rule(data=choices)
    def fleet(self, data):
        self.walk.fleet(DrawnDice(data))

    @rule(data=choices)
    def quotas(self, data):
        self.walk.quotas(DrawnDice(data))

    @rule(data=choices)
    def queue(self, data):
        self.walk.queue(DrawnDice(data))

    @rule(data=choices)
    def again(self, data):
        self.walk.again(DrawnDice(data))

    @rule(data=choices)
    def lead(self, data):
        self.walk.lead(DrawnDice(data))

    @rule(data=choices)
    def pause(self, data):
        self.walk.pause(DrawnDice(data))

    @rule(data=choices)
    def until_due(self, data):
        self.walk.until_due(DrawnDice(data))

    @rule(data=choices)
    def explain(self, data):
        explanations_agree(self.walk, DrawnDice(data))

    @precondition(lambda self: self.walk.batch)
    @rule()
    def flush(self):
        self.walk.flush()


def explanations_agree(walk: Walk, dice) -> None:
    """Of a request that is not made, and of one that waits: told as it is, and nothing changes by it."""
    walk.flush()
    state, waiting = walk.rig.state, walk.world.waiting
    before = encode_state(state)
    command = walk.allocate_command(dice)
    explained(walk, explain.explain(state, command), command)
    if waiting:
        queued = waiting[dice.pick(sorted(waiting))].queued
        told = explain.explain_waiting(state, queued.request_id)
        assert told is not None
        assert told.verdict != FITS_NOW
        explained(walk, told, queued)
    assert encode_state(state) == before


def explained(walk: Walk, told, asks) -> None:
    world, audit = walk.world, walk.rig.audit
    wish = Wish.of(asks)
    assert told.nodes == sum(1 for row in world.rows.values() if not row.event.provider)
    if any(kind not in audit.truth.known_kinds() for kind, _ in wish.demand):
        assert told.verdict == NEVER_FITS
        return
    members = asks.count if asks.gang else 1
    end_ms = world.now_ms + asks.duration_ms if asks.duration_ms else 0
    over = world.over_quota(wish, members, end_ms)
    kept = [*ahead_of(world, asks), *protections(world, asks)]
    with keeping(world, kept):
        fits = not over and audit.truth.places(wish, members, end_ms)
    assert (told.verdict == FITS_NOW) == fits
    assert told.verdict != MUST_WAIT or world.members_on_empty_fleet(wish) >= members
    assert (told.blockers == ()) == fits
    if fits:
        with keeping(world, kept):
            place = world.place(wish, end_ms)
        assert place is not None
        assert told.chosen == place[0]
    if wish.on_node():
        assert sum(count for _, count in told.filtered) + told.feasible == told.nodes
    quotas = {(b.subject, b.kind) for b in told.blockers if b.code == "QUOTA_EXCEEDED"}
    assert quotas == set(over)


TestGroup = pytest.mark.slow(pytest.mark.timeout(0 if MORE else 600)(Group.TestCase))
TestGroup.settings = settings(
    max_examples=3000 if MORE else 30,
    stateful_step_count=80 if MORE else 40,
    # Not Phase.explain: it traces every line, which takes minutes here.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_walk(seed):
    """Longer logs than hypothesis cares to make; what fails here is found again by its seed."""
    walk, dice = Walk(), SeededDice(seed)
    walk.begin(dice)
    for step in range(STEPS):
        walk.step(dice)
        if step % 10 == 0:
            explanations_agree(walk, dice)
    walk.flush()
    assert walk.rig.index > STEPS // 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS[: len(SEEDS) // 2])
def test_a_walk_in_which_every_settle_is_cut_short(seed, monkeypatch):
    """What does not fit into one settle goes on at the next entry, and on every replica alike."""
    monkeypatch.setattr(settle, "FIRED_MAX", 2)
    monkeypatch.setattr(admission, "ADMITTED_MAX", 2)
    monkeypatch.setattr(admission, "FREED_ROWS_MAX", 1)
    walk, dice = Walk(judged=False), SeededDice(10_000 + seed)
    walk.begin(dice)
    for _ in range(STEPS):
        walk.step(dice)
    walk.flush()
