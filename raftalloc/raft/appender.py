"""The writing end of the Raft log: batches into segments, each synced before the next.

`plan` is called on the event loop and touches nothing; `Write.run` may block, and is run off it. A new segment is made
under another name, with its header synced, and only then renamed: a segment that has its name has its header.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from raftalloc.raft.records import NONCE_BYTES, Record, batch_bytes, encode_batch
from raftalloc.raft.recovery import Segment
from raftalloc.raft.segments import (
    HEADER_BYTES,
    UNFINISHED,
    Header,
    Identity,
    encode_header,
    name_of,
    nonce_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import LogDisk, LogFile
    from raftalloc.raft.contents import Contents
    from raftalloc.raft.recovery import Found

FIRST_SEGMENT_BYTES: Final = 1 << 20
"""Each segment is twice as large as the one before it, up to what is configured: a small log takes little room."""


@dataclass(slots=True)
class Write:
    """A batch on its way, and the segment it begins where it does not fit into the current one."""

    appender: Appender
    offset: int
    content: bytes
    begins: Segment | None
    size: int
    drops: list[Segment] = field(default_factory=list)
    error: OSError | None = None

    def run(self) -> None:
        """Write, and wait until it is on the disk. Raises OSError; then nothing may be written any more."""
        try:
            self.appender.write(self)
        except OSError as error:
            self.error = error
            raise


@dataclass(frozen=True, slots=True)
class _Before:
    """The log as the disk has it once the batch before is there: for the header of a segment."""

    next_index: int = 1
    base: int = 1
    base_term: int = 0
    base_members: bytes = b""
    current_term: int = 0
    vote: str | None = None
    commit: int = 0
    incarnation: bytes = b""
    promise: bytes = b""


class Appender:
    """Where the next batch goes."""

    def __init__(
        self,
        disk: LogDisk,
        directory: str,
        identity: Identity,
        *,
        token: Callable[[int], bytes],
        segment_bytes: int,
    ) -> None:
        """Nothing is open; `resume` goes on with what was found. token: so many unpredictable bytes."""
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._token = token
        self._segment_bytes = max(segment_bytes, 2 * HEADER_BYTES)
        self._file: LogFile | None = None
        self._offset = 0
        self._size = 0
        self._before = _Before()
        self.batch = 0
        self.segments: list[Segment] = []

    def resume(self, found: Found) -> None:
        """Make what was found durable, and go on behind it. Raises OSError.

        A process that was killed, or whose sync failed, leaves in the kernel what may not be on the disk; only the last
        batch can be that. It is written again, since a sync alone may have nothing to do. What a torn write left is
        made zeros, or it would stand behind later batches.
        """
        self.segments = list(found.segments)
        self._file = file = self._disk.open(found.segments[-1].path, writable=True)
        if found.torn_end > found.end:
            file.write_at(found.end, bytes(found.torn_end - found.end))
        if found.last_at:
            file.write_at(found.last_at, found.last_bytes)
        file.sync()
        self._disk.sync_directory(self._directory)
        self._offset, self._size, self.batch = found.end, found.size, found.last
        self._remember(found.contents)

    def plan(self, records: list[Record], after: Contents) -> Write:
        """The next batch; `after` is the log with it, `records` all that came since the last."""
        length = batch_bytes(records)
        begins: Segment | None = None
        if self._offset + length > self._size:
            begins = self._next_segment(length)
        header = self.segments[-1].header
        self.batch += 1
        content = encode_batch(self.batch, records, seed=header.seed, nonce=header.nonce)
        assert len(content) == length
        write = Write(self, self._offset, content, begins, self._size)
        self._offset += length
        self._remember(after)
        return write

    def drop_below(self, index: int) -> list[Segment]:
        """Forget the segments that hold only what is below `index`; answers them, their files are there yet."""
        kept = 0
        while kept + 1 < len(self.segments) and self.segments[kept + 1].header.next_index <= index:
            kept += 1
        dropped, self.segments = self.segments[:kept], self.segments[kept:]
        return dropped

    @property
    def path(self) -> str:
        """Of the segment that is written to, or the directory while there is none."""
        return self.segments[-1].path if self.segments else self._directory

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, write: Write) -> None:
        """What `Write.run` does."""
        if write.begins is not None:
            self._begin(write.begins, write.size)
        assert self._file is not None
        self._file.write_at(write.offset, write.content)
        self._file.sync()
        for segment in write.drops:
            self._disk.remove(segment.path)
            # One by one, so that what is left never has a gap.
            self._disk.sync_directory(self._directory)

    def _begin(self, segment: Segment, size: int) -> None:
        unfinished = segment.path + UNFINISHED
        file = self._disk.create(unfinished, size)
        try:
            file.write_at(0, encode_header(segment.header))
            file.sync()
            self._disk.rename(unfinished, segment.path)
            self._disk.sync_directory(self._directory)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file

    def _next_segment(self, length: int) -> Segment:
        before, identity = self._before, self._identity
        sequence = self.segments[-1].header.sequence + 1 if self.segments else 1
        header = Header(
            cluster_id=identity.cluster_id,
            replica_id=identity.replica_id,
            sequence=sequence,
            batch=self.batch,
            next_index=before.next_index,
            base=before.base,
            base_term=before.base_term,
            base_members=before.base_members,
            current_term=before.current_term,
            vote=before.vote,
            commit=before.commit,
            incarnation=before.incarnation,
            promise=before.promise,
            nonce=nonce_of(self._token(NONCE_BYTES)),
        )
        segment = Segment(posixpath.join(self._directory, name_of(sequence)), header)
        self.segments.append(segment)
        wanted = max(FIRST_SEGMENT_BYTES, 2 * self._size)
        self._size = max(min(wanted, self._segment_bytes), HEADER_BYTES + length)
        self._offset = HEADER_BYTES
        return segment

    def _remember(self, contents: Contents) -> None:
        self._before = _Before(
            next_index=contents.next_index,
            base=contents.base,
            base_term=contents.base_term,
            base_members=contents.base_members,
            current_term=contents.current_term,
            vote=contents.vote,
            commit=contents.commit,
            incarnation=contents.incarnation,
            promise=contents.promise,
        )
