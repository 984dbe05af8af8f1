"""The demonstration's verdict becomes its exit code and report, and a failed run is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from raftalloc.cli.demo import command
from raftalloc.cli.demo.collect import Digests
from raftalloc.cli.demo.log import Fault
from raftalloc.cli.demo.report import Course, Judgement, Report, report_of
from raftalloc.cli.demo.tally import Tally
from raftalloc.cli.output import Exit
from raftalloc.errors import InvalidRequest, Unavailable

SURFACE = [
    "acknowledged",
    "lost",
    "duplicated",
    "over_capacity",
    "digests_equal",
    "failover_ms",
    "allocations_per_s",
    "p50_ms",
    "p99_ms",
    "replicas",
    "nodes",
    "agents",
]
COURSE = Course(
    replicas=3,
    nodes=1000,
    agents=5,
    began=10.0,
    ended=30.0,
    killed_at=15.0,
    killed="n1",
    new_leader="n2",
    left=0,
)
NOTHING = Judgement(lost=[], duplicated=[], over_capacity=[], disagreements=[])
EQUAL = Digests(9, {"n1": ("a", "b"), "n2": ("a", "b")}, {"n1": "ok", "n2": "ok"})


def report(
    judgement: Judgement = NOTHING,
    found: Digests = EQUAL,
    tally: Tally | None = None,
    acknowledged: int = 100,
) -> Report:
    tally = tally or Tally(granted=100, calls=[(11.0, 11.01), (15.2, 15.6)])
    return report_of(COURSE, tally, acknowledged, found, judgement, events=500)


def fault(check: str, replica: str = "n1") -> Fault:
    return Fault(check, replica, 4, "grant 7")


def test_a_clean_run_passes_and_has_every_figure():
    made = report()
    assert made.passed
    assert set(SURFACE) <= set(made.plain())
    assert (made.failover_ms, made.allocations_per_s) == (600.0, 5.0)
    assert made.digests_equal


FAILURES = {
    "lost": report(replace(NOTHING, lost=[fault("lost")])),
    "duplicated": report(replace(NOTHING, duplicated=[fault("duplicated")])),
    "over capacity": report(replace(NOTHING, over_capacity=[fault("over_capacity")])),
    "logs differ": report(replace(NOTHING, disagreements=[fault("disagreement")])),
    "digests differ": report(found=replace(EQUAL, by_replica={"n1": ("a", "b"), "n2": ("a", "c")})),
    "unsound": report(found=replace(EQUAL, invariants={"n1": "ok", "n2": "used is not the sum"})),
    "no failover": report(tally=Tally(granted=1, calls=[(11.0, 11.01)])),
    "nothing done": report(acknowledged=0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_run_with_any_one_fault_fails(name):
    assert not FAILURES[name].passed


def test_the_same_loss_on_three_replicas_is_one_loss():
    lost = [fault("lost", replica) for replica in ("n1", "n2", "n3")]
    assert report(replace(NOTHING, lost=lost)).lost == 1


def play(monkeypatch, outcome):
    async def played(plan, directory, console):
        (directory / "data").mkdir()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(command, "_played", played)


def kept(tmp_path):
    return list(tmp_path.glob("local/demo-*"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_that_passed_exits_with_0_and_leaves_nothing(tmp_path, monkeypatch, raftalloc):
    play(monkeypatch, report())
    shown = raftalloc("demo", "--json")
    assert shown.exit_code == Exit.OK
    answer = json.loads(shown.stdout)
    assert (answer["passed"], answer["kept_in"]) == (True, "")
    assert "passed" in shown.stderr
    assert kept(tmp_path) == []


def test_a_run_that_failed_exits_with_1_and_is_kept(tmp_path, monkeypatch, raftalloc):
    play(monkeypatch, FAILURES["lost"])
    shown = raftalloc("demo", "--json")
    assert shown.exit_code == Exit.NO
    (directory,) = kept(tmp_path)
    answer = json.loads(shown.stdout)
    assert (answer["lost"], answer["kept_in"]) == (1, str(directory.relative_to(tmp_path)))
    assert answer["faults"] == ["lost n1 4: grant 7"]
    assert "FAILED" in shown.stderr


def test_a_run_without_a_verdict_is_kept_too(tmp_path, monkeypatch, raftalloc):
    play(monkeypatch, Unavailable("no leader"))
    shown = raftalloc("demo")
    assert shown.exit_code == Exit.UNAVAILABLE
    assert "no verdict" in shown.stdout
    assert len(kept(tmp_path)) == 1


def test_a_run_that_was_stopped_leaves_nothing(tmp_path, monkeypatch, raftalloc):
    play(monkeypatch, None)
    assert raftalloc("demo").exit_code == Exit.INTERRUPTED
    assert kept(tmp_path) == []


def test_keep_keeps_a_run_that_passed(tmp_path, monkeypatch, raftalloc):
    play(monkeypatch, report())
    assert raftalloc("demo", "--keep").exit_code == Exit.OK
    assert len(kept(tmp_path)) == 1


def test_the_script_writes_its_report_to_a_file(tmp_path, monkeypatch):
    play(monkeypatch, report())
    command.perform(
        command._plan(True, 50, None, None, 1), tmp_path, report_to="r.json", keep=False
    )
    assert json.loads((tmp_path / "r.json").read_text())["passed"]


def test_a_report_that_cannot_be_written_is_refused_before_the_run(
    tmp_path, monkeypatch, raftalloc
):
    play(monkeypatch, AssertionError("it must not be played"))
    with pytest.raises(InvalidRequest, match="nowhere"):
        command.perform(
            command._plan(True, 50, None, None, 1),
            tmp_path,
            report_to="nowhere/r.json",
            keep=False,
        )
