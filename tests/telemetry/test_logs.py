from __future__ import annotations

import io
import json
import logging

import pytest

from raftalloc.telemetry import logs


@pytest.fixture(autouse=True)
def logging_as_it_was():
    root, ours = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
    logs.bind_request()


def written(style: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, style, "n1", stream)
    return stream


def test_json_is_one_object_a_line_with_replica_request_and_fields():
    stream = written("json")
    logs.bind_request(request_id="r7", principal="local")
    logs.get_logger("service.engine").info("snapshot written", index=3, text="a\nb")
    record = json.loads(stream.getvalue())
    timestamp = record.pop("timestamp")
    assert timestamp.endswith("Z")
    assert record == {
        "event": "snapshot written",
        "level": "info",
        "logger": "raftalloc.service.engine",
        "replica": "n1",
        "request_id": "r7",
        "principal": "local",
        "index": 3,
        "text": "a\nb",
    }


def test_other_libraries_and_our_stdlib_loggers_are_written_the_same_way():
    stream = written("json")
    logging.getLogger("grpc").warning("lost %s", "it")
    logging.getLogger("grpc").info("not this")
    logging.getLogger("raftalloc.raft.member").info("applied")
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [record["event"] for record in records] == ["lost it", "applied"]
    assert {record["replica"] for record in records} == {"n1"}


def test_levels_below_the_configured_one_are_not_written():
    stream = written("json", "warning")
    logs.get_logger("x").info("not this")
    logs.get_logger("x").warning("but this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["but this"]


def test_binding_a_request_forgets_the_one_before():
    stream = written("json")
    logs.bind_request(request_id="r1", principal="p")
    logs.bind_request(request_id="r2")
    logs.get_logger("x").info("now")
    record = json.loads(stream.getvalue())
    assert record["request_id"] == "r2"
    assert "principal" not in record


def test_a_traceback_is_written_without_the_values_of_variables():
    for style in ("json", "console"):
        stream = written(style)
        secret = "a-secret-value"
        try:
            raise ValueError(len(secret))
        except ValueError:
            logs.get_logger("x").exception("it failed")
        assert "ValueError: 14" in stream.getvalue()
        assert secret not in stream.getvalue()


def test_console_is_a_line_for_people():
    stream = written("console")
    logs.get_logger("x").info("took the lead", term=3)
    line = stream.getvalue()
    assert "took the lead" in line
    assert "term=3" in line
    assert line.count("\n") == 1


def test_nothing_is_written_before_anyone_configures_it(capsys: pytest.CaptureFixture[str]):
    logs.get_logger("embedded").warning("unheard")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
