"""The ports of production."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.system import (
    LoopPoller,
    SystemClock,
    SystemDisk,
    SystemNet,
    SystemRng,
    SystemSpawn,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raftalloc.system import SystemChild
    from tests.conftest import Run

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


def test_the_poller_calls_back_until_it_is_told_not_to(run: Run):
    async def story() -> None:
        poller = LoopPoller()
        events: list[tuple[int, int]] = []
        turns: list[int] = []
        poller.attach(lambda: turns.append(1), lambda error: None)
        left, right = socket.socketpair()
        with left, right:
            poller.subscribe(left.fileno(), lambda fd, mask: events.append((fd, mask)), 1 | 2 | 4)
            await asyncio.sleep(0.01)
            assert (left.fileno(), 2) in events
            poller.subscribe(left.fileno(), lambda fd, mask: events.append((fd, mask)), 1 | 4)
            await asyncio.sleep(0)
            events.clear()
            right.send(b"x")
            await asyncio.sleep(0.01)
            assert set(events) == {(left.fileno(), 1)}
            poller.unsubscribe(left.fileno())
            await asyncio.sleep(0)
            events.clear()
            await asyncio.sleep(0.01)
            assert events == []
            assert turns

    run(story())


def test_a_socket_may_be_closed_before_the_poller_is_told(run: Run):
    async def story() -> None:
        poller = LoopPoller()
        left, right = socket.socketpair()
        descriptor = left.fileno()
        poller.subscribe(descriptor, lambda fd, mask: None, 1 | 2)
        left.close()
        poller.unsubscribe(descriptor)
        right.close()

    run(story())


def test_what_a_sockets_callback_raises_goes_to_whoever_drives(run: Run):
    async def story() -> None:
        poller = LoopPoller()
        errors: list[Exception] = []

        def fail(descriptor: int, mask: int) -> None:
            poller.unsubscribe(descriptor)
            raise ValueError("a bug")

        poller.attach(lambda: None, errors.append)
        left, right = socket.socketpair()
        with left, right:
            poller.subscribe(left.fileno(), fail, 1)
            right.send(b"x")
            await asyncio.sleep(0.01)
        assert [str(error) for error in errors] == ["a bug"]

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
