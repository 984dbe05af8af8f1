"""Half a snapshot, or a damaged one, is none: the one before it is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftalloc.storage.snapshots import Snapshots
from raftalloc.system import SystemDisk


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(SystemDisk(), str(tmp_path))


def save(snapshots: Snapshots, index: int) -> Path:
    path, _ = snapshots.save(index, b"state %d" % index, b"said", lambda _: None)
    return Path(path)


@pytest.mark.parametrize("name", ["state", "MANIFEST"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_one_is_passed_over(snapshots: Snapshots, name: str, damage: str):
    save(snapshots, 10)
    file = save(snapshots, 20) / name
    data = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        flipped = bytes([data[0] ^ 1]) + data[1:]
        file.write_bytes({"flip": flipped, "cut": data[:-1], "empty": b""}[damage])
    assert snapshots.load() == (10, b"state 10", b"said")


def test_one_that_was_interrupted_is_made_again(snapshots: Snapshots):
    directory = save(snapshots, 10)
    (directory / "MANIFEST").unlink()
    (directory / "state").write_bytes(b"half")
    assert snapshots.load() is None
    save(snapshots, 10)
    assert snapshots.load() == (10, b"state 10", b"said")


def test_one_that_is_whole_is_never_written_again(snapshots: Snapshots):
    directory = save(snapshots, 10)
    before = (directory / "MANIFEST").stat().st_mtime_ns
    save(snapshots, 10)
    assert (directory / "MANIFEST").stat().st_mtime_ns == before


def test_a_damaged_old_one_does_not_count_among_those_kept(snapshots: Snapshots):
    (save(snapshots, 10) / "state").write_bytes(b"damaged")
    for index in (20, 30, 40, 50):
        save(snapshots, index)
    assert snapshots.indices() == [50, 40]


def test_a_manifest_of_another_index_is_not_believed(snapshots: Snapshots, tmp_path: Path):
    directory = save(snapshots, 10)
    directory.rename(tmp_path / "snap-00000000000000000099")
    assert snapshots.load() is None
