"""Entries, events, blocks and snapshots <-> bytes. Format 0.

    entry    what was asked: commands and origins as columns            the Raft log
    events   what happened, and which command caused what, as columns
    block    index, time, entry, events, chain: one index of the event store
    state    the whole state, as columns

Every encoding begins with its format, and a newer one is refused, never guessed at. Golden files pin the bytes
(tests/core/golden). The CHAIN runs through every block: chain(i) = H(chain(i-1), i, entry, events), so two
replicas with the same chain at an index have had the same entries and decided the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import get_args

from raftalloc.core import commands, events
from raftalloc.core.commands import Asked, Entry, Origin
from raftalloc.core.events import Happened
from raftalloc.core.layout import (
    DAMAGE,
    FORMAT,
    Family,
    Layout,
    Strings,
    check_list,
    check_types,
    pack,
    unpack,
)
from raftalloc.core.snapshot import content_digest, decode_state, encode_state

__all__ = [
    "CHAIN_START",
    "FORMAT",
    "Block",
    "content_digest",
    "decode_block",
    "decode_entry",
    "decode_events",
    "decode_state",
    "encode_block",
    "encode_entry",
    "encode_events",
    "encode_state",
    "next_chain",
]

CHAIN_START = bytes(32)
"""The chain before the first entry."""

COMMANDS = Family(get_args(commands.Command))
EVENTS = Family(get_args(events.Event))
_ORIGINS = Layout(Origin)


@dataclass(frozen=True, slots=True)
class Block:
    """One index of the event store."""

    index: int
    at_ms: int
    entry: bytes
    events: bytes
    chain: bytes


def encode_entry(entry: Entry) -> bytes:
    """A block of commands and who asked them."""
    strings = Strings()
    asked = COMMANDS.pack([one.command for one in entry.asked], strings)
    origins = _ORIGINS.pack([one.origin for one in entry.asked], strings)
    return pack([FORMAT, entry.at_ms, entry.proposer, strings.texts, asked, origins])


def decode_entry(data: bytes) -> Entry:
    """The inverse. Raises ValueError for garbage and for a format this build does not know."""
    _, at_ms, proposer, strings, asked, origins = unpack(data, 6, "entry")
    try:
        check_types("entry", (at_ms, int), (proposer, str), (origins, list))
        check_list("texts", strings, str)
        found = COMMANDS.unpack(asked, strings)
        who = _ORIGINS.unpack(origins, strings, len(found))
    except DAMAGE as error:
        raise ValueError(f"a damaged entry: {error!r}") from error
    return Entry(at_ms, proposer, tuple(map(Asked, found, who)))


def encode_events(happened: Sequence[Happened]) -> bytes:
    """Events, and the row of the command that caused each."""
    strings = Strings()
    packed = EVENTS.pack([item.event for item in happened], strings)
    return pack([FORMAT, strings.texts, packed, _ints([item.cause for item in happened])])


def decode_events(data: bytes) -> tuple[Happened, ...]:
    """The inverse. Raises ValueError."""
    _, strings, packed, causes = unpack(data, 4, "event block")
    try:
        check_list("texts", strings, str)
        found = EVENTS.unpack(packed, strings)
        caused = _numbers(causes)
    except DAMAGE as error:
        raise ValueError(f"a damaged event block: {error!r}") from error
    if len(caused) != len(found):
        raise ValueError(f"a damaged event block: {len(found)} events, {len(caused)} causes")
    return tuple(map(Happened, found, caused))


def encode_block(block: Block) -> bytes:
    """One index of the event store."""
    return pack([FORMAT, block.index, block.at_ms, block.entry, block.events, block.chain])


def decode_block(data: bytes) -> Block:
    """The inverse; entry and events stay packed. Raises ValueError."""
    _, index, at_ms, entry, happened, chain = unpack(data, 6, "block")
    try:
        check_types("block", (index, int), (at_ms, int), (entry, bytes), (happened, bytes))
        check_types("block", (chain, bytes))
    except TypeError as error:
        raise ValueError(f"a damaged block: {error}") from error
    if index < 0 or len(chain) != len(CHAIN_START):
        raise ValueError(f"a damaged block: index {index}, {len(chain)} bytes of chain")
    return Block(index, at_ms, entry, happened, chain)


def next_chain(previous: bytes, index: int, entry: bytes, events_bytes: bytes) -> bytes:
    """32 bytes that depend on every entry and event up to this index."""
    digest = blake2b(previous, digest_size=32)
    digest.update(index.to_bytes(8, "big") + len(entry).to_bytes(8, "big"))
    digest.update(entry)
    digest.update(events_bytes)
    return digest.digest()


def _ints(numbers: Sequence[int]) -> bytes:
    return array("q", numbers).tobytes()


def _numbers(data: bytes) -> list[int]:
    column = array("q")
    column.frombytes(data)
    return column.tolist()
