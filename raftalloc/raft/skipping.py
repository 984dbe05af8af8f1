"""Marking an entry of a stopped replica's Raft log as one to be skipped: the one change that is made offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.errors import InvalidRequest
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.inspection import overview
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.raft.inspection import Shown

REASON_CHARACTERS_MAX = 500


def skip_entry(
    directory: str, index: int, *, at_ms: int, reason: str, token: Callable[[int], bytes]
) -> Shown:
    """Append a record that says so; answers the entry. The log is locked meanwhile, and whole after a crash.

    directory: that of the log. token: so many unpredictable bytes. Raises DataDirectoryError (in use, damaged),
    InvalidRequest (no such entry, not one that was proposed, already skipped).
    """
    entries: dict[int, Shown] = {}

    def see(record: Shown) -> None:
        if record.kind == "entry" and record.a == index:
            entries[index] = record

    found = overview(directory, see)
    _check(index, found.first_index, found.last_index, entries.get(index), reason)
    identity = Identity(found.cluster_id, found.replica_id)
    journal = Journal(SystemLogDisk(), directory, identity, token=token)
    try:
        if index in journal.skips:
            raise InvalidRequest("index", f"entry {index} is skipped already", "start the replica")
        journal.skip(index, at_ms, reason)
        journal.flush()
        if journal.failure is not None:
            raise journal.failure
    finally:
        journal.close()
    return entries[index]


def _check(index: int, first: int, last: int, entry: Shown | None, reason: str) -> None:
    """Raises InvalidRequest."""
    if not 0 < len(reason.strip()) <= REASON_CHARACTERS_MAX:
        problem = f"{len(reason)} characters"
        raise InvalidRequest("reason", problem, f"say why in 1 to {REASON_CHARACTERS_MAX}")
    if entry is None or not first <= index <= last:
        problem = f"{index} is not in this log, which holds {first}..{last}"
        raise InvalidRequest("index", problem, "raftalloc log dump shows what there is")
    if entry.entry is None:
        raise InvalidRequest("index", f"entry {index} is Raft's own", "only what was proposed")
