"""Nothing from outside is ever unpickled, nor pickled for outside: neither by our code nor by pysyncobj's."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pysyncobj.pickle
import pytest

import raftalloc
from raftalloc.raft.frames import HEAD_BYTES_MAX, Assembler, decode
from raftalloc.security.channel import PlainChannel
from tests.raft.replicas import Group

if TYPE_CHECKING:
    from tests.conftest import Ports, Run

UNSAFE = ("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle")
OURS = Path(raftalloc.__file__).parent


def imports_of(path: Path) -> set[str]:
    """First words of what a module imports, wherever in it; and of what it asks importlib for."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {part for name in names for part in name.name.split(".")}
            case ast.ImportFrom(module=str(module), names=names):
                found |= set(module.split(".")) | {name.name for name in names}
            case ast.Constant(value=str(text)):
                found.add(text)
    return found


@pytest.mark.parametrize("folder", ["raft", "server", "client", "security", "storage", "core"])
def test_no_module_of_ours_imports_what_makes_objects_of_bytes(folder: str):
    paths = sorted((OURS / folder).rglob("*.py"))
    assert paths
    assert [str(path) for path in paths if imports_of(path) & set(UNSAFE)] == []


def test_the_search_sees_an_import_wherever_it_stands(tmp_path: Path):
    path = tmp_path / "module.py"
    for text in (
        "def f():\n    import pickle",
        "from pysyncobj import pickle",
        "import pysyncobj.pickle as p",
        "m = __import__('pickle')",
    ):
        path.write_text(text)
        assert imports_of(path) & set(UNSAFE)


def test_a_group_at_work_pickles_nothing_and_all_that_is_on_the_wire_is_frames(
    tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    captured: dict[int, list[bytes]] = {}

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("pysyncobj pickles")

    def receive(self: PlainChannel, data: memoryview) -> list[bytes]:
        captured.setdefault(id(self), []).append(bytes(data))
        kept.append(self)
        return [bytes(data)]

    kept: list[PlainChannel] = []
    monkeypatch.setattr(PlainChannel, "receive", receive)
    for name in ("loads", "dumps", "load", "dump", "to_bytes"):
        monkeypatch.setattr(pysyncobj.pickle, name, refuse)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3), tls=False)
        await group.start()
        first = await group.leader()
        await asyncio.gather(*(first.propose(b"%d" % number) for number in range(200)))
        await first.propose(b"z" * (3 << 20))
        await group.agree()
        await group.stop(first.replica_id)
        await (await group.leader()).propose(b"after")
        await group.start(first.replica_id)
        await group.agree()
        await group.stop()
        assert group.fatal == []

    run(story())
    kinds = set()
    for pieces in captured.values():
        assembler = Assembler(head_bytes_max=HEAD_BYTES_MAX, body_bytes_max=16 << 20)
        for piece in pieces:
            kinds |= {decode(head, body)["type"] for head, body in assembler.feed(piece)}
    assert {"hello", "append_entries", "next_node_idx", "request_vote", "response_vote"} <= kinds
