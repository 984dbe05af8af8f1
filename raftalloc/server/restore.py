"""A backup made into the data directories of a new group, while none of its replicas runs.

The whole file is read and checked first: every checksum, the chain of every block up to the state's, and the state's
own index. Each directory is made under another name, and gets its own when it is whole. A directory that is there and
holds anything is refused.

All directories of the group are made at once, since the group's configuration names each by the number drawn for it:
one that could be made again later would come back to its seat without what it had voted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.errors import DataDirectoryError
from raftalloc.ports import Seat
from raftalloc.raft import membership
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity
from raftalloc.service.indexing import keys_of
from raftalloc.service.recovery import Manifest
from raftalloc.storage.backups import Head, head_of, read_backup
from raftalloc.storage.directory import open_directory
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemDisk, SystemRng, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.config import Config
    from raftalloc.raft.membership import Seats

FIRST_TERM: Final = 1
"""Of the entry that every restored log begins behind; the first election is in a later one."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made. first_event: the lowest index of the events; 0 where the backup has none."""

    index: int
    cluster_id: str
    from_cluster_id: str
    content_digest: str
    blocks: int
    first_event: int
    directories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    head: Head
    state: bytes
    blocks: int
    first_event: int


def restore(
    path: Path,
    config: Config,
    progress: Callable[[str], None] = lambda _what: None,
) -> Restored:
    """Make the directories of all replicas. Raises DataDirectoryError, and then has made none that is not whole."""
    seats = _seats(config)
    directories = [Path(config.data_directory(seat.replica_id)) for seat in seats]
    for directory in directories:
        _refuse_used(directory)
    progress("checking the backup")
    checked = _check(path)
    for seat, directory in zip(seats, directories, strict=True):
        progress(f"making {directory}")
        _make(path, checked, directory, Identity(config.cluster_id, seat.replica_id), seats)
    return Restored(
        index=checked.head.index,
        cluster_id=config.cluster_id,
        from_cluster_id=checked.head.cluster_id,
        content_digest=codec.content_digest(codec.decode_state(checked.state)),
        blocks=checked.blocks,
        first_event=checked.first_event,
        directories=tuple(str(each) for each in directories),
    )


def _seats(config: Config) -> Seats:
    """The group's first configuration: everybody votes."""
    rng = SystemRng()
    named = sorted(config.replicas, key=lambda each: each.replica_id)
    return tuple(
        Seat(
            replica_id=each.replica_id,
            raft=str(each.raft),
            grpc=str(each.grpc),
            http=str(each.http),
            is_voter=True,
            incarnation=rng.token(membership.INCARNATION_BYTES),
        )
        for each in named
    )


def _refuse_used(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise DataDirectoryError(
            f"{directory} is not empty; a backup is restored to a new group: name another storage.data_dir"
        )
    beside = _beside(directory)
    if beside.exists():
        raise DataDirectoryError(f"{beside} is there, from a restore that was cut short; remove it")


def _beside(directory: Path) -> Path:
    return directory.with_name(directory.name + ".restoring")


def _check(path: Path) -> _Checked:
    """Read all of it; the state is kept, the blocks are not."""
    head: Head | None = None
    parts: list[bytes] = []
    chain, count, first = b"", 0, 0
    for kind, content in read_backup(path):
        if kind == "head":
            head = head_of(content)
        elif kind == "state":
            parts.append(content)
        elif kind == "blocks":
            for index, data in content:
                chain = _follow(path, chain, index, data)
                first, count = first or index, count + 1
    state = b"".join(parts)
    if head is None or len(state) != head.state_bytes:
        raise DataDirectoryError(f"{path}: holds no whole state; use another backup")
    if count and chain.hex() != head.chain:
        raise DataDirectoryError(f"{path}: its events do not lead to its state; use another backup")
    if codec.decode_state(state).index != head.index:
        raise DataDirectoryError(f"{path}: its state is of another index; use another backup")
    return _Checked(head, state, count, first)


def _follow(path: Path, chain: bytes, index: int, data: bytes) -> bytes:
    """The chain as of a block, which must continue it; the first one may be any."""
    try:
        block = codec.decode_block(data)
    except ValueError as error:
        raise DataDirectoryError(f"{path}: the events at index {index}: {error}") from error
    expected = codec.next_chain(chain, index, block.entry, block.events) if chain else block.chain
    if block.index != index or block.chain != expected:
        raise DataDirectoryError(f"{path}: the events before index {index} are missing")
    return block.chain


def _make(path: Path, checked: _Checked, directory: Path, identity: Identity, seats: Seats) -> None:
    beside = _beside(directory)
    cluster_id, replica_id = identity.cluster_id, identity.replica_id
    opened = open_directory(SystemDisk(), str(beside), cluster_id=cluster_id, replica_id=replica_id)
    try:
        asyncio.run(_fill(path, checked, opened.events_path, cluster_id))
        _begin_log(opened.raft_path, checked.head.index, identity, seats)
    finally:
        opened.close()
    if directory.exists():
        directory.rmdir()
    beside.rename(directory)
    sync_directory(str(directory.parent))


def _begin_log(path: str, index: int, identity: Identity, seats: Seats) -> None:
    """Behind the backup's index, in the group of these seats."""
    own = membership.seat_of(seats, identity.replica_id)
    assert own is not None
    journal = Journal(SystemLogDisk(), path, identity, token=SystemRng().token)
    journal.identify(own.incarnation)
    journal.rebase(index + 1, FIRST_TERM, membership.encode(seats))
    journal.setCurrentTerm(FIRST_TERM, None)
    journal.close()


async def _fill(path: Path, checked: _Checked, events_path: str, cluster_id: str) -> None:
    store = RocksStore(SystemDisk(), events_path)
    try:
        for kind, content in read_backup(path):
            if kind == "blocks":
                await store.append_all([(index, data, _keys(data)) for index, data in content])
        manifest = Manifest.of(
            cluster_id=cluster_id,
            index=checked.head.index,
            chain=bytes.fromhex(checked.head.chain),
            state=checked.state,
        )
        await store.save_snapshot(checked.head.index, checked.state, manifest.encode())
    finally:
        await store.close()


def _keys(data: bytes) -> list[str]:
    return keys_of(codec.decode_events(codec.decode_block(data).events))
