"""`raftallocd` as a process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from raftalloc.client.transport import GrpcTransport
from raftalloc.server.main import EXIT_CONFIG, EXIT_DIRECTORY, main
from tests.server.asking import allocate_request, ask, register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Run

START_SECONDS = 30


def configured(path: Path, ports: list[int]) -> Path:
    names = ("grpc", "raft", "http")
    lines = [f'{name} = "127.0.0.1:{port}"' for name, port in zip(names, ports, strict=True)]
    text = (
        '[cluster]\nid = "t"\n[logging]\nformat = "json"\n[tls]\nmode = "off"\n[replicas.n1]\n'
        + "\n".join(lines)
    )
    (path / "cluster.toml").write_text(text + "\n")
    return path / "cluster.toml"


@contextmanager
def running(config: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, killed at the end if it still runs."""
    arguments = [sys.executable, "-m", "raftalloc.server.main", "--config", str(config)]
    log = (config.parent / "log").open("ab")
    process = subprocess.Popen([*arguments, "--replica", "n1", *options], stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        log.close()


def page(port: int, name: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except urllib.error.URLError as error:
        return 0, str(error).encode()


def wait_ready(port: int, config: Path) -> None:
    until = time.perf_counter() + START_SECONDS
    while page(port, "readyz")[0] != 200:
        assert time.perf_counter() < until, (config.parent / "log").read_text()
        time.sleep(0.05)


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_a_signal_ends_it_cleanly(
    tmp_path: Path, free_ports: Callable[[int], list[int]], number: signal.Signals
):
    ports = free_ports(3)
    config = configured(tmp_path, ports)
    with running(config) as process:
        wait_ready(ports[2], config)
        assert page(ports[2], "healthz") == (200, b"ok\n")
        assert b"raftalloc_raft_is_leader" in page(ports[2], "metrics")[1]
        process.send_signal(number)
        assert process.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert "replica is down" in log
    assert "Traceback" not in log


@pytest.mark.cluster
def test_kill_9_loses_nothing_that_was_acknowledged(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    ports = free_ports(3)
    config = configured(tmp_path, ports)

    async def granted() -> int:
        transport = GrpcTransport(f"127.0.0.1:{ports[0]}")
        await register(transport)
        answer = await ask(transport, "Allocator/Allocate", allocate_request())
        await transport.close()
        return int(answer.granted.allocations[0].fencing_token)

    tokens = []
    for _ in range(2):
        with running(config) as process:
            wait_ready(ports[2], config)
            tokens.append(run(granted()))
            process.kill()
            process.wait(10)
    assert tokens == [1, 2], "the second life knew of the first one's grant"


@pytest.mark.cluster
def test_a_second_process_is_told_who_has_the_directory(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
):
    ports = free_ports(6)
    config = configured(tmp_path, ports[:3])
    (tmp_path / "other").mkdir()
    other = configured(tmp_path / "other", ports[3:])
    data = str(tmp_path / "data")
    with running(config, "--data-dir", data) as first:
        wait_ready(ports[2], config)
        with running(other, "--data-dir", data) as second:
            assert second.wait(START_SECONDS) == EXIT_DIRECTORY
        assert f"in use by pid {first.pid}" in (tmp_path / "other" / "log").read_text()
        assert page(ports[2], "readyz")[0] == 200


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a start that is refused."""
    code = main(arguments)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_port_in_use_is_named(
    tmp_path: Path,
    free_ports: Callable[[int], list[int]],
    capsys: pytest.CaptureFixture[str],
    row: int,
):
    ports = free_ports(3)
    config = configured(tmp_path, ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[row]))
        taken.listen()
        code, problem = said(capsys, "--config", str(config), "--replica", "n1")
    assert code == EXIT_CONFIG
    name = ("grpc", "raft", "http")[row]
    assert f"127.0.0.1:{ports[row]}, the {name} address of n1, is in use" in problem
    assert not (tmp_path / "raftalloc-data").exists(), "nothing was touched"


def test_bad_configuration_is_said_in_one_line(
    tmp_path: Path, free_ports: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
):
    config = configured(tmp_path, free_ports(3))
    code, problem = said(capsys, "--config", str(config), "--replica", "n2")
    assert code == EXIT_CONFIG
    assert problem == f"raftallocd: {config}: there is no replica 'n2'; there are n1\n"
    config.write_text("[cluster\n")
    code, problem = said(capsys, "--config", str(config), "--replica", "n1", "--check")
    assert code == EXIT_CONFIG
    assert problem.startswith(f"raftallocd: {config}:1: ")


def test_the_directory_of_another_group_is_refused_untouched(
    tmp_path: Path, free_ports: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
):
    config = configured(tmp_path, free_ports(3))
    data = tmp_path / "data"
    data.mkdir()
    identity = '{"format": 1, "cluster_id": "other", "replica_id": "n1"}'
    (data / "identity.json").write_text(identity)
    code, problem = said(
        capsys, "--config", str(config), "--replica", "n1", "--data-dir", str(data)
    )
    assert code == EXIT_DIRECTORY
    assert "belongs to cluster 'other', not 't'" in problem
    assert os.listdir(data) == ["identity.json"]
    assert (data / "identity.json").read_text() == identity


def test_checking_a_configuration_starts_nothing(
    tmp_path: Path, free_ports: Callable[[int], list[int]], capsys: pytest.CaptureFixture[str]
):
    config = configured(tmp_path, free_ports(3))
    assert said(capsys, "--config", str(config), "--replica", "n1", "--check") == (0, "")
    assert said(capsys, "--config", str(config), "--check") == (0, "")
    assert os.listdir(tmp_path) == ["cluster.toml"]


def test_it_does_not_run_without_assertions(tmp_path: Path):
    started = subprocess.run(
        [sys.executable, "-O", "-m", "raftalloc.server.main", "--config", "x", "--replica", "n1"],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert started.returncode == 2
    assert "run without -O" in started.stderr


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for code in ("70", "73", "78"):
        assert code in text
