"""Whose a data directory is."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.storage.directory import open_directory
from raftalloc.system import SystemDisk

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.storage.directory import DataDirectory


def opened(path: Path, cluster_id: str = "c", replica_id: str = "r1") -> DataDirectory:
    return open_directory(SystemDisk(), str(path), cluster_id=cluster_id, replica_id=replica_id)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def test_a_new_directory_is_made_and_is_the_same_ones_again(tmp_path: Path):
    path = tmp_path / "deep" / "data"
    opened(path).close()
    again = opened(path)
    assert (path / "raft").is_dir()
    assert again.raft_path == str(path / "raft")
    assert again.events_path == str(path / "events")
    again.close()


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ({"format": 1, "cluster_id": "other", "replica_id": "r1"}, "belongs to cluster 'other'"),
        ({"format": 1, "cluster_id": "c", "replica_id": "r2"}, "belongs to replica 'r2'"),
        ({"format": 2, "cluster_id": "c", "replica_id": "r1"}, "use a newer raftalloc"),
        ({"format": 1}, "damaged"),
        ([], "damaged"),
    ],
)
def test_anybody_elses_is_refused_and_left_untouched(tmp_path: Path, identity: object, says: str):
    (tmp_path / "identity.json").write_text(json.dumps(identity))
    before = contents(tmp_path)
    with pytest.raises(DataDirectoryError, match=says):
        opened(tmp_path)
    assert contents(tmp_path) == before


def test_a_directory_with_other_things_in_it_is_refused_and_left_untouched(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataDirectoryError, match=r"thesis\.tex"):
        opened(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_second_user_is_told_the_pid_of_the_first(tmp_path: Path):
    first = opened(tmp_path)
    with pytest.raises(DataDirectoryError, match=f"in use by pid {os.getpid()}"):
        opened(tmp_path)
    first.close()
    opened(tmp_path).close()


def test_a_directory_whose_making_was_interrupted_can_be_used(tmp_path: Path):
    (tmp_path / "lock").write_bytes(b"12345")
    (tmp_path / "identity.json.tmp").write_bytes(b"{")
    opened(tmp_path).close()


def test_a_directory_whose_parts_were_made_before_its_identity_can_be_used(tmp_path: Path):
    (tmp_path / "raft").mkdir()
    (tmp_path / "events").mkdir()
    opened(tmp_path).close()


def test_a_directory_whose_raft_log_was_taken_away_is_refused_untouched(tmp_path: Path):
    opened(tmp_path).close()
    (tmp_path / "raft").rmdir()
    before = contents(tmp_path)
    with pytest.raises(DataDirectoryError, match=r"Raft log .* is gone"):
        opened(tmp_path)
    assert contents(tmp_path).keys() == before.keys()
    assert not (tmp_path / "raft").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["make_directory", "lock", "write"])
def test_a_disk_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
):
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(SystemDisk, call, refuse)
    with pytest.raises(DataDirectoryError, match=f"{os.strerror(code)}.*check its disk"):
        opened(tmp_path)
    assert not (tmp_path / "identity.json").exists()


def test_on_a_full_disk_nothing_is_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DataDirectoryError, match="No space left"):
            opened(tmp_path)
    opened(tmp_path).close()
