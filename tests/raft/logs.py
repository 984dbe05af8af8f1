"""Raft logs on a simulated disk, for tests: opened, filled, and compared."""

from __future__ import annotations

import random  # noqa: TID251 - seeded, for the faults of the disk
from typing import TYPE_CHECKING, NamedTuple

from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity, name_of
from tests.simulation.disk import SimulatedDisk

if TYPE_CHECKING:
    from raftalloc.raft.contents import Entry

DIRECTORY = "data/raft"
OURS = Identity("group", "a")
SEGMENT_BYTES = 8192


class Said(NamedTuple):
    """What a log says."""

    base: int
    entries: tuple[Entry, ...]
    term: int
    vote: str | None


def said(journal: Journal) -> Said:
    return Said(
        journal.first_index,
        tuple(journal[:]),
        journal.getCurrentTerm(),
        journal.getVotedForNodeId(),
    )


def disk_of(seed: int = 1) -> SimulatedDisk:
    return SimulatedDisk(random.Random(seed))


def open_journal(
    disk: SimulatedDisk, *, identity: Identity = OURS, segment_bytes: int = SEGMENT_BYTES
) -> Journal:
    numbers = random.Random(len(disk.files))
    return Journal(disk, DIRECTORY, identity, token=numbers.randbytes, segment_bytes=segment_bytes)


def append(journal: Journal, *commands: bytes, term: int = 1) -> None:
    for command in commands:
        journal.add(command, journal.last_index + 1, term)


def path_of(sequence: int) -> str:
    return f"{DIRECTORY}/{name_of(sequence)}"


def segments_of(disk: SimulatedDisk) -> list[str]:
    return [name for name in disk.list(DIRECTORY) if name.endswith(".wal")]


def content_of(disk: SimulatedDisk, sequence: int) -> bytearray:
    """The bytes of a segment, to be damaged."""
    return disk.files[path_of(sequence)].content
