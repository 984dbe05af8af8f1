from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET

import pytest
import typer
from typer.testing import CliRunner

from raftalloc.cli import replay as command
from raftalloc.cli.replayed import drawn_line
from raftalloc.replay.embedded import EmbeddedReplay

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(command.replay)

TRACE = """\
job_id,submit_time_s,duration_s,user,priority,count,cpu_milli,memory_mib
a,0,60,ann,HIGH,2,1000,512
b,10,60,bob,LOW,1,2000,512
c,20,5,bob,LOW,1,99000,512
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE, encoding="utf-8")
    return str(path)


def replayed(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_the_packing_protocol_prints_our_policies_beside_the_published_rows(tmp_path):
    trace, nodes = tmp_path / "gpu.csv", tmp_path / "nodes.csv"
    trace.write_text(
        "job_id,submit_time_s,duration_s,cpu_milli,memory_mib,num_gpu,gpu_milli\n"
        "a,0,,4000,512,1,500\nb,0,,9000,512,1,1000\n",
        encoding="utf-8",
    )
    nodes.write_text(
        "node_id,cpu_milli,memory_mib,num_gpu,gpu_model\nn1,96000,90000,4,T4\n", encoding="utf-8"
    )
    asked = [str(trace), "--nodes", str(nodes), "--protocol", "fgd", "--seeds", "1"]
    report = json.loads(replayed(*asked, "--json").stdout)
    assert {row["policy"]: row["percent"] for row in report["published"]}["FGD"] == 95.39
    assert [row["policy"] for row in report["policies"]][-2:] == ["fgd", "least_waste"]
    assert all(0 < row["percent"] <= 100 for row in report["policies"])
    assert "least_waste" in replayed(*asked).stdout


def test_an_embedded_replay_reports_as_json(trace, tmp_path):
    picture = tmp_path / "use.svg"
    result = replayed(
        trace, "--nodes", "uniform:1,cpu=2,memory=4", "--embedded", "--json", "--verify",
        "--picture", str(picture), "--policy", "worst_fit",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["policy"], report["placed"], report["lost"]) == ("worst_fit", 3, 0)
    assert report["rejected"] == {"UNSATISFIABLE": 1}
    assert report["waits_s"]["LOW"]["p50"] == 50.0
    assert report["violations"] == []
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_people_get_tables(trace):
    result = replayed(trace, "--nodes", "uniform:1,cpu=2,memory=4", "--embedded", "--gangs")
    assert result.exit_code == 0, result.output
    for words in ("embedded, best_fit, gangs", "1 UNSATISFIABLE", "HIGH", "utilisation", "cpu"):
        assert words in result.stdout


def test_only_the_first_rows_where_there_is_a_limit(trace):
    result = replayed(
        trace, "--nodes", "uniform:1,cpu=2,memory=4", "--embedded", "--json", "--limit", "1"
    )
    assert json.loads(result.stdout)["submitted"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--nodes", "uniform:0,cpu=1", "--embedded"), "uniform:0"),
        (("--nodes", "none.csv", "--embedded"), "none.csv"),
        (("--nodes", "uniform:1,cpu=1", "--embedded", "--speed", "2"), "speed"),
        (("--nodes", "uniform:1,cpu=1", "--embedded", "--keep"), "keep"),
        (("--nodes", "uniform:1,cpu=1", "--verify"), "verify"),
        (("--nodes", "uniform:1,cpu=1", "--speed", "0"), "speed"),
        (("--nodes", "uniform:1,cpu=1", "--speed", "nan"), "speed"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_done(trace, arguments, words):
    result = replayed(trace, *arguments, "--json")
    assert result.exit_code == 2
    assert words in json.loads(result.stdout)["error"]["field"]


def test_a_bad_row_is_named_by_line_and_column(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(TRACE + "d,30,5,ann,HIGH,many,1,1\n", encoding="utf-8")
    result = replayed(str(path), "--nodes", "uniform:1,cpu=2", "--embedded", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["field"] == f"{path}, line 5, column count"


def test_a_trace_that_asks_for_nothing_is_refused(tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text(TRACE.splitlines()[0] + "\na,0,1,u,LOW,1,0,0\n", encoding="utf-8")
    result = replayed(str(path), "--nodes", "uniform:1,cpu=2", "--embedded", "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["field"]) == (2, str(path))


def test_ctrl_c_ends_it_with_the_report_of_what_was_done(trace, monkeypatch):
    submit = EmbeddedReplay._submit

    def submit_and_press(self, at_ms, block):
        submit(self, at_ms, block)
        if at_ms > 5_000:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(EmbeddedReplay, "_submit", submit_and_press)
    before = signal.getsignal(signal.SIGINT)
    result = replayed(trace, "--nodes", "uniform:1,cpu=2,memory=4", "--embedded", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 130
    assert (report["interrupted"], report["submitted"]) == (True, 3)
    assert signal.getsignal(signal.SIGINT) is before


def test_violations_and_losses_make_it_fail(trace, monkeypatch):
    monkeypatch.setattr(EmbeddedReplay, "verify", lambda _: ["the books do not balance"])
    result = replayed(trace, "--nodes", "uniform:1,cpu=2,memory=4", "--embedded", "--verify")
    assert result.exit_code == 1
    assert "the books do not balance" in result.stdout


@pytest.mark.parametrize(
    ("shares", "line"),
    [([], ""), ([0.0, 0.0], ""), ([0.0, 0.005, 0.01], " ▄█"), ([0.25, 0.5, 1.0], "▂▄█")],
)
def test_the_course_of_a_kind_is_drawn_as_high_as_its_peak(shares, line):
    assert drawn_line(shares) == line
