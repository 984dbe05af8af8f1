"""The same log gives the same chain and digest: in another process, under another hash seed, from another beginning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from raftalloc.core import codec
from raftalloc.core.commands import Asked, Entry
from raftalloc.core.machine import apply, fold
from raftalloc.core.state import State
from tests.core import specimens
from tests.core.dice import SeededDice
from tests.core.replayed import replay
from tests.core.walk import Walk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def walk():
    walk, dice = Walk(judged=False), SeededDice(3)
    walk.begin(dice)
    for _ in range(200):
        walk.step(dice)
    # Every command there is, whatever it is answered.
    walk.batch += [Asked(one, origin) for one, origin in _origins()]
    walk.now_ms += 1000
    walk.flush()
    return walk


def _origins():
    return [(asked.command, asked.origin) for asked in specimens.entry().asked]


@pytest.fixture(scope="module")
def log(walk):
    return [codec.encode_entry(entry) for entry in walk.rig.log]


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_another_process_decides_the_same(log, walk, hash_seed, tmp_path):
    file = tmp_path / "log"
    file.write_bytes(msgpack.packb(log))
    told = subprocess.run(
        [sys.executable, "-m", "tests.core.replayed", str(file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert told.stdout.split() == [walk.rig.chain.hex(), codec.content_digest(walk.rig.state)]


def test_a_digest_is_told_apart_by_the_last_entry(log):
    assert replay(log)[0] != replay(log[:-1])[0]


def test_a_snapshot_and_the_tail_give_what_the_whole_log_gives(log):
    """From any index: restored there, then folded for a while, then applied."""
    states, folded = [State.genesis()], []
    for index, packed in enumerate(log, 1):
        state = codec.decode_state(codec.encode_state(states[-1]))
        applied = apply(state, codec.decode_entry(packed), index)
        states.append(state)
        folded.append(applied.happened)
    for start in range(1, len(log), 37):
        follower = codec.decode_state(codec.encode_state(states[start]))
        for index in range(start + 1, len(log) + 1):
            entry = codec.decode_entry(log[index - 1])
            if index < start + 20:
                fold(follower, folded[index - 1], index=index, at_ms=entry.at_ms)
            else:
                assert apply(follower, entry, index).happened == folded[index - 1]
        assert codec.encode_state(follower) == codec.encode_state(states[-1])


def test_other_names_give_other_names_and_nothing_else(log):
    """Symmetry: ids are told apart and compared with nothing; so calling all nodes otherwise changes no decision."""
    renamed = [packed.replace(b"\xa2n1", b"\xa2x1").replace(b"\xa2n2", b"\xa2a9") for packed in log]
    state = other = None
    state, other = State.genesis(), State.genesis()
    for index, (packed, packed_otherwise) in enumerate(zip(log, renamed, strict=True), 1):
        outcomes = apply(state, codec.decode_entry(packed), index).outcomes
        theirs = apply(other, codec.decode_entry(packed_otherwise), index).outcomes
        assert [(o.status, o.subject, o.count, o.token) for o in outcomes] == [
            (o.status, o.subject, o.count, o.token) for o in theirs
        ]


def test_time_never_goes_back_and_an_index_is_applied_once():
    state = State.genesis()
    apply(state, Entry(500, "r1", ()), 1)
    apply(state, Entry(400, "r2", ()), 2)
    assert state.now_ms == 500
    with pytest.raises(AssertionError, match="index 2 after 2"):
        apply(state, Entry(600, "r1", ()), 2)
