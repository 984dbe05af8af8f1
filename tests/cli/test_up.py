"""`raftalloc up`, `down` and the commands between them, against a real replica of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from raftalloc.cli.group import LocalGroup
from raftalloc.cli.output import Exit

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

COMMAND = [sys.executable, "-c", "from raftalloc.cli.main import main; main()"]


@pytest.fixture
def one_replica(tmp_path, monkeypatch, raftalloc):
    """A group of one in ./local, where every command finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAFTALLOC_ENDPOINTS", raising=False)
    shown = raftalloc("up", "--replicas", "1", "--detach", "--any-ports", "--json")
    assert shown.exit_code == Exit.OK, shown.stdout + shown.stderr
    yield json.loads(shown.stdout)
    assert raftalloc("down").exit_code == Exit.OK


def test_a_session_at_the_command_line(one_replica, raftalloc):
    def ok(*words: str) -> Any:
        shown = raftalloc(*words, "--json")
        assert shown.exit_code == Exit.OK, shown.stdout + shown.stderr
        return json.loads(shown.stdout)

    def no(*words: str) -> Any:
        shown = raftalloc(*words)
        assert shown.exit_code == Exit.NO, shown.stdout + shown.stderr
        return shown.stderr

    ok("node", "register", "box", "cpu=8", "memory=16", "--gpu", "T4:2", "-a", "zone=a")
    ok("node", "register", "llm", "--provider", "api_quota=1000")
    ok("quota", "set", "auditor", "cpu=6")

    answer = ok("submit", "cpu=4", "memory=8", "api_quota=500", "-a", "auditor_01", "--lease", "1m")
    (granted,) = answer["granted"]["allocations"]
    assert granted["suppliers"] == {"cpu": "box", "memory": "box", "api_quota": "llm"}
    assert ok("allocation", "show", str(granted["id"]))["allocation"]["state"] == "LIVE"

    assert "auditor" in no("submit", "cpu=4", "-a", "auditor_02"), "the quota is named"
    assert no("submit", "cpu=9")
    assert raftalloc("explain", "cpu=5").exit_code == Exit.NO
    waits = raftalloc("submit", "cpu=6", "-a", "other", "--wait", "1m", "--json")
    assert waits.exit_code == Exit.QUEUED
    request_id = str(json.loads(waits.stdout)["queued"]["request_id"])
    assert raftalloc("explain", request_id, "--json").exit_code == Exit.NO

    ok("allocation", "release", str(granted["id"]))
    # The release made room for what waited.
    assert ok("allocation", "show", request_id)["allocation"]["state"] == "LIVE"
    assert raftalloc("watch", request_id, "--until", "granted").exit_code == Exit.OK
    assert no("allocation", "release", str(granted["id"]))

    history = ok("events", "history", "--agent", "auditor_01")
    assert [row["end_reason"] for row in history["rows"]] == ["RELEASED"]
    lines = raftalloc("events", "read", "--type", "Granted", "--json").stdout.splitlines()
    assert [json.loads(line)["agent_id"] for line in lines] == ["auditor_01", "other"]
    assert ok("usage")["active_allocations"] == 1
    status = ok("status", "--digest")
    assert status["leader"] == "n1"
    assert not status["digests_differ"]
    assert raftalloc("top", "--once").exit_code == Exit.OK


def test_up_again_does_nothing_and_other_replica_counts_are_refused(one_replica, raftalloc):
    again = raftalloc("up", "--replicas", "1", "--detach", "--json")
    assert json.loads(again.stdout)["replicas"] == one_replica["replicas"]
    refused = raftalloc("up", "--replicas", "1")
    assert refused.exit_code == Exit.LOCAL
    assert "raftalloc down" in refused.stderr


def test_a_directory_keeps_its_number_of_replicas(tmp_path, monkeypatch, raftalloc):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    assert raftalloc("up", "--replicas", "2").exit_code == Exit.USAGE
    LocalGroup.create(tmp_path / "local", replicas=1, any_ports=True)
    shown = raftalloc("up", "--replicas", "3", "--detach")
    assert shown.exit_code == Exit.LOCAL
    assert "a group of 1" in shown.stderr


def test_down_without_a_group_is_no_error(tmp_path, monkeypatch, raftalloc):
    monkeypatch.chdir(tmp_path)
    assert raftalloc("down").exit_code == Exit.OK


def wait_for(condition, seconds: float = 60.0):
    give_up = time.perf_counter() + seconds
    while time.perf_counter() < give_up:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_ends_its_replicas_with_ctrl_c(tmp_path, number):
    words = ["up", "--replicas", "1", "--any-ports"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "leads" in first, first
        record = json.loads((tmp_path / "local" / "run.json").read_text())
        pid = record["replicas"]["n1"]["pid"]
        assert is_running(pid)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == Exit.OK
    assert "Traceback" not in said
    assert not is_running(pid)


def test_the_demo_ends_its_replicas_with_ctrl_c_and_leaves_nothing(tmp_path):
    words = ["demo", "--nodes", "50", "--agents", "5"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        records = wait_for(lambda: list(tmp_path.glob("local/demo-*/run.json")))
        wait_for(lambda: "replicas" in records[0].read_text())
        rows = json.loads(records[0].read_text())["replicas"].values()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, said
    assert "Traceback" not in said
    assert not any(is_running(row["pid"]) for row in rows)
    assert list(tmp_path.glob("local/demo-*")) == []
