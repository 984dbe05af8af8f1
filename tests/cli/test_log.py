"""`raftalloc log` on real logs: what an embedded replica wrote, and what became of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from raftalloc.cli.main import app
from raftalloc.core.codec import encode_entry
from raftalloc.core.commands import Asked, Cordon, Entry, Tick
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A replica's data directory with a log of three terms."""
    (tmp_path / "raft").mkdir()
    journal = open_log(tmp_path)
    journal.setCurrentTerm(1, "n1")
    journal.add(b"\x01", 1, 1)
    asked = (Asked(Cordon("a")), Asked(Cordon("b")), Asked(Tick()))
    journal.add(b"\0" + encode_entry(Entry(5, "n1", asked)), 2, 1)
    journal.add(b"\0not an entry", 3, 1)
    journal.flush()
    journal.deleteEntriesFrom(2)
    journal.setCurrentTerm(3, None)
    journal.add(b"\x01", 3, 3)
    journal.setRaftCommitIndex(2)
    journal.close()
    return tmp_path


def open_log(path: Path) -> Journal:
    return Journal(SystemLogDisk(), str(path / "raft"), Identity("group", "n1"), token=os.urandom)


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["log", *words])


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_verify_says_what_the_log_holds(data: Path):
    result = call("verify", str(data))
    assert result.exit_code == 0
    assert "replica n1 of group: entries 1..3, term 3, no vote" in result.stdout
    assert "committed at least up to 2" in result.stdout
    found = json.loads(call("verify", str(data / "raft"), "--json").stdout)
    assert (found["ok"], found["last_index"], found["unfinished_bytes"]) == (True, 3, 0)


def test_dump_shows_every_record_in_its_order(data: Path):
    result = call("dump", str(data))
    assert result.exit_code == 0
    told = [line.split("  (batch")[0].split(" (batch")[0] for line in result.stdout.splitlines()]
    assert told[0] == "term 1, vote for n1"
    assert told[1] == "entry 1 term 1: Raft's own"
    assert told[2].startswith("entry 2 term 1: Cordon*2 Tick*1 (")
    assert told[3].startswith("entry 3 term 1: not decodable")
    assert told[4:] == [
        "entries above 2 cut off: in conflict with the leader's",
        "term 3, vote for nobody",
        "entry 3 term 3: Raft's own",
        "commit 2",
    ]


def test_dump_as_json_has_a_record_a_line(data: Path):
    records = lines_of(call("dump", str(data), "--json", "--from", "2"))
    entries = [record for record in records if record["kind"] == "entry"]
    assert [record["a"] for record in entries] == [2, 3, 3]
    assert entries[0]["asked"] == {"Cordon": 2, "Tick": 1}
    assert bytes.fromhex(entries[1]["payload"]) == b"\0not an entry"
    assert len(lines_of(call("dump", str(data), "--json", "-n", "2"))) == 2


def test_a_damaged_log_is_said_to_be_so_with_exit_code_1(data: Path):
    (path,) = (data / "raft").glob("*.wal")
    content = bytearray(path.read_bytes())
    content[content.index(b"not an entry")] ^= 1
    path.write_bytes(content)
    result = call("verify", str(data))
    assert result.exit_code == 1
    assert f"{path}: offset " in result.stderr
    found = json.loads(call("verify", str(data), "--json").stdout)
    assert found["ok"] is False
    assert str(path) in found["problem"]
    assert path.read_bytes() == content


def test_an_unfinished_write_is_no_damage_and_is_left_where_it_is(data: Path):
    journal = open_log(data)
    journal.add(b"x" * 3_000, 4, 3)
    journal.close()
    (path,) = (data / "raft").glob("*.wal")
    content = bytearray(path.read_bytes())
    sector = (content.index(b"x" * 3_000) // 512 + 2) * 512
    content[sector : sector + 512] = bytes(512)
    path.write_bytes(content)
    result = call("verify", str(data))
    assert result.exit_code == 0
    assert "entries 1..3" in result.stdout
    assert "was not finished; the next start cuts it off" in result.stdout
    assert path.read_bytes() == content


def test_a_log_in_use_is_refused_with_its_holder(data: Path):
    journal = open_log(data)
    result = call("verify", str(data))
    journal.close()
    assert result.exit_code == 6
    assert f"in use by pid {os.getpid()}" in result.stderr


def test_a_directory_without_a_log_is_refused(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nowhere"):
        result = call("dump", str(path))
        assert result.exit_code == 6
        assert "holds no Raft log" in result.stderr
    assert os.listdir(tmp_path) == []
