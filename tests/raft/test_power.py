"""A power cut for real: an ext4 on a loop device that is shut down without flushing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from tests.chaos.power import NoPowerDisk, PowerDisk, run, why_not
from tests.raft.logs import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITER = """
import asyncio, os, sys, time
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
        print(journal.durable_index, time.monotonic_ns(), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def power_disk(tmp_path: Path) -> Iterator[PowerDisk]:
    if why_not():
        pytest.skip(why_not())
    try:
        disk = PowerDisk(tmp_path / "image", tmp_path / "mount")
    except NoPowerDisk as error:
        pytest.skip(str(error))
    yield disk
    with contextlib.suppress(subprocess.CalledProcessError):  # the test may have left it unmounted
        disk.unmount()


@pytest.mark.slow
def test_after_a_real_power_cut_everything_that_was_called_durable_is_there(power_disk: PowerDisk):
    directory = power_disk.mount / "raft"
    directory.mkdir()
    run("sync")
    before = 0
    for seconds in (0.3, 0.7, 0.5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline(), "it has begun"
            time.sleep(seconds)
            began = time.monotonic_ns()
            power_disk.cut()
            lines = [line.split() for line in writer.stdout.read().splitlines()]
            # What is said while the file system goes down is not believed: a sync that it overtakes may answer
            # that all is well, since ext4 drops the error of turning reserved blocks into written ones. Without
            # power nobody answers.
            told = [int(index) for index, at in lines if int(at) < began]
        power_disk.unmount()
        power_disk.restore()
        journal = Journal(SystemLogDisk(), str(directory), OURS, token=os.urandom)
        entries, last = journal[:], journal.last_index
        journal.close()
        assert told[-1] > before
        assert last >= told[-1]
        assert entries == [(b"%d" % index, index, 1) for index in range(1, last + 1)]
        before = last
