"""What all commands have in common: help, exit codes, errors, endpoints, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer

from raftalloc import errors
from raftalloc.api.v1 import allocator_pb2, types_pb2, usage_pb2
from raftalloc.cli import connection, output
from raftalloc.cli.main import app
from raftalloc.cli.output import EXIT_MEANINGS, Exit


def commands() -> list[tuple[str, ...]]:
    """Every command as it is typed, from the app itself."""
    root = typer.main.get_command(app)
    found: list[tuple[str, ...]] = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]  # it is a group
        below = getattr(command, "commands", None)
        found += [(name, verb) for verb in below] if below else [(name,)]
    return sorted(found)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_and_json(words, raftalloc):
    shown = raftalloc(*words, "--help")
    assert shown.exit_code == 0
    assert "--json" in shown.stdout
    description = shown.stdout.partition("Usage:")[2].splitlines()[2].strip()
    assert len(description) > 20, "a command says what it does"


def test_help_lists_every_exit_code(raftalloc):
    shown = raftalloc("--help").stdout
    for code in EXIT_MEANINGS:
        assert f" {int(code)}  " in shown


def test_every_exit_code_has_a_meaning():
    assert set(EXIT_MEANINGS) == set(Exit)


def test_the_version_is_shown(raftalloc):
    assert raftalloc("--version").stdout.startswith("raftalloc ")


def test_an_unknown_command_is_a_usage_error(raftalloc):
    assert raftalloc("frobnicate").exit_code == Exit.USAGE


ERRORS = [
    (errors.InvalidRequest("resources.cpu", "is negative", "ask for more"), Exit.USAGE),
    (errors.ConfigError("cluster.toml:3: port"), Exit.USAGE),
    (errors.Rejected("NO_CAPACITY", "no room", remedy="wait"), Exit.NO),
    (errors.Compacted(1, 7), Exit.NO),
    (errors.NoLeader("nobody leads"), Exit.UNAVAILABLE),
    (errors.NotLeader("n2"), Exit.UNAVAILABLE),
    (errors.Overloaded("too much"), Exit.UNAVAILABLE),
    (errors.OutcomeUnknown("lost"), Exit.UNKNOWN),
    (errors.Unauthenticated("who?"), Exit.FORBIDDEN),
    (errors.Forbidden("no"), Exit.FORBIDDEN),
    (errors.DataDirectoryError("in use by pid 7"), Exit.LOCAL),
    (errors.ReplicaFailed("stopped itself"), Exit.LOCAL),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda each: type(each).__name__)
def test_every_error_has_its_exit_code_and_no_traceback(error, code, group, raftalloc, monkeypatch):
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("raftalloc.client.services.UsageService.utilization", fail)
    shown = raftalloc("usage")
    assert shown.exit_code == code
    assert "Traceback" not in shown.stderr
    assert "error" in shown.stderr
    assert shown.stdout == ""


def test_every_error_of_the_package_is_tried_above():
    tried = {type(error) for error, _ in ERRORS}
    all_errors = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.RaftallocError)
    }
    assert all_errors - tried == {errors.RaftallocError, errors.Unavailable}


def test_an_error_names_field_and_remedy(group, raftalloc):
    shown = raftalloc("submit", "cpu=-1")
    assert shown.exit_code == Exit.USAGE
    assert "resources.cpu: -1 is too little" in shown.stderr
    assert "remedy ask for more than 0" in shown.stderr
    assert group.asked == []


def test_an_error_is_json_on_stdout_where_json_is_asked_for(group, raftalloc):
    shown = raftalloc("submit", "cpu=-1", "--json")
    assert shown.stderr == ""
    error = json.loads(shown.stdout)["error"]
    assert (error["field"], error["exit_code"]) == ("resources.cpu", Exit.USAGE)
    assert error["remedy"]


def test_a_rejection_keeps_its_numbers_in_json(group, raftalloc):
    rejection = errors.Rejected("NO_CAPACITY", "no room", numbers={"asked": 4000})
    group.answer("Get", rejection)
    error = json.loads(raftalloc("allocation", "show", "7", "--json").stdout)["error"]
    assert error["code"] == "NO_CAPACITY"
    assert error["numbers"] == {"asked": 4000}


def test_names_are_never_taken_for_markup(group, raftalloc):
    group.answer("Get", errors.Rejected("X", "there is no [red]node[/red] [/]"))
    assert "[red]node[/red] [/]" in raftalloc("allocation", "show", "7").stderr


def test_endpoints_come_from_the_option_the_environment_or_the_usual_ports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert connection.known_endpoints(["a:1,b:2", "c:3"]) == ("a:1", "b:2", "c:3")
    assert connection.known_endpoints(None) == connection.DEFAULT_ENDPOINTS


def test_the_environment_names_endpoints(group, raftalloc, monkeypatch):
    seen = []
    opened = connection.open_client

    def noting(endpoints, timeout):
        seen.append(endpoints)
        return opened(endpoints, timeout)

    monkeypatch.setattr(connection, "open_client", noting)
    group.answer("Utilization", usage_pb2.UtilizationResponse())
    monkeypatch.setenv("RAFTALLOC_ENDPOINTS", "127.0.0.1:9001,127.0.0.1:9002")
    assert raftalloc("usage").exit_code == Exit.OK
    assert seen == [("127.0.0.1:9001", "127.0.0.1:9002")]


def test_nobody_listening_is_unavailable_and_says_what_to_do(tmp_path, raftalloc, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = raftalloc("usage", "-e", "127.0.0.1:1", "--timeout", "0.3")
    assert shown.exit_code == Exit.UNAVAILABLE
    assert "raftalloc status" in shown.stderr


def test_a_malformed_endpoint_is_a_usage_error(raftalloc):
    shown = raftalloc("usage", "-e", "nonsense")
    assert shown.exit_code == Exit.USAGE
    assert "nonsense" in shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_had(shell):
    environment = {**os.environ, "_RAFTALLOC_COMPLETE": f"source_{shell}"}
    shown = subprocess.run(
        [sys.executable, "-c", "from raftalloc.cli.main import app; app(prog_name='raftalloc')"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "raftalloc" in shown.stdout


def test_json_of_a_message_has_numbers_and_short_names():
    allocation = allocator_pb2.GetResponse()
    allocation.allocation.id = 1 << 60
    allocation.allocation.state = types_pb2.Allocation.STATE_LIVE
    allocation.allocation.resources["cpu"] = 4000
    plain = output.plain(allocation)["allocation"]
    assert isinstance(plain, dict)
    assert (plain["id"], plain["state"], plain["priority"]) == (1 << 60, "LIVE", "")
    assert plain["resources"] == {"cpu": 4000}
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    ("length_ms", "words"),
    [
        (0, "-"),
        (7, "7ms"),
        (2500, "2.5s"),
        (59_000, "59s"),
        (61_000, "1m 1s"),
        (90_061_000, "1d 1h"),
    ],
)
def test_lengths_of_time_are_shown_in_their_two_largest_units(length_ms, words):
    assert output.span(length_ms) == words
