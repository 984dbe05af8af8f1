"""The ports of production."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.system import (
    SystemClock,
    SystemDisk,
    SystemNet,
    SystemRng,
    SystemSpawn,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raftalloc.ports import Stream
    from raftalloc.system import SystemChild
    from tests.conftest import Ports, Run

DISK = SystemDisk()


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = str(tmp_path / "file")
    assert DISK.read(path) is None
    DISK.write(path, b"one")
    DISK.write(path, b"two")
    assert DISK.read(path) == b"two"
    assert DISK.list(str(tmp_path)) == ["file"], "nothing is left beside it"


def test_directories_are_made_listed_and_removed_whether_they_are_there_or_not(tmp_path: Path):
    path = str(tmp_path / "a" / "b")
    assert DISK.list(path) == []
    DISK.make_directory(path)
    DISK.make_directory(path)
    DISK.write(f"{path}/file", b"")
    DISK.remove_tree(str(tmp_path / "a"))
    DISK.remove_tree(str(tmp_path / "a"))
    assert DISK.list(str(tmp_path)) == []


def test_a_lock_is_held_against_other_processes_and_goes_with_its_holder(tmp_path: Path):
    path = str(tmp_path / "lock")
    program = (
        "import sys, time; from raftalloc.system import SystemDisk;"
        "release = SystemDisk().lock(sys.argv[1]); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DataDirectoryError, match=f"in use by pid {other.pid}"):
            DISK.lock(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    DISK.lock(path)()


def test_a_free_port_can_be_bound_and_a_taken_one_cannot(free_ports: Callable[[int], list[int]]):
    (port,) = free_ports(1)
    assert SystemNet().can_bind("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        assert not SystemNet().can_bind("127.0.0.1", port)


def test_an_address_of_another_machine_cannot_be_bound():
    assert not SystemNet().can_bind("192.0.2.1", 7000)


def test_random_numbers_are_in_their_range_and_tokens_differ():
    rng = SystemRng()
    assert all(0 <= rng.random() < 1 for _ in range(1000))
    assert len({rng.token(16) for _ in range(100)}) == 100


class Owner:
    """Keeps what a stream says."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.heard = b""
        self.problems: list[str] = []
        self.drains = 0

    def opened(self, stream: Stream) -> None:
        self.stream = stream

    def received(self, data: memoryview) -> None:
        self.heard += bytes(data)

    def drained(self) -> None:
        self.drains += 1

    def closed(self, problem: str) -> None:
        self.problems.append(problem)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await SystemClock().sleep(0.005)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_streams_carry_bytes_both_ways_and_say_when_they_are_full(
    host: str, run: Run, free_ports: Ports
):
    (port,) = free_ports(1)

    async def story() -> None:
        net, here, there, addresses = SystemNet(), Owner(), Owner(), list[str]()

        def admit(address: str) -> Owner:
            addresses.append(address)
            return there

        close = net.listen(host, port, admit, lambda error: None)
        net.connect(host, port, here)
        await until(lambda: here.stream and there.stream)
        assert here.stream is not None
        assert there.stream is not None
        assert not here.stream.is_to_itself
        there.stream.write(b"welcome")
        await until(lambda: here.heard == b"welcome")
        here.stream.write(b"x" * (16 << 20))
        assert here.stream.is_full
        await until(lambda: len(there.heard) == 16 << 20)
        await until(lambda: here.drains == 1)
        assert not here.stream.is_full
        here.stream.abort()
        await until(lambda: here.problems and there.problems)
        close()
        assert addresses == [host]

    run(story())


def test_who_is_not_admitted_is_closed_on(run: Run, free_ports: Ports):
    (port,) = free_ports(1)

    async def story() -> None:
        net, owner = SystemNet(), Owner()
        close = net.listen("127.0.0.1", port, lambda address: None, lambda error: None)
        net.connect("127.0.0.1", port, owner)
        await until(lambda: owner.problems)
        close()
        close()
        refused = Owner()
        net.connect("127.0.0.1", port, refused)
        await until(lambda: refused.problems)
        assert refused.stream is None

    run(story())


def test_names_are_never_looked_up():
    with pytest.raises(ValueError, match="localhost"):
        SystemNet().connect("localhost", 7001, Owner())


def test_a_process_without_descriptors_goes_on_listening(run: Run, free_ports: Ports):
    (port,) = free_ports(1)

    async def story() -> None:
        net, errors, owners = SystemNet(), list[OSError](), list[Owner]()

        def admit(address: str) -> Owner:
            owners.append(Owner())
            return owners[-1]

        close = net.listen("127.0.0.1", port, admit, errors.append)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as caller:
            caller.setblocking(False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (caller.fileno() + 1, limits[1]))
            try:
                await asyncio.get_running_loop().sock_connect(caller, ("127.0.0.1", port))
                await until(lambda: errors)
                assert owners == []
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await until(lambda: owners and owners[0].stream)
        await until(lambda: owners[0].problems)
        assert errors[0].errno == errno.EMFILE
        close()

    run(story())


async def _send_much(child: SystemChild) -> None:
    for _ in range(100):
        await child.send(b"x" * 100_000)


def test_a_child_speaks_in_frames_and_ends_with_its_input(tmp_path: Path, run: Run):
    async def story() -> None:
        child = await SystemSpawn().child("raftalloc.storage.process", [str(tmp_path)])
        assert await child.receive()
        assert child.pid != os.getpid()
        await child.stop()
        with pytest.raises(EOFError):
            await child.receive()
        with pytest.raises(EOFError):
            await _send_much(child)

    run(story())


def test_sleeping_and_calling_later_happen_in_order(run: Run):
    async def story() -> None:
        clock, calls = SystemClock(), []
        clock.call_later(0.02, lambda: calls.append("later"))
        clock.call_soon(lambda: calls.append("soon"))
        clock.call_later(0.01, lambda: calls.append("never")).cancel()
        started = clock.monotonic()
        await clock.sleep(0.04)
        assert calls == ["soon", "later"]
        assert clock.monotonic() - started >= 0.04
        assert clock.wall_ms() > 1_600_000_000_000

    run(story())
