"""Looking at a Raft log that nobody uses, without changing it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.errors import DataDirectoryError
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import LOCK
from raftalloc.raft.records import KIND_NAMES, Record
from raftalloc.raft.recovery import read_log
from raftalloc.raft.segments import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.raft.recovery import Segment

COMMAND_OFFSET: Final = 1
"""An entry begins with a byte that says whether it is a proposal (0) or Raft's own."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What a log says, as a whole.

    first_index..last_index are the entries it holds; nothing, where the last is below the first. unfinished_bytes: of a
    write that was cut short at the end, and will be cut off by the next start.
    """

    directory: str
    cluster_id: str
    replica_id: str
    segments: int
    batches: int
    first_index: int
    last_index: int
    term: int
    vote: str | None
    commit_index: int
    unfinished_bytes: int


@dataclass(frozen=True, slots=True)
class Shown:
    """One record of a log, and the batch it is in. `entry`: what was proposed; None for all but proposals."""

    segment: str
    offset: int
    batch: int
    kind: str
    a: int
    b: int
    payload: bytes
    entry: bytes | None


def log_directory(path: str) -> str:
    """`path` itself, or the `raft` in it where it is a replica's data directory. Raises DataDirectoryError."""
    for directory in (path, str(Path(path) / "raft")):
        if any(name.endswith(SUFFIX) for name in SystemLogDisk().list(directory)):
            return directory
    raise DataDirectoryError(
        f"{path}: holds no Raft log; name a replica's data directory, or its raft directory"
    )


def check_unused(directory: str) -> None:
    """Raises DataDirectoryError where a process holds the log."""
    try:
        descriptor = os.open(f"{directory}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        raise DataDirectoryError(
            f"{directory}: in use by pid {holder}; stop that replica first, or look at a copy"
        ) from error
    finally:
        os.close(descriptor)


def overview(directory: str, show: Callable[[Shown], None] | None = None) -> Overview:
    """Read all of a log, checksums too. `show` sees every record. Raises DataDirectoryError: damaged, or in use."""
    check_unused(directory)

    def visit(segment: Segment, offset: int, batch: int, records: list[Record]) -> None:
        if show is not None:
            for record in records:
                show(_shown(segment, offset, batch, record))

    found = read_log(SystemLogDisk(), directory, None, visit)
    if found is None:
        raise DataDirectoryError(f"{directory}: holds no Raft log")
    contents, header = found.contents, found.segments[-1].header
    return Overview(
        directory=directory,
        cluster_id=header.cluster_id,
        replica_id=header.replica_id,
        segments=len(found.segments),
        batches=found.last - found.segments[0].header.batch,
        first_index=contents.base,
        last_index=contents.next_index - 1,
        term=contents.current_term,
        vote=contents.vote,
        commit_index=min(contents.commit, contents.next_index - 1),
        unfinished_bytes=found.torn_end - found.end,
    )


def _shown(segment: Segment, offset: int, batch: int, record: Record) -> Shown:
    kind, a, b, payload = record
    is_proposal = KIND_NAMES[kind] == "entry" and payload[:COMMAND_OFFSET] == b"\0"
    return Shown(
        segment=segment.path,
        offset=offset,
        batch=batch,
        kind=KIND_NAMES[kind],
        a=a,
        b=b,
        payload=payload,
        entry=payload[COMMAND_OFFSET:] if is_proposal else None,
    )
