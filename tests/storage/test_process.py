"""The store process, when things go wrong on either side."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError, ReplicaFailed
from raftalloc.storage import process
from raftalloc.storage.process import open_process_store
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemDisk, SystemSpawn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run


def test_a_store_process_that_dies_is_noticed_and_nothing_more_is_taken(tmp_path: Path, run: Run):
    async def story() -> None:
        store = await open_process_store(SystemSpawn(), str(tmp_path))
        await store.append(1, b"kept", [])
        await store.sync()
        os.kill(store.pid, signal.SIGKILL)
        with pytest.raises(ReplicaFailed, match="has gone"):
            await store.read(1, 1)
        with pytest.raises(ReplicaFailed):
            await store.append(2, b"lost", [])
        await store.close()
        again = await open_process_store(SystemSpawn(), str(tmp_path))
        assert await again.read(1, 9) == [(1, b"kept")]
        await again.close()

    run(story())


def test_what_was_appended_before_a_signal_to_the_whole_group_of_processes_is_kept(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        store = await open_process_store(SystemSpawn(), str(tmp_path))
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(store.pid, number)
        await store.append(1, b"after the signal", [])
        assert await store.read(1, 1) == [(1, b"after the signal")]
        await store.close()

    run(story())


def test_a_store_that_cannot_be_opened_says_why(tmp_path: Path, run: Run):
    (tmp_path / "db").write_bytes(b"no directory")

    async def story() -> None:
        with pytest.raises(DataDirectoryError, match="cannot be opened"):
            await open_process_store(SystemSpawn(), str(tmp_path))

    run(story())


def test_a_successor_waits_for_the_lock_of_one_that_is_ending(tmp_path: Path, run: Run):
    async def story() -> None:
        old = RocksStore(SystemDisk(), str(tmp_path))
        await old.append(1, b"x", [])
        opening = asyncio.create_task(open_process_store(SystemSpawn(), str(tmp_path)))
        await asyncio.sleep(1.0)
        assert not opening.done()
        await old.close()
        new = await opening
        assert await new.bounds() == (1, 1)
        await new.close()

    run(story())


def test_appending_waits_while_the_child_is_behind(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "BEHIND_BYTES_MAX", 1000)

    async def story() -> None:
        store = await open_process_store(SystemSpawn(), str(tmp_path))
        os.kill(store.pid, signal.SIGSTOP)
        await store.append(1, b"x" * 2000, [])
        waiting = asyncio.create_task(store.append(2, b"y", []))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        os.kill(store.pid, signal.SIGCONT)
        await waiting
        assert await store.bounds() == (1, 2)
        await store.close()

    run(story())
