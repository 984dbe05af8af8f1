"""A backup is one file that is whole or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftalloc.errors import DataDirectoryError
from raftalloc.storage.backups import FORMAT, BackupWriter, Head, head_of, read_backup

HEAD = Head(FORMAT, "group", 7, "ab" * 32, 10, 1_000, "0.1")


def written(path: Path) -> Path:
    with BackupWriter(path) as writer:
        writer.head(HEAD)
        writer.state(b"state")
        writer.state(b"state")
        writer.blocks([(3, b"three"), (7, b"seven")])
    return path


def cut_short(path: Path) -> None:
    with BackupWriter(path) as writer:
        writer.head(HEAD)
        raise ZeroDivisionError


def overtaken(path: Path) -> None:
    with BackupWriter(path) as writer:
        writer.head(HEAD)
        path.write_bytes(b"another's")


def test_what_was_written_is_read_in_order(tmp_path: Path):
    found = list(read_backup(written(tmp_path / "b")))
    assert head_of(found[0][1]) == HEAD
    assert found[1:] == [
        ("state", b"state"),
        ("state", b"state"),
        ("blocks", [[3, b"three"], [7, b"seven"]]),
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["b"], "nothing is left beside it"


def test_nothing_is_overwritten_and_nothing_unfinished_is_taken_for_a_backup(tmp_path: Path):
    path = written(tmp_path / "b")
    before = path.read_bytes()
    with pytest.raises(DataDirectoryError, match="nothing is overwritten"), BackupWriter(path):
        """It is refused before it begins."""
    (tmp_path / "c.part").write_bytes(b"")
    with pytest.raises(DataDirectoryError, match="cut short"), BackupWriter(tmp_path / "c"):
        """Somebody else may be at it."""
    with pytest.raises(ZeroDivisionError):
        cut_short(tmp_path / "d")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b", "c.part"]
    assert path.read_bytes() == before


def test_who_came_first_keeps_the_name(tmp_path: Path):
    path = tmp_path / "b"
    with pytest.raises(DataDirectoryError, match="nothing is overwritten"):
        overtaken(path)
    assert path.read_bytes() == b"another's"


@pytest.mark.parametrize("at", [0, 25, 60, -1])
def test_damage_is_refused_with_its_place(tmp_path: Path, at: int):
    path = written(tmp_path / "b")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataDirectoryError, match=r"damaged at offset|no backup"):
        list(read_backup(path))


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, cut: int):
    path = written(tmp_path / "b")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataDirectoryError, match="damaged at offset"):
        list(read_backup(path))


def test_a_frame_that_was_taken_out_is_missed(tmp_path: Path):
    path = written(tmp_path / "b")
    data = path.read_bytes()
    at = data.index(b"\x92\xa5state") - 8
    size = len(b"\x92\xa5state\xc4\x05state") + 8
    path.write_bytes(data[:at] + data[at + size :])
    with pytest.raises(DataDirectoryError, match="digest is wrong"):
        list(read_backup(path))


@pytest.mark.parametrize("content", [{}, {**dict.fromkeys(("a", "b"), 1)}, []])
def test_a_head_of_something_else_is_refused(content: Any):
    with pytest.raises(DataDirectoryError, match="head of the backup"):
        head_of(content)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataDirectoryError, match="there is no such file"):
        list(read_backup(tmp_path / "nowhere"))
