"""Reading a Raft log from its segments, and refusing what is damaged, another's, or newer. Changes nothing.

Only the end of the last segment may be unreadable, and only as a write that was cut short leaves it: then the log ends
before it. Anything else that is not as it was written is refused, with file, offset and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.errors import DataDirectoryError
from raftalloc.raft.contents import Contents, Impossible
from raftalloc.raft.records import Damage, Record, decode_head, decode_records
from raftalloc.raft.segments import (
    FORMAT,
    HEADER_BYTES,
    Header,
    Identity,
    NewerFormat,
    check_torn,
    decode_header,
    sequence_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import LogDisk

STOCK_JOURNAL: Final = "journal"
"""The file of pysyncobj's own journal, which earlier versions wrote."""
REMEDY: Final = (
    "nothing was changed; check the disk, then move this replica's data directory away and let it start empty, "
    "if a majority of the group is well without it"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log."""

    path: str
    header: Header


@dataclass(frozen=True, slots=True)
class Found:
    """A log as it was found.

    last: number of the last whole batch, at `last_at` of the last segment (0: none there), with `last_bytes`. end:
    where the next batch belongs. torn_end: where the rubbish of a write that was cut short ends; `end` where there is
    none. size: of the last segment's file.
    """

    segments: list[Segment]
    contents: Contents
    last: int
    last_at: int
    last_bytes: bytes
    end: int
    torn_end: int
    size: int


def check_directory(disk: LogDisk, directory: str, identity: Identity | None) -> list[Segment]:
    """The segments, by their headers alone. Raises DataDirectoryError.

    identity: whose log it must be; None accepts any, but only one.
    """
    names = disk.list(directory)
    if STOCK_JOURNAL in names:
        raise DataDirectoryError(
            f"{directory}/{STOCK_JOURNAL}: written by a raftalloc before its own Raft log; "
            "nothing was changed; use that version, or another data directory"
        )
    segments: list[Segment] = []
    for name in names:
        sequence = sequence_of(name)
        if sequence is None:
            continue
        path = f"{directory}/{name}"
        header = _read_header(disk, path)
        _check_identity(path, header, identity)
        identity = header.identity
        if header.sequence != sequence:
            raise _refusal(path, Damage(0, f"the file holds segment {header.sequence}"))
        if segments and sequence != segments[-1].header.sequence + 1:
            missing = segments[-1].header.sequence + 1
            raise DataDirectoryError(f"{directory}: segment {missing} is missing; {REMEDY}")
        segments.append(Segment(path, header))
    return segments


def read_log(
    disk: LogDisk,
    directory: str,
    identity: Identity | None,
    visit: Callable[[Segment, int, int, list[Record]], None] | None = None,
) -> Found | None:
    """The whole log; None where there is no segment. Raises DataDirectoryError.

    visit: called for each batch with its segment, offset, number and records.
    """
    segments = check_directory(disk, directory, identity)
    if not segments:
        return None
    first = segments[0].header
    contents = Contents(
        start=first.next_index,
        base=first.base,
        base_term=first.base_term,
        base_members=first.base_members,
        current_term=first.current_term,
        vote=first.vote,
        commit=first.commit,
        incarnation=first.incarnation,
        promise=first.promise,
    )
    number = first.batch
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        scan = _Scan(segment, contents, number, visit)
        try:
            data = _read_whole(disk, segment.path)
            scan.run(data, None if after is None else after.header.batch)
        except Damage as damage:
            raise _refusal(segment.path, damage) from damage
        number = scan.number
    if contents.start > contents.base:
        raise DataDirectoryError(
            f"{directory}: entries {contents.base}..{contents.start - 1} are missing, "
            f"in segments before {first.sequence}; {REMEDY}"
        )
    return Found(
        segments=segments,
        contents=contents,
        last=number,
        last_at=scan.last_at,
        last_bytes=data[scan.last_at : scan.end] if scan.last_at else b"",
        end=scan.end,
        torn_end=scan.torn_end,
        size=len(data),
    )


class _Scan:
    """One segment, batch by batch."""

    def __init__(
        self,
        segment: Segment,
        contents: Contents,
        number: int,
        visit: Callable[[Segment, int, int, list[Record]], None] | None,
    ) -> None:
        self._segment = segment
        self._contents = contents
        self._visit = visit
        self.number = number
        self.last_at = 0
        self.end = HEADER_BYTES
        self.torn_end = HEADER_BYTES

    def run(self, data: bytes, last_of_segment: int | None) -> None:
        """Raises Damage. last_of_segment: this one's last batch, as the next segment says; None in the last."""
        if self._segment.header.batch != self.number:
            raise Damage(0, f"it follows batch {self._segment.header.batch}, not {self.number}")
        while self.end < len(data) and self.number != last_of_segment:
            try:
                self._batch(data)
            except Damage:
                if not data[self.end :].strip(b"\0"):
                    break
                if last_of_segment is not None:
                    raise
                check_torn(data, self.end, self.number + 1, self._segment.header)
                self.torn_end = len(data.rstrip(b"\0"))
                return
        self.torn_end = self.end
        if last_of_segment is not None and self.number != last_of_segment:
            raise Damage(self.end, f"batches {self.number + 1}..{last_of_segment} are missing")

    def _batch(self, data: bytes) -> None:
        at, header = self.end, self._segment.header
        seed, nonce = header.seed, header.nonce
        number, length = decode_head(data, at, seed=seed, nonce=nonce)
        records = decode_records(data, at, length, seed=seed, nonce=nonce)
        if number != self.number + 1:
            raise Damage(at, f"batch {number} follows batch {self.number}")
        try:
            self._contents.add(records)
        except Impossible as error:
            # Its checksums are right: this was written so, and no tail that may be cut.
            raise _refusal(self._segment.path, Damage(at, str(error))) from error
        if self._visit is not None:
            self._visit(self._segment, at, number, records)
        self.number, self.last_at, self.end = number, at, at + length


def _read_header(disk: LogDisk, path: str) -> Header:
    file = disk.open(path, writable=False)
    try:
        return decode_header(file.read(0, HEADER_BYTES))
    except NewerFormat as error:
        raise DataDirectoryError(
            f"{path}: written in format {error}, this build knows {FORMAT}; nothing was changed; "
            "use a newer raftalloc"
        ) from error
    except Damage as damage:
        raise _refusal(path, damage) from damage
    finally:
        file.close()


def _read_whole(disk: LogDisk, path: str) -> bytes:
    file = disk.open(path, writable=False)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _check_identity(path: str, header: Header, identity: Identity | None) -> None:
    if identity is None or header.identity == identity:
        return
    raise DataDirectoryError(
        f"{path}: belongs to replica {header.replica_id!r} of cluster {header.cluster_id!r}, not to "
        f"{identity.replica_id!r} of {identity.cluster_id!r}; nothing was changed; use another directory"
    )


def _refusal(path: str, damage: Damage) -> DataDirectoryError:
    return DataDirectoryError(f"{path}: offset {damage.offset}: {damage.problem}; {REMEDY}")
