"""Applies a log of entries from a file and tells the chain and the digest: `python -m tests.core.replayed FILE`.

FILE is a msgpack list of packed entries. For the test that other processes decide the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgpack

from raftalloc.core import codec
from raftalloc.core.machine import apply
from raftalloc.core.state import State


def replay(entries: list[bytes]) -> tuple[str, str]:
    """Chain and content digest after the last entry."""
    state, chain = State.genesis(), codec.CHAIN_START
    for index, packed in enumerate(entries, 1):
        applied = apply(state, codec.decode_entry(packed), index)
        chain = codec.next_chain(chain, index, packed, codec.encode_events(applied.happened))
    return chain.hex(), codec.content_digest(state)


if __name__ == "__main__":
    sys.stdout.write(" ".join(replay(msgpack.unpackb(Path(sys.argv[1]).read_bytes()))))
