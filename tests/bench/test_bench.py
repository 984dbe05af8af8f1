"""A short run of scripts/bench, so that it cannot rot, and the arithmetic of its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import machine
from tests.bench.figures import Figures, quantiles_ms

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_quick_run_measures_the_engine_beside_the_floor(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "raft", "--quick", "--json", "figures.json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=180, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text())
    for case in ("100B_1", "100B_64", "100B_1000", "64KB_1", "64KB_64"):
        assert report["raft"][f"{case}_entries"]["median"] > 0
        assert report["raft"][f"{case}_p99"]["median"] >= report["raft"][f"{case}_p50"]["median"]
    assert report["raft"]["16x100_requests"]["unit"] == "1/s"
    assert report["raft"]["failover"]["min"] > 0
    assert report["floor"]["fdatasync_200B_p50"]["median"] > 0
    assert report["ratios"]["one at a time / (3 fdatasync + 2 round trips in TLS)"] > 0
    assert report["machine"]["cores"] >= 1
    assert list((tmp_path / "local").iterdir()) == [], "data is removed"


def test_a_ratio_is_of_medians_and_only_of_what_was_measured():
    figures = Figures()
    for value in (1.0, 9.0, 2.0):
        figures.add("a", "time", value, "ms")
    figures.add("b", "time", 0.5, "ms")
    figures.relate("both", ("a", "time"), [("b", "time", 2.0)])
    figures.relate("half", ("a", "time"), [("b", "time", 1.0), ("c", "time", 1.0)])
    found = figures.plain()
    assert found["a"]["time"] == {"min": 1.0, "median": 2.0, "max": 9.0, "unit": "ms"}
    assert found["ratios"] == {"both": 2.0}
    assert any("both" in line for line in figures.table())


def test_a_figure_has_one_unit():
    figures = Figures()
    figures.add("a", "time", 1.0, "ms")
    with pytest.raises(AssertionError, match="in ms, not in s"):
        figures.add("a", "time", 1.0, "s")


def test_quantiles_are_in_milliseconds():
    assert quantiles_ms(number / 1000 for number in range(1, 101)) == (51.0, 100.0)
    assert quantiles_ms([]) == (0.0, 0.0)


def test_the_machine_and_the_cost_of_a_process_are_known(tmp_path):
    found = machine.described(tmp_path)
    assert " on " in found["file_system"]
    assert found["python"].startswith("3.")
    assert machine.cpu_seconds(os.getpid()) > 0
    assert machine.cpu_seconds(2**22 + 1) == 0.0, "no such process"
