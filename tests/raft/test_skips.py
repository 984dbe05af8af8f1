"""Entries that are to be skipped, in the Raft log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import InvalidRequest
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity
from raftalloc.raft.skipping import skip_entry

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path, segment_bytes: int = 8192) -> Journal:
    identity = Identity("group", "n1")
    return Journal(
        SystemLogDisk(), str(path), identity, token=os.urandom, segment_bytes=segment_bytes
    )


def filled(path: Path, entries: int) -> Journal:
    journal = opened(path)
    journal.setCurrentTerm(1, "n1")
    for index in range(1, entries + 1):
        journal.add(b"\0" + bytes(1000), index, 1)
        journal.flush()
    return journal


def test_a_skip_is_kept_also_when_the_log_goes_on_in_other_files(tmp_path: Path):
    journal = filled(tmp_path, 20)
    journal.skip(7, 1234, "a bug")
    for index in range(21, 60):
        journal.add(b"\0" + bytes(1000), index, 1)
        journal.flush()
    journal.rebase(7, 1)
    journal.close()
    again = opened(tmp_path)
    assert dict(again.skips) == {7: "a bug"}
    assert again.first_index == 7
    again.rebase(8, 1)
    assert dict(again.skips) == {}, "a snapshot has it"
    again.close()


def test_a_skip_goes_with_its_entry(tmp_path: Path):
    journal = filled(tmp_path, 5)
    journal.skip(4, 1234, "a bug")
    journal.skip(5, 1234, "another")
    journal.deleteEntriesFrom(4)
    assert dict(journal.skips) == {4: "a bug"}
    journal.close()
    again = opened(tmp_path)
    assert dict(again.skips) == {4: "a bug"}
    again.close()


@pytest.mark.parametrize(
    ("index", "reason", "problem"),
    [
        (9, "x", "is not in this log, which holds 1..5"),
        (3, " ", "say why"),
        (3, "x" * 501, "say why"),
    ],
)
def test_what_cannot_be_skipped_is_refused_and_nothing_written(
    tmp_path: Path, index: int, reason: str, problem: str
):
    filled(tmp_path, 5).close()
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.wal")}
    with pytest.raises(InvalidRequest, match=problem):
        skip_entry(str(tmp_path), index, at_ms=1, reason=reason, token=os.urandom)
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.wal")} == before


def test_an_entry_of_raft_itself_cannot_be_skipped(tmp_path: Path):
    journal = opened(tmp_path)
    journal.add(b"\x01", 1, 1)
    journal.close()
    with pytest.raises(InvalidRequest, match="Raft's own"):
        skip_entry(str(tmp_path), 1, at_ms=1, reason="x", token=os.urandom)
