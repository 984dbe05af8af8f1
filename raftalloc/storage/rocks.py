"""The event store on RocksDB: the one door to rocksdict.

    b + index                    a block behind its keys (index: 8 bytes, big-endian)
    k + key + 0x00 + index       the block at `index` is found under `key`
    n                            the note of `set_note`

A block and its keys are written in one batch. Writes go to RocksDB's log without a sync: what a power cut takes from
the end comes back from the Raft journal, which has all that is not synced here. A torn end of that log is cut; damage
before it is an error. Values are bytes (raw mode: rocksdict would pickle). Scans check the iterator's status, or a
damaged block would look like the end of the data. rocksdict holds the GIL: a group runs this in a process of its own
(`process.py`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from rocksdict import (
    AccessType,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
)

from raftalloc.errors import DataDirectoryError
from raftalloc.storage.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rocksdict import RdictIter

    from raftalloc.ports import Disk

READ_BYTES_MAX: Final = 4 << 20
"""A page of blocks ends once it holds this much, whatever the limit; as JSON in an answer it is ten times that."""
PRUNE_BLOCKS_MAX: Final = 1000
_WRITE_BUFFER_BYTES: Final = 16 << 20
_BLOCK: Final = b"b"
_KEY: Final = b"k"
_NOTE: Final = b"n"
_INDEX: Final = struct.Struct(">Q")
_INDEX_MAX: Final = (1 << 64) - 1
_KEYS_LENGTH: Final = struct.Struct(">I")


class RocksStore:
    """A `ports.EventStore` in a directory, in this process: every call blocks while it works."""

    def __init__(self, disk: Disk, path: str, *, read_only: bool = False) -> None:
        """Open or make the store below `path`. Raises DataDirectoryError: in use, or damaged.

        `read_only`: look at one that is there, as it is now, and change nothing; nobody else is kept out.
        """
        access = AccessType.read_only() if read_only else AccessType.read_write()
        if not read_only:
            disk.make_directory(path)
        self._path = path
        self._read_only = read_only
        self._snapshots = Snapshots(disk, f"{path}/snapshots")
        try:
            self._db: Rdict | None = Rdict(f"{path}/db", options=_options(), access_type=access)
        except Exception as error:
            # rocksdict raises bare Exception; its text is all there is.
            raise DataDirectoryError(f"{path}: {_reason(error)}") from error

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        """Keep a block, with its keys, in one step."""
        await self.append_all([(index, block, keys)])

    async def append_all(self, blocks: Sequence[tuple[int, bytes, Sequence[str]]]) -> None:
        """Keep several (index, block, keys), in one step."""
        batch = WriteBatch(raw_mode=True)
        _put_all(batch, blocks)
        self._open_db().write(batch)

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` blocks (or READ_BYTES_MAX of them) from `from_index` on, in order."""
        found: list[tuple[int, bytes]] = []
        size = 0
        for key, value in _scan(self._open_db(), _BLOCK + _INDEX.pack(from_index), _BLOCK):
            found.append((_INDEX.unpack(key[1:])[0], _split(value)[0]))
            size += len(value)
            if len(found) >= limit or size >= READ_BYTES_MAX:
                break
        return found

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Blocks under an index key, newest first, below `before_index`."""
        if before_index <= 0:
            return []
        db = self._open_db()
        prefix = _prefix(key)
        found: list[tuple[int, bytes]] = []
        for name, _ in _scan_back(db, prefix + _INDEX.pack(before_index - 1), prefix):
            value = db.get(_BLOCK + name[-_INDEX.size :])
            if value is None:
                raise DataDirectoryError(
                    f"the event store is damaged: no block for the key {name!r}"
                )
            found.append((_INDEX.unpack(name[-_INDEX.size :])[0], _split(value)[0]))
            if len(found) >= limit:
                break
        return found

    async def bounds(self) -> tuple[int, int]:
        """Lowest and highest index kept; (0, 0) when empty."""
        db = self._open_db()
        first = next(_scan(db, _BLOCK, _BLOCK), None)
        last = next(_scan_back(db, _BLOCK + _INDEX.pack(_INDEX_MAX), _BLOCK), None)
        if first is None or last is None:
            return (0, 0)
        return _INDEX.unpack(first[0][1:])[0], _INDEX.unpack(last[0][1:])[0]

    async def size(self) -> int:
        """Bytes of the data files and of what is still in memory."""
        db = self._open_db()
        names = ("rocksdb.live-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(db.property_int_value(name) or 0 for name in names)

    async def prune(self, below_index: int) -> int:
        """Forget up to PRUNE_BLOCKS_MAX blocks below an index, and their keys; answers how many."""
        db = self._open_db()
        batch = WriteBatch(raw_mode=True)
        count = 0
        for name, value in _scan(db, _BLOCK, _BLOCK):
            number = name[1:]
            if _INDEX.unpack(number)[0] >= below_index or count == PRUNE_BLOCKS_MAX:
                break
            for key in _split(value)[1]:
                batch.delete(_prefix(key) + number)
            batch.delete(name)
            count += 1
        if count:
            db.write(batch)
        return count

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """Sync, checkpoint, and write the snapshot's directory; its manifest last."""
        db = self._open_db()
        await self.sync()
        return self._snapshots.save(index, state, manifest, lambda path: _checkpoint(db, path))

    async def load_snapshot(self) -> tuple[int, bytes, bytes] | None:
        """The newest snapshot that is whole."""
        return self._snapshots.load()

    async def snapshots(self) -> list[int]:
        """Indices of whole snapshots, newest first."""
        return self._snapshots.indices()

    async def note(self) -> bytes:
        """What `set_note` kept last."""
        return self._open_db().get(_NOTE) or b""

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """Keep a note, and blocks of earlier indices, in one step, synced."""
        batch = WriteBatch(raw_mode=True)
        _put_all(batch, blocks)
        batch.put(_NOTE, note)
        self._open_db().write(batch)
        await self.sync()

    async def sync(self) -> None:
        """Everything appended is on disk when this answers."""
        self._open_db().flush_wal(sync=True)

    async def close(self) -> None:
        """Sync and let go. May be called twice."""
        db, self._db = self._db, None
        if db is not None:
            if not self._read_only:
                db.flush_wal(sync=True)
            db.close()

    def _open_db(self) -> Rdict:
        if self._db is None:
            raise DataDirectoryError(f"{self._path}: the event store is closed")
        return self._db


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_background_jobs(2)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    return options


