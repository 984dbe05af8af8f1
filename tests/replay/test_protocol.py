"""The published packing protocol; on the published trace where it is present."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftalloc.core.commands import BEST_FIT, FGD, LEAST_WASTE, MEDIUM
from raftalloc.errors import InvalidRequest
from raftalloc.replay.fleet import NodeSpec, read_fleet
from raftalloc.replay.protocol import _Draws, inflated, packing, row_of, typical
from raftalloc.replay.trace import Task, read_trace

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
NODES = [
    NodeSpec(f"n{at}", (("cpu", 96_000), ("gpu", 8000), ("memory", 393_216)), ("G2",) * 8)
    for at in range(4)
]


def pod(cpu, gpu, line=0):
    demand = tuple((kind, amount) for kind, amount in (("cpu", cpu), ("gpu", gpu)) if amount)
    return Task(line, f"j{line}", "u", 0, 0, MEDIUM, 1, demand, ())


PODS = [pod(4000, 500), pod(11_000, 1000), pod(8000, 810), pod(3000, 0), pod(40_000, 8000)] * 3


def test_the_workload_is_every_pod_and_then_any_until_the_gpus_are_asked_for_one_and_a_third_times():
    order = inflated(PODS, 32_000, _Draws(7))
    assert sorted(order[: len(PODS)]) == list(range(len(PODS)))
    asked = [dict(PODS[at].demand).get("gpu", 0) for at in order]
    assert sum(asked) >= 41_600 > sum(asked[:-1])


def test_a_seed_is_a_run_and_another_seed_another():
    first = packing(NODES, PODS, BEST_FIT, 1)
    assert packing(NODES, PODS, BEST_FIT, 1) == first
    assert {packing(NODES, PODS, BEST_FIT, seed).percent for seed in range(2, 9)} != {first.percent}
    assert first.placed + first.dropped == len(inflated(PODS, 32_000, _Draws(1)))


def test_the_typical_demands_make_up_95_percent_most_frequent_first():
    pods = [pod(1000, 100)] * 90 + [pod(2000, 200)] * 6 + [pod(3000, 300)] * 4
    assert [(shape.demand[0][1], shape.count) for shape in typical(pods)] == [(1000, 90), (2000, 6)]


def test_a_row_of_the_table_is_the_mean_and_the_extremes():
    runs = [packing(NODES, PODS, LEAST_WASTE, seed) for seed in (1, 2)]
    row = row_of(runs)
    assert row["policy"] == "least_waste"
    assert row["least"] == round(min(run.percent for run in runs), 3)
    assert row["percent"] == pytest.approx(sum(run.percent for run in runs) / 2, abs=1e-3)


def test_a_fleet_without_gpus_is_refused():
    with pytest.raises(InvalidRequest, match="needs GPUs"):
        packing([NodeSpec("n", (("cpu", 1000),))], PODS, FGD, 1)


def test_on_the_published_trace_least_waste_passes_the_published_table():
    if not (TRACES / "openb_default.csv").is_file():
        pytest.skip("needs the openb trace beside the repository")
    fleet = read_fleet(str(TRACES / "openb_nodes_gpu.csv"))
    tasks = list(read_trace(str(TRACES / "openb_default.csv")))
    assert packing(fleet, tasks, LEAST_WASTE, 2).percent >= 95.6
