"""The durable Raft log: entries, term and vote of one replica, in one write-ahead log.

Changes gather in memory; `sync` writes all that gathered as one batch and one fdatasync, off the event loop, and the
next batch gathers meanwhile. What is said to others must wait until `durable_mark` has reached the `mark` there was
when it was put together. A disk that fails once is not believed again: after an error nothing becomes durable any more.

The entries are kept in memory too. Below `first_index` they are in a snapshot; of those only the last one's term and
the group's configuration are known. Format, damage and tearing: records.py, segments.py, recovery.py.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, overload

from raftalloc.errors import DataDirectoryError, ReplicaFailed
from raftalloc.raft.appender import Appender
from raftalloc.raft.contents import Contents, vote_record
from raftalloc.raft.records import BASE, COMMIT, ENTRY, INCARNATION, PROMISE, SKIP, TRUNCATE
from raftalloc.raft.recovery import check_directory, read_log
from raftalloc.raft.segments import SUFFIX, UNFINISHED, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raftalloc.ports import LogDisk
    from raftalloc.raft.appender import Write
    from raftalloc.raft.contents import Entry
    from raftalloc.raft.records import Record

logger = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 64 << 20
LOCK: Final = "lock"
BATCH_ENTRIES_MAX: Final = 1024
_NO_OP: Final = b"\x01"
INCARNATION_BYTES: Final = 16


class Journal:
    """The log of one replica, open. Methods in pysyncobj's spelling are those of its Journal.

    on_durable: called on the event loop whenever more is durable. on_fatal: called once, with a ReplicaFailed.
    """

    def __init__(
        self,
        disk: LogDisk,
        directory: str,
        identity: Identity,
        *,
        token: Callable[[int], bytes],
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Read the log in `directory`, which exists; what was read is durable when this returns.

        token: so many unpredictable bytes. Raises DataDirectoryError, and then has changed nothing but the lock file.
        """
        self.on_durable: Callable[[], None] = lambda: None
        self.on_fatal: Callable[[Exception], None] = lambda _error: None
        self._disk = disk
        self._directory = directory
        self._appender = Appender(
            disk, directory, identity, token=token, segment_bytes=segment_bytes
        )
        self._contents = Contents()
        try:
            # Before anything is touched: it may be another's.
            check_directory(disk, directory, identity)
            self._unlock = disk.lock(f"{directory}/{LOCK}")
            try:
                self._recover(identity)
            except BaseException:
                self._appender.close()
                self._unlock()
                raise
        except OSError as error:
            raise DataDirectoryError(
                f"{directory}: the Raft log cannot be opened ({error}); check the directory and its disk"
            ) from error
        self._pending: list[Record] = []
        self._writing: Write | None = None
        self._failure: Exception | None = None
        self._is_open = True
        self._commit_written = self._contents.commit
        self._mark = 0
        self._durable_mark = 0
        self._writing_mark = 0
        self._durable_index = self._contents.next_index - 1
        self._writing_index = self._durable_index
        self._durable_vote = (self._contents.current_term, self._contents.vote)
        self._writing_vote = self._durable_vote
        self._token = token

    def _recover(self, identity: Identity) -> None:
        found = read_log(self._disk, self._directory, identity)
        for name in self._disk.list(self._directory):
            if name.endswith(SUFFIX + UNFINISHED):
                self._disk.remove(f"{self._directory}/{name}")
        if found is None:
            return
        if found.torn_end > found.end:
            logger.warning(
                "%s: cut off a write of up to %d bytes that was not finished, behind index %d",
                found.segments[-1].path,
                found.torn_end - found.end,
                found.contents.next_index - 1,
            )
        self._appender.resume(found)
        self._contents = found.contents

    # What is durable

    @property
    def mark(self) -> int:
        """Counts changes. What is put together now may leave once `durable_mark` is there."""
        return self._mark

    @property
    def durable_mark(self) -> int:
        """All changes up to this are on the disk."""
        return self._durable_mark

    @property
    def durable_index(self) -> int:
        """Last index up to which the log as it is now is on the disk."""
        return self._durable_index

    @property
    def durable_vote(self) -> tuple[int, str | None]:
        """Current term, and who has the vote in it, on the disk."""
        return self._durable_vote

    @property
    def first_index(self) -> int:
        """Of the first entry that is kept; 1 before any compaction."""
        return self._contents.base

    @property
    def last_index(self) -> int:
        """Of the last entry, durable or not; first_index - 1 where there is none."""
        return self._contents.next_index - 1

    @property
    def incarnation(self) -> bytes:
        """Of this data directory: another one each time it is made."""
        return self._contents.incarnation

    @property
    def promise(self) -> bytes:
        """The configuration that this replica would begin a group with; empty, or the same for ever."""
        return self._contents.promise

    def identify(self, incarnation: bytes = b"") -> bool:
        """Draw an incarnation, where there is none and none is given; whether the log is of a version without any."""
        if self._contents.incarnation:
            return False
        self._change((INCARNATION, 0, 0, incarnation or self._token(INCARNATION_BYTES)))
        return self._appender.batch > 0

    def set_promise(self, members: bytes) -> None:
        """Once. Not durable before `durable_mark` says so."""
        assert not self._contents.promise, "it was promised already"
        self._change((PROMISE, 0, 0, members))

    @property
    def base_members(self) -> bytes:
        """The group's configuration as of the entry before the first; empty where none was noted."""
        return self._contents.base_members

    def term_at(self, index: int) -> int:
        """Of an entry, or of the one before the first; -1 where that is not known."""
        contents = self._contents
        at = index - contents.start
        if 0 <= at < len(contents.entries):
            return contents.entries[at][2]
        return contents.base_term if index == contents.base - 1 > 0 else -1

    def batch_from(self, index: int, bytes_max: int) -> tuple[list[Entry], int]:
        """Entries from `index` on, one at least, until they hold `bytes_max`; and how much they hold."""
        at = index - self._contents.start
        assert at >= 0, f"entry {index} is forgotten"
        batch = self._contents.entries[at : at + BATCH_ENTRIES_MAX]
        size = 0
        for count, (command, _, _) in enumerate(batch, 1):
            size += len(command)
            if size >= bytes_max:
                del batch[count:]
                break
        return batch, size

    def tail_from(self, last_index: int, entries_max: int, bytes_max: int) -> int:
        """The first of so many entries, of so many bytes, that end at `last_index`."""
        entries, start = self._contents.entries, self._contents.start
        at = last_index + 1 - start
        lowest, size = max(0, at - entries_max), 0
        while at > lowest:
            size += len(entries[at - 1][0])
            if size > bytes_max:
                break
            at -= 1
        return start + at

    @property
    def skips(self) -> Mapping[int, str]:
        """Why entries must not be given to the state machine, by index; without those that a snapshot has."""
        return self._contents.skips

    def skip(self, index: int, at_ms: int, reason: str) -> None:
        """Never give this entry to the state machine. It must be there."""
        self._change((SKIP, index, at_ms, reason.encode()))

    @property
    def failure(self) -> Exception | None:
        """What ended it."""
        return self._failure

    def sync(self) -> None:
        """Write what gathered; while a write is under way, what gathers follows it by itself."""
        if self._writing is None and self._pending and self._failure is None and self._is_open:
            write = self._plan()
            self._disk.submit(write.run, lambda error: self._finish(write, error))

    def flush(self) -> None:
        """Block until everything is durable, or nothing can be any more. Calls nobody back but on_fatal."""
        self._disk.drain()
        if self._writing is not None:
            self._settle(self._writing.error)
        while self._pending and self._failure is None:
            write = self._plan()
            try:
                write.run()
            except OSError as error:
                self._settle(error)
            else:
                self._settle(None)

    def close(self) -> None:
        """Flush, and let others open it. May be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        self._hint_commit()
        self.flush()
        self._appender.close()
        self._disk.close()
        self._unlock()

    def _plan(self) -> Write:
        records, self._pending = self._pending, []
        if self._contents.commit != self._commit_written and records[-1][0] != COMMIT:
            # Nobody waits for it, so it goes where a batch goes anyway.
            records.append((COMMIT, self._contents.commit, 0, b""))
        self._commit_written = self._contents.commit
        self._writing = write = self._appender.plan(records, self._contents)
        if any(record[0] == BASE for record in records):
            write.drops = self._appender.drop_below(self._contents.base)
        self._writing_mark = self._mark
        self._writing_index = self.last_index
        self._writing_vote = (self._contents.current_term, self._contents.vote)
        return write

    def _finish(self, write: Write, error: OSError | None) -> None:
        """On the event loop, after the disk is done."""
        if self._writing is not write:
            return
        self._settle(error)
        if self._failure is None and self._is_open:
            # The disk first: it is what everybody waits for.
            self.sync()
            self.on_durable()

    def _settle(self, error: OSError | None) -> None:
        self._writing = None
        if error is None:
            self._durable_mark = self._writing_mark
            self._durable_index = self._writing_index
            self._durable_vote = self._writing_vote
            return
        # Whatever a later sync said, it could not be believed: the kernel may have dropped the pages.
        self._failure = ReplicaFailed(
            f"{self._appender.path}: the Raft log cannot be written ({error.strerror or error}); nothing was "
            f"acknowledged behind index {self._durable_index}; make room on the disk or replace it, then start this "
            "replica again"
        )
        self._failure.__cause__ = error
        self.on_fatal(self._failure)

    def _change(self, record: Record) -> None:
        self._contents.add([record])
        self._pending.append(record)
        self._mark += 1

    # pysyncobj's Journal

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; behind `clear` it may have any index that is not below the first."""
        contents = self._contents
        if not contents.entries and idx != contents.next_index:
            self._change((BASE, idx, 0, b""))
        contents.append(command, idx, term)
        self._pending.append((ENTRY, idx, term, command))
        self._mark += 1

    def extend(self, commands: Sequence[bytes], term: int) -> int:
        """Append entries of one term behind the last; answers the index of the first. At least one."""
        first = self._contents.next_index
        self._contents.append(commands[0], first, term)
        self._contents.entries += [
            (command, index, term) for index, command in enumerate(commands[1:], first + 1)
        ]
        self._pending += [
            (ENTRY, index, term, command) for index, command in enumerate(commands, first)
        ]
        self._mark += len(commands)
        return first

    def clear(self) -> None:
        """Forget all entries."""
        if self._contents.entries:
            self._truncate(self._contents.start - 1)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803
        """Forget the entries from this position on: they were in conflict with the leader's."""
        if entryFrom < len(self._contents.entries):
            self._truncate(self._contents.start + entryFrom - 1)

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803
        """Forget the entries below this position: a snapshot has them."""
        if 0 < entryTo <= len(self._contents.entries):
            before = self._contents.entries[entryTo - 1]
            self.rebase(before[1] + 1, before[2])

    def rebase(self, first_index: int, term_before: int, members: bytes = b"") -> None:
        """Keep entries from `first_index` on; beyond the end, begin anew there. Files go once that is durable.

        term_before, members: of the entry at first_index - 1, which a snapshot has, and the configuration as of it.
        """
        self._change((BASE, first_index, term_before, members))

    def install(self, index: int, term: int, members: bytes) -> None:
        """Behind a snapshot of `index`: entries that follow the same entry stay, others were never committed."""
        if self.term_at(index) != term and index <= self.last_index:
            self._truncate(index - 1)
        self.rebase(index + 1, term, members or self.base_members)

    def _truncate(self, last_index: int) -> None:
        self._change((TRUNCATE, last_index, 0, b""))
        self._durable_index = min(self._durable_index, last_index)
        self._writing_index = min(self._writing_index, last_index)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        entries = self._contents.entries
        if entries or isinstance(item, slice) or self._contents.base == 1:
            return entries[item]
        # pysyncobj knows no empty log: it is shown the entry that the snapshot ends with.
        return (_NO_OP, self._contents.base - 1, self._contents.base_term)

    def entries_after(self, index: int, last: int, limit: int = BATCH_ENTRIES_MAX) -> list[Entry]:
        """Those above `index`, up to `last`, but no more than `limit` of them."""
        start = self._contents.start
        return self._contents.entries[index + 1 - start : min(last, index + limit) + 1 - start]

    def __len__(self) -> int:
        """As pysyncobj counts: 0 only where nothing has ever been."""
        return len(self._contents.entries) or int(self._contents.base > 1)

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Remember it as a hint; written with the next batch, or by `onOneSecondTimer`."""
        self._contents.commit = raftCommitIndex

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """As far as it is known: 1 at least, as pysyncobj has it, all that a snapshot has, never behind the end."""
        return max(1, self.first_index - 1, min(self._contents.commit, self.last_index))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Note term and vote. Not durable before `durable_mark` says so."""
        if (term, votedForNodeId) != (self._contents.current_term, self._contents.vote):
            self._change(vote_record(term, votedForNodeId))

    def getCurrentTerm(self) -> int:  # noqa: N802
        """The current term."""
        return self._contents.current_term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Who has this replica's vote in the current term."""
        return self._contents.vote

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Write the commit index where it moved and nothing else was written."""
        self._hint_commit()
        self.sync()

    def _hint_commit(self) -> None:
        if not self._pending and self._contents.commit != self._commit_written:
            self._pending.append((COMMIT, self._contents.commit, 0, b""))

    def _destroy(self) -> None:
        self.close()
