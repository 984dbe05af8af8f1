from __future__ import annotations

from pathlib import Path

import pytest

from raftalloc.core.commands import BEST_FIT, FIRST_FIT, LOW, WORST_FIT
from raftalloc.replay.embedded import EmbeddedReplay
from raftalloc.replay.fleet import NodeSpec, read_fleet
from raftalloc.replay.report import report_of
from raftalloc.replay.trace import Task, read_trace
from raftalloc.replay.workload import make_workload

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
ONE_CORE = [NodeSpec("n1", (("cpu", 1000), ("memory", 1024)))]


def task(job_id="j", *, submit_s=0, duration_s=10, count=1, cpu=1000, **changed):
    known = {
        "line": 2,
        "job_id": job_id,
        "user": "ann",
        "submit_ms": submit_s * 1000,
        "duration_ms": duration_s * 1000,
        "priority": LOW,
        "count": count,
        "demand": (("cpu", cpu),),
        "gpu_models": (),
    }
    return Task(**(known | changed))


def replayed(tasks, fleet=ONE_CORE, *, gangs=False, policy=BEST_FIT, steps_max=None):
    workload = make_workload(tasks, policy=policy, gangs=gangs)
    run = EmbeddedReplay(fleet, workload, keep_blocks=True)
    steps: list[tuple[int, int]] = []
    stop = (lambda: len(steps) >= steps_max) if steps_max else (lambda: False)
    finished = run.run(lambda submitted, at_ms: steps.append((submitted, at_ms)), stop)
    report = report_of(run.tally, run.facts(policy="best_fit", finished=finished))
    assert report["violations"] == []
    assert report["lost"] == 0
    return report


def waits_of(report):
    return [report["waits_s"]["LOW"][name] for name in ("p50", "p90", "p99")]


def test_what_fits_starts_at_once():
    report = replayed([task(submit_s=0), task(submit_s=10), task(submit_s=20)])
    assert (report["placed"], report["waiting"], waits_of(report)) == (3, 0, [0, 0, 0])
    assert report["utilisation"] == {"cpu": 1.0, "memory": 0.0}


def test_a_wait_is_as_long_as_the_trace_makes_it_to_the_millisecond():
    late = task("late", submit_ms=9_998, submit_s=0, duration_ms=1)
    report = replayed([task("first"), late])
    assert report["waits_s"]["LOW"]["p99"] == 0.002
    assert report["trace_s"] == 10.0


def test_the_members_of_an_array_start_one_by_one_as_there_is_room():
    report = replayed([task(count=4)])
    assert (report["placed"], waits_of(report)) == (4, [10.0, 30.0, 30.0])
    assert report["ended"] == {"DURATION_ENDED": 3}


def test_a_gang_starts_whole_or_not_at_all():
    two = [NodeSpec("n1", (("cpu", 1000),)), NodeSpec("n2", (("cpu", 1000),))]
    report = replayed([task("alone", duration_s=7), task("gang", count=2)], two, gangs=True)
    assert (report["placed"], report["waits_s"]["LOW"]["p99"]) == (3, 7.0)
    report = replayed([task("alone", duration_s=7), task("array", count=2)], two)
    assert sorted(waits_of(report)) == [0, 7.0, 7.0]


def test_what_could_never_run_is_refused_with_all_its_members():
    report = replayed([task(cpu=1001, count=5), task()])
    assert report["rejected"] == {"UNSATISFIABLE": 5}
    assert (report["placed"], report["waiting"]) == (1, 0)


def test_a_replay_ends_although_something_waits_for_what_never_ends():
    report = replayed([task(duration_s=0), task(count=3)])
    assert (report["placed"], report["waiting"], report["live"]) == (1, 3, 1)


def test_the_models_and_shares_of_devices_are_respected():
    fleet = [
        NodeSpec("t4", (("cpu", 9000), ("gpu", 1000)), ("T4",)),
        NodeSpec("p100", (("cpu", 9000), ("gpu", 2000)), ("P100", "P100")),
    ]
    half = (("cpu", 1), ("gpu", 600))
    report = replayed(
        [
            task("a", demand=half, gpu_models=("T4",)),
            task("b", demand=half, gpu_models=("T4",)),
            task("c", demand=(("cpu", 1), ("gpu", 2000)), gpu_models=("P100", "T4")),
            task("d", demand=(("cpu", 1), ("gpu", 2000)), gpu_models=("T4",)),
        ],
        fleet,
    )
    assert (report["placed"], report["rejected"]) == (3, {"UNSATISFIABLE": 1})
    assert report["gpu_allocated_percent"] == 86.67
    assert waits_of(report) == [0, 10.0, 10.0]


def test_the_peak_of_devices_is_at_once_not_in_all():
    fleet = [NodeSpec("n1", (("cpu", 9000), ("gpu", 1000)), ("T4",))]
    demand = (("gpu", 500),)
    report = replayed([task(demand=demand), task(submit_s=11, demand=demand)], fleet)
    assert report["gpu_allocated_percent"] == 50.0


@pytest.mark.parametrize("policy", [BEST_FIT, FIRST_FIT, WORST_FIT])
def test_the_same_files_give_the_same_bytes(policy):
    tasks = [task(f"j{n}", submit_s=n % 7, duration_s=n % 5, cpu=100 + n) for n in range(60)]
    fleet = read_fleet("uniform:3,cpu=1,memory=1")
    first, second = replayed(tasks, fleet, policy=policy), replayed(tasks, fleet, policy=policy)
    assert first["chain"] == second["chain"]
    assert first["digest"] == second["digest"]
    assert first["events"] > first["placed"] > 0


def test_told_to_stop_it_reports_what_was_done():
    report = replayed([task(f"j{n}", submit_s=n * 20) for n in range(9)], steps_max=3)
    assert report["interrupted"] is True
    assert 0 < report["submitted"] < 9
    assert report["waiting"] == 0


def test_a_block_that_was_changed_does_not_verify():
    run = EmbeddedReplay(ONE_CORE, make_workload([task()], policy=BEST_FIT), keep_blocks=True)
    run.run(lambda *_: None, lambda: False)
    assert run.verify() == []
    del run.blocks[1]
    assert len(run.verify()) >= 1


def test_progress_is_told_in_the_time_of_the_trace():
    workload = make_workload([task(submit_s=5), task(submit_s=65)], policy=BEST_FIT)
    told = []
    EmbeddedReplay(ONE_CORE, workload).run(lambda *step: told.append(step), lambda: False)
    assert told == [(1, 0), (1, 10_000), (2, 60_000)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trace", "nodes", "limit"),
    [
        ("openb_default.csv", "openb_nodes_gpu.csv", 400),
        ("google2011_jobs.csv", "google2011_nodes.csv", 150),
        ("alibaba2017_batch.csv", "uniform:300,cpu=64,memory=96", 40),
    ],
)
def test_published_traces_run_where_they_are_present(trace, nodes, limit):
    if not (TRACES / trace).is_file():
        pytest.skip(f"{trace} is not here")
    fleet = read_fleet(nodes if nodes.startswith("uniform") else str(TRACES / nodes))
    report = replayed(read_trace(str(TRACES / trace), limit=limit), fleet)
    assert report["rows"] == limit
    assert (
        report["placed"] + report["waiting"] + sum(report["rejected"].values())
        == report["submitted"]
    )
    assert report["placed"] > 0
