"""What only a store on disk can go through: torn files, flipped bits, two at once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.storage.rocks import READ_BYTES_MAX, RocksStore
from raftalloc.system import SystemDisk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run


def open_store(path: Path) -> RocksStore:
    return RocksStore(SystemDisk(), str(path))


async def _fill(path: Path, count: int) -> None:
    store = open_store(path)
    for index in range(1, count + 1):
        await store.append(index, b"block %d " % index * 20, ["agent/a"])
    await store.close()


async def _fill_and_crash(path: Path, count: int) -> Path:
    """The directory as a killed process leaves it: closing would write RocksDB's log into a data file."""
    store = open_store(path / "alive")
    for index in range(1, count + 1):
        await store.append(index, b"block %d " % index * 20, ["agent/a"])
    await store.sync()
    shutil.copytree(path / "alive", path / "dead")
    await store.close()
    return path / "dead"


def _newest(path: Path, pattern: str) -> Path:
    return max((path / "db").glob(pattern), key=lambda file: file.name)


def test_a_torn_end_of_rocksdbs_log_costs_only_the_torn_block(tmp_path: Path, run: Run):
    async def story() -> None:
        path = await _fill_and_crash(tmp_path, 50)
        log = _newest(path, "*.log")
        log.write_bytes(log.read_bytes()[:-7])
        store = open_store(path)
        assert await store.bounds() == (1, 49)
        assert len(await store.read(1, 1000)) == 49
        await store.close()

    run(story())


def test_damage_inside_rocksdbs_log_is_refused_with_a_remedy(tmp_path: Path, run: Run):
    async def story() -> None:
        path = await _fill_and_crash(tmp_path, 500)
        log = _newest(path, "*.log")
        data = bytearray(log.read_bytes())
        data[len(data) // 3] ^= 0x10
        log.write_bytes(bytes(data))
        with pytest.raises(DataDirectoryError, match="made again from the journal"):
            open_store(path)

    run(story())


def test_a_flipped_bit_in_a_data_file_is_an_error_and_not_the_end_of_the_data(
    tmp_path: Path, run: Run
):
    async def story() -> None:
        await _fill(tmp_path, 2000)
        store = open_store(tmp_path)
        await store.save_snapshot(2000, b"", b"")  # writes the data file
        await store.close()
        file = _newest(tmp_path, "*.sst")
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 0x10
        file.write_bytes(bytes(data))
        store = open_store(tmp_path)
        with pytest.raises(DataDirectoryError, match="damaged"):
            await store.read(1, 5000)
        await store.close()

    run(story())


def test_a_second_user_is_refused(tmp_path: Path, run: Run):
    async def story() -> None:
        store = open_store(tmp_path)
        with pytest.raises(DataDirectoryError, match="in use"):
            open_store(tmp_path)
        await store.close()

    run(story())


def test_a_closed_store_answers_nothing(tmp_path: Path, run: Run):
    async def story() -> None:
        store = open_store(tmp_path)
        await store.close()
        await store.close()
        with pytest.raises(DataDirectoryError, match="closed"):
            await store.read(1, 1)

    run(story())


def test_a_page_ends_by_its_bytes_too(tmp_path: Path, run: Run):
    async def story() -> None:
        store = open_store(tmp_path)
        for index in range(1, 5):
            await store.append(index, b"x" * (READ_BYTES_MAX // 2), [])
        assert [index for index, _ in await store.read(1, 100)] == [1, 2]
        await store.close()

    run(story())
