"""The simulator itself: it is silent about the build as it is, repeats itself, and notices what is taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import directed, directed_snapshots, stock
from tests.simulation.mutants import MUTANTS, applied

ROOT = Path(__file__).parents[2]
BY_SWARM = {
    "cut-always": ("committed", "completeness", "liveness", "not-durable"),
    "votes-twice": ("one-vote",),
    "commit-alone": ("committed", "completeness", "not-durable"),
    "no-idempotency": ("doubled",),
    "no-alarm": ("digests", "invariants"),
}
"""Those that a handful of short seeds finds, and what may see each first. `scripts/simulate --table` shows all."""
BY_SCHEDULE = {
    "commit-unverified": "commit_only_what_is_verified",
    "cut-always": "cut_only_at_a_conflict",
    "never-cut": "cut_at_a_conflict",
    "answers-of-any-term": "answers_of_another_term_do_not_count",
    "votes-counted": "votes_are_collected_by_voter",
    "votes-twice": "one_vote_a_term",
    "no-pre-vote": "nobody_stands_unasked",
    "false-leader": "a_leader_alone_steps_down",
    "read-without-quorum": "a_read_asks_a_majority",
    "two-changes-at-once": "the_next_change_waits_for_the_last",
    "learner-votes": "a_learner_has_no_vote",
    "learner-counts": "what_a_learner_has_commits_nothing",
    "config-applied-on-commit-only": "a_configuration_counts_when_it_is_appended",
    "fresh-votes": "an_emptied_disk_has_no_vote",
    "snapshot-clears-log": "entries_behind_a_snapshot_stay",
    "older-snapshot-wins": "an_older_snapshot_is_not_taken",
    "leads-without-state": "who_has_no_state_does_not_stand",
    "transfer-begins-anew": "a_transfer_is_not_begun_anew_by_a_compaction",
    "no-window": "who_is_behind_gets_a_window",
    "compact-unsynced": "the_log_forgets_what_is_on_the_disk",
}

pytestmark = pytest.mark.timeout(400)


def simulate(*arguments: str, hash_seed: str = "random") -> tuple[int, dict[str, Any], str]:
    """Run the command; its exit code, its report, and what it told people."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--json", "-", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_short_runs_under_every_fault_violate_nothing():
    code, report, told = simulate("--seeds", "20", "--seconds", "6")
    assert report["violations"] == [], told
    assert code == 0
    assert report["seeds"] == 20
    assert report["simulated_seconds"] > 20 * 6
    assert report["counts"]["answered"] > 500, "or the faults let nobody through"
    assert report["counts"]["read"] > 500
    assert sum(report["faults"].values()) > 50


def test_a_bit_that_turns_over_in_one_replica_is_noticed_and_does_not_spread():
    code, report, told = simulate("--seeds", "6", "--seconds", "6", "--faults", "flip,slow,kill")
    assert report["violations"] == [], told
    assert code == 0
    flips, noticed = report["faults"]["flip"], report["counts"]["noticed_entries"]
    assert flips >= 5
    assert 0 < noticed / flips < 100, "entries until it stopped"


def test_a_seed_is_the_same_run_again_whatever_the_hashes():
    arguments = ("--start", "3", "--seeds", "2", "--seconds", "4", "--verbose")
    _, _, first = simulate(*arguments, hash_seed="1")
    _, _, second = simulate(*arguments, hash_seed="2")
    assert "trace=" in first
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(BY_SWARM))
def test_a_correction_that_is_taken_away_is_missed(mutant: str):
    code, report, told = simulate("--mutant", mutant, "--seeds", "12", "--seconds", "15")
    assert code == 0, told
    assert report["mutant"] == mutant
    assert report["found_after_seeds"] <= 12
    violation = report["violations"][0]
    assert violation["oracle"] in BY_SWARM[mutant]
    assert f"--start {violation['seed']} " in violation["replay"]
    assert violation["replay"] in told


@pytest.mark.parametrize("name", sorted(directed.SCHEDULES))
def test_the_schedule_holds(name: str):
    directed.SCHEDULES[name]()


@pytest.mark.parametrize("mutant", sorted(BY_SCHEDULE))
def test_the_schedule_fails_without_its_correction(mutant: str):
    with applied(mutant), pytest.raises(AssertionError):
        directed.SCHEDULES[BY_SCHEDULE[mutant]]()
    directed.SCHEDULES[BY_SCHEDULE[mutant]]()


@pytest.mark.parametrize("schedule", sorted(stock.DEFECTS))
def test_the_librarys_own_handler_fails_the_schedule(schedule: str):
    with stock.handlers(), pytest.raises((AssertionError, IndexError)):
        directed.SCHEDULES[schedule]()
    directed.SCHEDULES[schedule]()


def test_the_schedules_about_snapshots_are_among_them():
    assert (
        directed.SCHEDULES.items()
        >= {"who_is_behind_gets_a_window": directed_snapshots.who_is_behind_gets_a_window}.items()
    )


def test_every_mutant_says_what_it_takes_away():
    for mutant in MUTANTS.values():
        assert mutant.says
        assert mutant.defect
        assert mutant.faults
