"""A power cut for real: an ext4 on a loop device that is shut down without flushing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from tests.raft.logs import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
WRITER = """
import asyncio, os, sys
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity

async def main():
    journal = Journal(SystemLogDisk(), sys.argv[1], Identity("group", "a"), token=os.urandom)
    durable = asyncio.Event()
    stopped = asyncio.Event()
    journal.on_durable = durable.set
    journal.on_fatal = lambda error: (stopped.set(), durable.set())
    while not stopped.is_set():
        for _ in range(3):
            journal.add(b"%d" % (journal.last_index + 1), journal.last_index + 1, 1)
        journal.sync()
        await durable.wait()
        durable.clear()
        print(journal.durable_index, flush=True)

asyncio.run(main())
"""


class PowerDisk:
    """A file system of its own, that can lose its power."""

    def __init__(self, directory: Path) -> None:
        self.image, self.mount = directory / "image", directory / "mount"
        self.mount.mkdir()
        _run("truncate", "-s", "64M", str(self.image))
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.restore()

    def restore(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.mount))

    def cut(self) -> None:
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        _run("umount", str(self.mount))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.fixture
def power_disk(tmp_path: Path) -> Iterator[PowerDisk]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a real power cut needs root, mkfs.ext4 and loop devices")
    try:
        disk = PowerDisk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no loop device can be mounted here: {error.stderr.decode().strip()}")
    yield disk
    with contextlib.suppress(subprocess.CalledProcessError):  # the test may have left it unmounted
        disk.unmount()


@pytest.mark.slow
def test_after_a_real_power_cut_everything_that_was_called_durable_is_there(power_disk: PowerDisk):
    directory = power_disk.mount / "raft"
    directory.mkdir()
    _run("sync")
    before = 0
    for seconds in (0.3, 0.7, 0.5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline(), "it has begun"
            time.sleep(seconds)
            power_disk.cut()
            told = [int(line) for line in writer.stdout.read().split()]
        power_disk.unmount()
        power_disk.restore()
        journal = Journal(SystemLogDisk(), str(directory), OURS, token=os.urandom)
        entries, last = journal[:], journal.last_index
        journal.close()
        assert told[-1] > before
        assert last >= told[-1]
        assert entries == [(b"%d" % index, index, 1) for index in range(1, last + 1)]
        before = last
