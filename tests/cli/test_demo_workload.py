"""The demonstration's workload and fleet are what they say, and the same for the same seed."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from raftalloc.cli.demo.dice import Dice
from raftalloc.cli.demo.fleet import PROVIDERS, QUOTAS, quotas, registrations
from raftalloc.cli.demo.tally import Tally, quantile
from raftalloc.cli.demo.workload import SHAPES, Ending, agent_ids, jobs
from raftalloc.core.quantities import KINDS_PER_REQUEST_MAX, PROVIDER, is_kind, scope_of


def first_jobs(agent_id: str, count: int = 300):
    return list(itertools.islice(jobs(agent_id, seed=7), count))


def test_a_seed_gives_the_same_work_again():
    assert first_jobs("auditor_01") == first_jobs("auditor_01")
    other = list(itertools.islice(jobs("auditor_01", seed=8), 300))
    assert [job.request for job in other] != [job.request for job in first_jobs("auditor_01")]


@pytest.mark.parametrize("kind", SHAPES)
def test_every_job_of_every_kind_is_a_valid_request_of_its_own(kind):
    made = first_jobs(f"{kind}_01")
    assert len({job.workflow_id for job in made}) == len(made)
    for job in made:
        resources = job.request.resources
        assert 1 <= len(resources) <= KINDS_PER_REQUEST_MAX
        assert all(is_kind(each) and amount > 0 for each, amount in resources.items())
        assert job.request.lease_ttl_ms
        assert job.request.duration_ms, "whatever becomes of the agent, it must come back"
        if job.request.resources.get("gpu", 0) > 1000:
            assert job.request.resources["gpu"] % 1000 == 0


def test_the_five_kinds_of_agents_take_turns():
    ids = agent_ids(12)
    kinds = Counter(agent_id.rpartition("_")[0] for agent_id in ids)
    assert set(kinds) == set(SHAPES)
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert len(set(ids)) == 12


def test_jobs_ask_nodes_and_providers_at_once_and_end_in_every_way():
    made = [job for kind in SHAPES for job in first_jobs(f"{kind}_01")]
    both = [job for job in made if len({scope_of(kind) for kind in job.request.resources}) == 2]
    assert len(both) > len(made) / 3
    assert {job.ending for job in made} == set(Ending)
    assert any(0 < job.request.resources.get("gpu", 0) < 1000 for job in made), "shares of a GPU"
    assert any(job.request.gang and job.count > 1 for job in made)
    assert {job.request.priority for job in made} == {1, 2, 3, 4}
    assert {bool(job.request.wait_ms) for job in made} == {True, False}


def test_the_fleet_has_a_thousand_nodes_of_all_sorts_and_its_providers_come_first():
    made = registrations(1000)
    nodes = [request for request in made if not request.provider]
    assert len(nodes) == len({node.node_id for node in nodes}) == 1000
    assert [request.node_id for request in made[: len(PROVIDERS)]] == list(PROVIDERS)
    assert {node.attributes["sort"] for node in nodes} == {"standard", "memory", "storage", "gpu"}
    assert Counter(device for node in nodes for device in node.devices) == {"T4": 180, "A100": 10}
    assert all(request.static for request in made)


def test_every_kind_that_is_asked_for_is_offered_where_it_lives():
    offered = {
        (kind, request.provider) for request in registrations(40) for kind in request.capacity
    }
    offered |= {("gpu", False) for request in registrations(40) if request.devices}
    asked = {
        (kind, scope_of(kind) == PROVIDER)
        for name in SHAPES
        for job in first_jobs(f"{name}_01")
        for kind in job.request.resources
    }
    assert asked <= offered


def test_quotas_come_after_their_parents():
    known = {"root"}
    for request in quotas():
        assert request.parent in known
        known.add(request.agent_type)
    assert set(SHAPES) <= set(QUOTAS)


def test_dice_are_fair_enough():
    dice = Dice(3)
    rolled = Counter(dice.between(1, 6) for _ in range(6000))
    assert set(rolled) == {1, 2, 3, 4, 5, 6}
    assert min(rolled.values()) > 800


def test_failover_counts_only_requests_made_after_the_kill():
    tally = Tally(calls=[(1.0, 9.0), (5.2, 5.9), (5.1, 6.0)])
    assert tally.first_answer_after(5.0) == pytest.approx(0.9)
    assert tally.first_answer_after(7.0) is None


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 5.0), (0.99, 10.0), (0.1, 1.0), (0.11, 2.0), (0.0, 1.0)]
)
def test_quantiles_are_of_nearest_rank(share, value):
    assert quantile([float(number) for number in range(1, 11)], share) == value


def test_the_quantile_of_nothing_is_zero():
    assert quantile([], 0.5) == 0.0