def _reason(error: Exception) -> str:
    text = str(error)
    if "lock" in text.lower():
        return f"the event store is in use by another process ({text})"
    if "no space left" in text.lower() or "read-only" in text.lower():
        return f"the event store cannot be written ({text}); make room on its disk, and see that it may be written"
    return (
        f"the event store cannot be opened ({text}); move this directory away and restart: "
        "it is made again from the journal"
    )


def _checkpoint(db: Rdict, path: str) -> None:
    Checkpoint(db).create_checkpoint(path)


def _put_all(batch: WriteBatch, blocks: Sequence[tuple[int, bytes, Sequence[str]]]) -> None:
    for index, block, keys in blocks:
        number = _INDEX.pack(index)
        batch.put(_BLOCK + number, _with_keys(block, keys))
        for key in keys:
            batch.put(_prefix(key) + number, b"")


def _prefix(key: str) -> bytes:
    """Ends in a zero byte, so that no key is the beginning of another."""
    assert "\0" not in key, f"a zero byte in the index key {key!r}"
    return _KEY + key.encode() + b"\0"


def _with_keys(block: bytes, keys: Sequence[str]) -> bytes:
    names = "\0".join(keys).encode()
    return _KEYS_LENGTH.pack(len(names)) + names + block


def _split(value: bytes) -> tuple[bytes, list[str]]:
    """The block, and its keys."""
    start = _KEYS_LENGTH.size
    end = start + _KEYS_LENGTH.unpack(value[:start])[0]
    names = value[start:end].decode()
    return value[end:], names.split("\0") if names else []


def _scan(db: Rdict, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs from `start` on that begin with `prefix`. Raises DataDirectoryError where the data is damaged."""
    cursor = db.iter()
    cursor.seek(start)
    while cursor.valid() and cursor.key().startswith(prefix):
        yield cursor.key(), cursor.value()
        cursor.next()
    _check(cursor)


def _scan_back(db: Rdict, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The same, backwards."""
    cursor = db.iter()
    cursor.seek_for_prev(start)
    while cursor.valid() and cursor.key().startswith(prefix):
        yield cursor.key(), cursor.value()
        cursor.prev()
    _check(cursor)


def _check(cursor: RdictIter) -> None:
    """An iterator that met damage is just not valid any more; its status says why."""
    try:
        cursor.status()
    except Exception as error:
        # rocksdict raises bare Exception here too.
        raise DataDirectoryError(f"the event store is damaged: {error}") from error
