"""Runs tests/scenarios/*.txt against the machine: each step's events and outcomes are compared as text.

`pytest tests/test_scenarios.py --rewrite` writes what happened instead. Commit only what you understand and want.
The language is described in tests/scenarios/language.py, what is checked besides in tests/scenarios/stage.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.stage import SCENARIOS, play

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path, request):
    expected = path.read_text(encoding="utf-8")
    happened = play(expected)
    if request.config.getoption("--rewrite"):
        path.write_text(happened, encoding="utf-8")
        return
    assert happened == expected


def test_there_are_scenarios():
    assert len(SCENARIOS) >= 15


def test_every_scenario_says_what_it_shows():
    assert [
        path.name for path in SCENARIOS if not path.read_text(encoding="utf-8").startswith("# ")
    ] == []


def test_a_scenario_that_expects_something_else_fails():
    text = "# A node.\nat 1 node n1 cpu=1\n----\nNodeRegistered node_id=n2\n"
    assert play(text) != text


def test_a_line_that_is_not_understood_fails():
    with pytest.raises(AssertionError, match="not understood"):
        play("# A node.\nat 1 node n1 cpu=1 colour=blue\n----\n")


def test_every_process_and_hash_seed_gives_the_same_bytes():
    command = [sys.executable, "-m", "tests.scenarios.stage"]
    digests = {
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(digests) == 1
    assert len(digests.pop().splitlines()) == len(SCENARIOS)
