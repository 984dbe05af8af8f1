"""A backup of a group in one file: the state at an index, and every block of events that leads to it.

    raftalloc-backup 1      the first line; then frames:
    length | crc32c | payload      4 bytes each, big-endian

A payload is msgpack: [head, {...}] first, then [state, bytes]..., [blocks, [[index, block], ...]]..., and [end, {...}],
whose digest is over everything before it. The file is written beside, synced, and gets its name last.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgpack
from google_crc32c import value

from raftalloc.errors import DataDirectoryError
from raftalloc.system import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import BinaryIO

MAGIC: Final = b"raftalloc-backup 1\n"
FORMAT: Final = 1
UNFINISHED: Final = ".part"
FRAME_BYTES_MAX: Final = 1 << 30
_FRAME: Final = struct.Struct(">II")
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Head:
    """What a backup is of. chain: hex, over all up to `index`; state_bytes: of the state; made_ms: wall clock."""

    format: int
    cluster_id: str
    index: int
    chain: str
    state_bytes: int
    made_ms: int
    version: str


class BackupWriter:
    """Writes one; leaves nothing behind where it was not finished."""

    def __init__(self, path: Path) -> None:
        """`path` must not exist, nor its unfinished form be of a backup under way. Raises DataDirectoryError."""
        self._path = path
        self._beside = path.with_name(path.name + UNFINISHED)
        if path.exists():
            raise DataDirectoryError(f"{path} exists; name another file, nothing is overwritten")
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self._blocks = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Begin."""
        try:
            self._file = self._beside.open("xb")
        except FileExistsError as error:
            raise DataDirectoryError(
                f"{self._beside} is there: a backup is under way, or was cut short; remove it in that case"
            ) from error
        self._put(MAGIC)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it its name, if all went well."""
        file, self._file = self._file, None
        assert file is not None
        try:
            with file:
                if kind is None:
                    end = {"blocks": self._blocks, "digest": self._hash.digest()}
                    file.write(_framed(["end", end]))
                    file.flush()
                    os.fsync(file.fileno())
            if kind is None:
                self._name()
        finally:
            self._beside.unlink(missing_ok=True)

    def head(self, head: Head) -> None:
        """First."""
        self._put(_framed(["head", asdict(head)]))

    def state(self, part: bytes) -> None:
        """Parts of it, in order."""
        self._put(_framed(["state", part]))

    def blocks(self, blocks: Sequence[tuple[int, bytes]]) -> None:
        """(index, block), rising."""
        self._blocks += len(blocks)
        self._put(_framed(["blocks", list(blocks)]))

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        self._hash.update(data)
        self._file.write(data)

    def _name(self) -> None:
        try:
            # A rename would replace what somebody put there meanwhile.
            os.link(self._beside, self._path)
        except FileExistsError as error:
            raise DataDirectoryError(f"{self._path} exists; nothing is overwritten") from error
        sync_directory(str(self._path.parent))


def read_backup(path: Path) -> Iterator[tuple[str, Any]]:
    """(kind, content) of every frame but the last, each checked as it comes. Raises DataDirectoryError on damage.

    Only after the last one it is known that the file is whole.
    """
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC:
                raise DataDirectoryError(
                    f"{path} is no backup of raftalloc that this build can read"
                )
            whole.update(magic)
            while True:
                data, kind, content = _frame(path, file)
                if kind == "end":
                    _check_end(path, file, content, whole.digest())
                    return
                whole.update(data)
                yield kind, content
    except FileNotFoundError as error:
        raise DataDirectoryError(f"{path}: there is no such file") from error


def head_of(content: Any) -> Head:
    """From its frame. Raises DataDirectoryError."""
    try:
        return Head(**content)
    except TypeError as error:
        raise DataDirectoryError(f"the head of the backup cannot be read ({error})") from error


def _framed(payload: list[object]) -> bytes:
    data: bytes = msgpack.packb(payload)
    return _FRAME.pack(len(data), value(data)) + data


def _frame(path: Path, file: BinaryIO) -> tuple[bytes, str, Any]:
    at = file.tell()
    lengths = file.read(_FRAME.size)
    if len(lengths) < _FRAME.size:
        raise _damaged(path, at, "it ends early")
    size, crc = _FRAME.unpack(lengths)
    data = file.read(size) if size <= FRAME_BYTES_MAX else b""
    if len(data) != size or value(data) != crc:
        raise _damaged(path, at, "a checksum is wrong")
    try:
        kind, content = msgpack.unpackb(data)
    except (ValueError, TypeError) as error:
        raise _damaged(path, at, str(error)) from error
    return lengths + data, str(kind), content


def _check_end(path: Path, file: BinaryIO, content: Any, digest: bytes) -> None:
    if not isinstance(content, dict) or content.get("digest") != digest or file.read(1):
        raise _damaged(path, file.tell(), "its digest is wrong")


def _damaged(path: Path, at: int, problem: str) -> DataDirectoryError:
    return DataDirectoryError(f"{path}: damaged at offset {at}: {problem}; use another backup")
