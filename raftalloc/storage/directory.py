"""A replica's data directory: whose it is, in which format, and that only one process uses it.

    identity.json   cluster id, replica id, format; written once, before anything else
    lock            held by the process that uses the directory; its pid inside
    raft/           the journal
    events/         the event store and its snapshots
    stopped.json    the entry of the log that this replica could not apply, where there was one
    diverged.json   only where this replica was found to differ from the others: it must not serve again as it is

A directory of another cluster, another replica, a newer format, or of something else altogether is refused untouched;
so is one whose journal has been taken away: the replica would have forgotten its vote and what it acknowledged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.errors import DataDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Disk

FORMAT: Final = 1
IDENTITY: Final = "identity.json"
LOCK: Final = "lock"
DIVERGED: Final = "diverged.json"
STOPPED: Final = "stopped.json"
JOURNAL: Final = "raft"
PARTS: Final = (JOURNAL, "events")


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An open directory; `close` lets others use it."""

    path: str
    cluster_id: str
    replica_id: str
    raft_path: str
    events_path: str
    close: Callable[[], None]


def open_directory(disk: Disk, path: str, *, cluster_id: str, replica_id: str) -> DataDirectory:
    """Take a directory into use; make it where there is none. Raises DataDirectoryError."""
    try:
        unlock = _take(disk, path, cluster_id, replica_id)
    except OSError as error:
        raise DataDirectoryError(
            f"{path}: the data directory cannot be used ({error.strerror or error}); "
            "check its disk and permissions, or use another directory"
        ) from error
    return DataDirectory(
        path=path,
        cluster_id=cluster_id,
        replica_id=replica_id,
        raft_path=f"{path}/raft",
        events_path=f"{path}/events",
        close=unlock,
    )


def _take(disk: Disk, path: str, cluster_id: str, replica_id: str) -> Callable[[], None]:
    """Lock it, and see that it is whole. The identity is written last: a directory that has one was whole then."""
    _check_identity(disk, path, cluster_id, replica_id)
    disk.make_directory(path)
    unlock = disk.lock(f"{path}/{LOCK}")
    try:
        # Between the first look and the lock another process may have made it its own.
        known = _check_identity(disk, path, cluster_id, replica_id)
        _check_mark(disk, path)
        if known and JOURNAL not in disk.list(path):
            raise DataDirectoryError(
                f"{path}: its Raft log ({JOURNAL}/) is gone, and with it what this replica voted and acknowledged; "
                "put it back, or move the whole directory away and rebuild the replica from the others"
            )
        for name in PARTS:
            disk.make_directory(f"{path}/{name}")
        if not known:
            disk.write(f"{path}/{IDENTITY}", _encode(cluster_id, replica_id))
    except BaseException:
        unlock()
        raise
    return unlock


def mark_diverged(disk: Disk, path: str, *, index: int, reason: str) -> None:
    """Have the directory refused from now on. Raises OSError."""
    mark = {"format": FORMAT, "index": index, "reason": reason}
    disk.write(f"{path}/{DIVERGED}", (json.dumps(mark, indent=2) + "\n").encode())


def mark_stopped(disk: Disk, path: str, *, index: int, reason: str) -> None:
    """Note at which entry of the log this replica stopped itself. Raises OSError."""
    mark = {"format": FORMAT, "index": index, "reason": reason}
    disk.write(f"{path}/{STOPPED}", (json.dumps(mark, indent=2) + "\n").encode())


def stopped_at(disk: Disk, path: str) -> int:
    """The entry that this replica could not apply when it last stopped itself for one; 0: there was none."""
    content = disk.read(f"{path}/{STOPPED}")
    try:
        return 0 if content is None else int(json.loads(content)["index"])
    except (ValueError, KeyError, TypeError):
        return 0


def _check_mark(disk: Disk, path: str) -> None:
    """Raises DataDirectoryError where the directory is marked."""
    content = disk.read(f"{path}/{DIVERGED}")
    if content is None:
        return
    try:
        mark = json.loads(content)
        reason = f"{mark['reason']}"
    except (ValueError, KeyError, TypeError):
        reason = f"{DIVERGED} is there, and cannot be read"
    raise DataDirectoryError(
        f"{path}: this replica was found to differ from the others: {reason}; it must be made anew before it serves: "
        f"move events/ and {DIVERGED} away, and start it"
    )


def _encode(cluster_id: str, replica_id: str) -> bytes:
    identity = {"format": FORMAT, "cluster_id": cluster_id, "replica_id": replica_id}
    return (json.dumps(identity, indent=2) + "\n").encode()


def _check_identity(disk: Disk, path: str, cluster_id: str, replica_id: str) -> bool:
    """Whether the directory is known to be ours; raises where it is anybody else's. Changes nothing."""
    content = disk.read(f"{path}/{IDENTITY}")
    if content is None:
        others = [
            name
            for name in disk.list(path)
            if name not in (LOCK, f"{IDENTITY}.tmp")
            and not (name in PARTS and not disk.list(f"{path}/{name}"))
        ]
        if others:
            raise DataDirectoryError(
                f"{path}: holds other files ({others[0]}) and no {IDENTITY}; use an empty or a new directory"
            )
        return False
    try:
        identity = json.loads(content)
        found_format = int(identity["format"])
        found_cluster, found_replica = str(identity["cluster_id"]), str(identity["replica_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(
            f"{path}/{IDENTITY}: damaged ({error}); restore it from another replica's, with this replica's id"
        ) from error
    if found_format > FORMAT:
        raise DataDirectoryError(
            f"{path}: written in format {found_format}, this build knows {FORMAT}; use a newer raftalloc"
        )
    if found_cluster != cluster_id:
        raise DataDirectoryError(
            f"{path}: belongs to cluster {found_cluster!r}, not {cluster_id!r}; use another directory"
        )
    if found_replica != replica_id:
        raise DataDirectoryError(
            f"{path}: belongs to replica {found_replica!r}, not {replica_id!r}; use another directory"
        )
    return True
