"""Weighted DRF against its sources.

CT-33: Ghodsi et al., "Dominant Resource Fairness", NSDI'11, the example of sections 1 and 4 with its table.
CT-37..39, CT-42: Mesos, src/tests/sorter_tests.cpp (DRFSorter); ties by name there, by arrival here.
CT-34 and CT-35 (asset fairness, CEEI) are what the paper argues against; CT-34 is shown as what we do not do.
"""

from __future__ import annotations

from fractions import Fraction

import pytest

from raftalloc.core import commands, fairness, views
from raftalloc.core.events import Granted
from tests.core.asking import Talk, allocate, node, there
from tests.core.dice import SeededDice

FAIR = commands.SetQueue(order=commands.FAIR_SHARE, ageing_ms=0)


def weigh(name: str, weight: int) -> commands.SetQuota:
    return commands.SetQuota(name, "", (), weight)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def filled(talk: Talk, capacity: dict[str, int], tasks: dict[str, dict[str, int]]) -> list[str]:
    """The agent types in the order in which their tasks start, on one node that becomes free at once."""
    talk.ask(1000, FAIR, node("n1", **capacity), allocate("x", **capacity))
    for name, demand in tasks.items():
        talk.ask(1001, allocate(name, count=50, wait_ms=90_000, **demand))
    talk.ask(1002, commands.Release(1, 1, "x"))
    return [grant.agent_type for grant in talk.happened(Granted)]


def test_ct_33_the_papers_example(talk):
    order = filled(
        talk,
        {"cpu": 9000, "memory": 18 * 1024},
        {"b": {"cpu": 3000, "memory": 1024}, "a": {"cpu": 1000, "memory": 4096}},
    )
    assert order == ["b", "a", "a", "b", "a"]
    assert dict(there(views.quota(talk.state, "a")).used) == {"cpu": 3000, "memory": 12 * 1024}
    assert dict(there(views.quota(talk.state, "b")).used) == {"cpu": 6000, "memory": 2 * 1024}
    for name in ("a", "b"):
        assert Fraction(*fairness.share_of(talk.state, name)) == Fraction(2, 3)


def test_ct_34_unlike_asset_fairness_nobody_gets_less_than_an_equal_part_would_give(talk):
    """Asset fairness gives A 2.52 and B 2.16 tasks; half of the fleet would hold 2.25 and 1.5 of them."""
    order = filled(
        talk,
        {"cpu": 9000, "memory": 18 * 1024},
        {"b": {"cpu": 3000, "memory": 1024}, "a": {"cpu": 1000, "memory": 4096}},
    )
    assert (order.count("a"), order.count("b")) == (3, 2)


class Sorter:
    """Mesos' sorter: clients and what they hold of 100 CPU and 100 of memory, in order of their share."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.held: dict[str, int] = {}
        talk.ask(1000, FAIR, node("n1", cpu=100_000, memory=100 * 1024))

    def hold(self, name: str, cpus: int, memory: int, weight: int = 0) -> None:
        self.leave(name)
        if weight:
            self.talk.ask(1001, weigh(name, weight * 1000))
        ask = allocate(name, cpu=cpus * 1000, memory=memory * 1024)
        self.held[name] = self.talk.ask(1001, ask).subject

    def leave(self, name: str) -> None:
        if name in self.held:
            found = there(views.allocation(self.talk.state, self.held.pop(name)))
            self.talk.ask(1002, commands.Release(found.allocation_id, found.token, name))

    def sorted(self) -> list[str]:
        ranks = fairness.ranks_of(self.talk.state, self.held)
        return sorted(self.held, key=lambda name: (ranks[name], name))


def test_ct_37_to_39_mesos_sorts_by_dominant_share(talk):
    sorter = Sorter(talk)
    sorter.hold("a", 5, 5)
    sorter.hold("b", 6, 6)
    assert sorter.sorted() == ["a", "b"]
    sorter.hold("c", 1, 1)
    sorter.hold("d", 3, 1)
    assert sorter.sorted() == ["c", "d", "a", "b"]
    sorter.leave("a")
    sorter.hold("b", 2, 2)
    assert sorter.sorted() == ["c", "b", "d"]


def test_ct_42_mesos_sorts_by_weighted_share(talk):
    sorter = Sorter(talk)
    sorter.hold("a", 5, 5)
    sorter.hold("b", 6, 6, weight=2)
    sorter.hold("c", 4, 4)
    sorter.hold("d", 10, 20, weight=10)
    assert sorter.sorted() == ["d", "b", "c", "a"]


@pytest.mark.parametrize("seed", range(20))
def test_ct_36_fairness_on_random_instances(seed):
    """The paper's properties, for tasks that are small beside the fleet: what one task can change is allowed for."""
    dice, talk = SeededDice(seed), Talk()
    talk.rig.judged = False
    capacity = {"cpu": 40_000, "memory": 40 * 1024}
    tasks = {
        name: {"cpu": dice.pick((500, 1000, 2000)), "memory": dice.pick((512, 1024, 2048))}
        for name in ("a", "b", "c")
    }
    order = filled(talk, capacity, tasks)
    counts = {name: order.count(name) for name in tasks}
    most = {
        name: max(Fraction(amount, capacity[kind]) for kind, amount in task.items())
        for name, task in tasks.items()
    }
    left = {
        kind: total - sum(counts[name] * tasks[name][kind] for name in tasks)
        for kind, total in capacity.items()
    }
    hungry = {name: count for name, count in counts.items() if count < 50}
    for name in hungry:
        # Pareto efficiency: who wants more could not have it.
        assert any(left[kind] < amount for kind, amount in tasks[name].items())
        # Sharing incentive: no less than in a third of the fleet, but for one task.
        assert (counts[name] + 1) * most[name] >= Fraction(1, len(tasks)) - max(most.values())
        # Envy-freeness: another's bundle would not hold more tasks of one's own, but for one task of each.
        for other in tasks:
            bundle = {kind: counts[other] * amount for kind, amount in tasks[other].items()}
            instead = min(bundle[kind] // amount for kind, amount in tasks[name].items())
            bound = max(most.values()) / most[name] + 1
            assert instead <= counts[name] + bound, (name, other, counts, tasks)
