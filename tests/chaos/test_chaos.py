"""Short runs of scripts/chaos, so that it cannot rot; and that it sees what it is there to see."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import course, etcd
from tests.chaos.course import Plan
from tests.chaos.power import NoPowerDisk, why_not
from tests.chaos.probe import until_written
from tests.chaos.report import Report, Round, figures, table

ROOT = Path(__file__).resolve().parents[2]
in_processes = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]


def marked(function):
    for mark in in_processes:
        function = mark(function)
    return function


async def played(plan: Plan, directory: Path) -> Report:
    report = Report(plan.seed)
    await course.run(plan, directory, report, print)
    return report


@marked
def test_three_rounds_of_the_command_lose_nothing_and_say_so(tmp_path):
    command = "--faults kill,restart,pause --rounds 3 --agents 10 --etcd off --json report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *command.split(), "--directory", str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=200, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["violations"] == []
    assert report["faults"] == {"kill": 1, "restart": 1, "pause": 1}
    assert len(report["failovers_ms"]) == 3
    assert report["operations"]["ok"] > 0
    assert report["checks"]["grants"] > 0
    assert report["checks"]["replicas"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json"], "data is removed"


@marked
def test_a_power_cut_of_the_whole_group_takes_nothing_that_was_acknowledged(tmp_path, run):
    report = run(power_cut(tmp_path, rounds=2), timeout=200)
    assert report.violations == []
    assert report.checks["grants"] > 0
    assert len(report.failovers_ms) == 2


@marked
def test_without_fdatasync_the_same_power_cut_is_seen(tmp_path, run):
    report = run(power_cut(tmp_path, rounds=1, without_sync=True), timeout=200)
    assert {each.check for each in report.violations} & {"start", "lost"}, "what forgets is noticed"


async def power_cut(directory: Path, **options: Any) -> Report:
    if why_not():
        pytest.skip(why_not())
    try:
        return await played(Plan(("power",), seed=3, agents=10, **options), directory)
    except NoPowerDisk as error:
        pytest.skip(str(error))


@marked
def test_etcd_is_measured_in_the_same_way(tmp_path, run, program):
    program("etcd")
    plan = Plan(("kill",), rounds=1, seed=1, agents=5)
    (measured,) = run(etcd.run("tuned", plan, tmp_path / "etcd", print), timeout=100)
    assert 50 < measured.gap_ms < 30_000, "nobody leads for a moment, and then somebody does"


def test_the_gap_ends_with_the_first_write_that_was_acknowledged(run):
    async def story() -> tuple[float | None, int]:
        began = asyncio.get_running_loop().time()
        asked = 0

        async def write(number: int) -> bool:
            nonlocal asked
            asked += 1
            # The first is stuck for long, those after it are refused, the sixth is taken.
            await asyncio.sleep(0.3 if number == 0 else 0.001)
            return number in (0, 5)

        return await until_written(write, began), asked

    gap, asked = run(story())
    assert gap is not None
    assert 0.05 <= gap < 0.29
    assert 6 <= asked < 25


def test_no_write_in_time_is_no_gap(run):
    async def never(_number: int) -> bool:
        return False

    async def story() -> float | None:
        return await until_written(never, 0.0, seconds=0.05)

    assert run(story()) is None


def test_an_etcd_message_is_read_as_it_was_written():
    message = etcd.put_request(b"key", b"v" * 300)
    assert etcd.fields(message) == {1: b"key", 2: b"v" * 300}
    # Field 4, a varint of more than one byte, behind field 1, a message that holds field 2.
    assert etcd.fields(b"\x0a\x02\x10\x05\x20\xac\x02") == {1: b"\x10\x05", 4: 300}


def test_figures_are_of_the_rounds_that_have_them():
    rounds = [Round("kill", "n1", float(gap), back_ms=1.0) for gap in range(1, 101)]
    rounds.append(Round("kill", "n1", None))
    found = figures(rounds)
    assert (found["rounds"], found["gap_median_ms"], found["gap_p99_ms"]) == (101, 50.0, 99.0)
    assert found["gap_worst_ms"] == 100.0
    report = Report(1, rounds=rounds, seconds=50.5)
    assert report.availability == 0.9
    assert any("raftalloc, kill" in line for line in table(report))
