"""What a group is not restored from, and not into."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from raftalloc.config import load_config
from raftalloc.core import codec
from raftalloc.core.state import State
from raftalloc.errors import DataDirectoryError
from raftalloc.server.restore import restore
from raftalloc.storage.backups import FORMAT, BackupWriter, Head

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.config import Config

STATE = codec.encode_state(State.genesis())
HEAD = Head(FORMAT, "old", 0, codec.CHAIN_START.hex(), len(STATE), 1_000, "0.1")
GROUP = """
[cluster]
id = "new"
[tls]
mode = "off"
[storage]
data_dir = "data"
[replicas.n1]
grpc = "127.0.0.1:7001"
raft = "127.0.0.1:7101"
http = "127.0.0.1:7201"
"""


def config_in(path: Path) -> Config:
    (path / "cluster.toml").write_text(GROUP)
    return load_config(path / "cluster.toml")


def backup_in(path: Path, head: Head, blocks: list[tuple[int, bytes]]) -> Path:
    with BackupWriter(path / "backup") as writer:
        writer.head(head)
        writer.state(STATE)
        writer.blocks(blocks)
    return path / "backup"


def block(index: int, chain: bytes) -> tuple[int, bytes]:
    return index, codec.encode_block(codec.Block(index, 1_000, b"asked", b"happened", chain))


@pytest.mark.parametrize(
    ("head", "blocks", "problem"),
    [
        (replace(HEAD, state_bytes=7), [], "no whole state"),
        (replace(HEAD, index=5), [], "state is of another index"),
        (HEAD, [block(3, b"a" * 32)], "do not lead to its state"),
        (HEAD, [block(3, b"a" * 32), block(9, b"b" * 32)], "before index 9 are missing"),
        (HEAD, [(3, b"rubbish")], "events at index 3"),
    ],
)
def test_a_backup_that_contradicts_itself_is_refused_and_makes_nothing(
    tmp_path: Path, head: Head, blocks: list[tuple[int, bytes]], problem: str
):
    config = config_in(tmp_path)
    with pytest.raises(DataDirectoryError, match=problem):
        restore(backup_in(tmp_path, head, blocks), config)
    assert not (tmp_path / "data").exists()


def test_a_directory_that_holds_anything_is_refused_untouched(tmp_path: Path):
    config = config_in(tmp_path)
    used = tmp_path / "data" / "n1"
    used.mkdir(parents=True)
    (used / "identity.json").write_text("mine")
    with pytest.raises(DataDirectoryError, match="is not empty"):
        restore(backup_in(tmp_path, HEAD, []), config)
    assert [each.name for each in used.iterdir()] == ["identity.json"]
    (used / "identity.json").unlink()
    (tmp_path / "data" / "n1.restoring").mkdir()
    with pytest.raises(DataDirectoryError, match="cut short"):
        restore(tmp_path / "backup", config)
