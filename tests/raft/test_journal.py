"""The durable Raft log: what is written is read again, in time, off the loop, and only by whom it belongs to."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import DataDirectoryError, ReplicaFailed
from raftalloc.raft.contents import Impossible
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.journal import Journal
from raftalloc.raft.segments import Identity, name_of
from tests.raft.logs import (
    OURS,
    append,
    disk_of,
    open_journal,
    path_of,
    said,
    segments_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run
    from tests.simulation.disk import SimulatedDisk


def again(journal: Journal, disk: SimulatedDisk) -> Journal:
    """Closed and opened; says the same."""
    before = said(journal)
    journal.close()
    opened = open_journal(disk)
    assert said(opened) == before
    return opened


def test_an_empty_log_is_empty_and_makes_no_file_before_there_is_something_to_write():
    disk = disk_of()
    journal = open_journal(disk)
    assert (len(journal), journal.last_index, journal.getCurrentTerm()) == (0, 0, 0)
    assert journal.getVotedForNodeId() is None
    again(journal, disk)
    assert segments_of(disk) == []


def test_entries_terms_and_votes_come_back_through_many_restarts():
    disk = disk_of()
    journal = open_journal(disk)
    for life in range(1, 30):
        append(journal, b"", b"x" * life, bytes(life * 37), term=life)
        journal.setCurrentTerm(life, (None, "b", "")[life % 3])
        journal = again(journal, disk)
    assert len(segments_of(disk)) > 3
    assert [entry[1] for entry in journal[:]] == list(range(1, 88))
    assert journal[-1] == (bytes(29 * 37), 87, 29)


def test_conflicting_entries_are_cut_off_by_a_record_and_replaced():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, *(b"old %d" % number for number in range(500)))
    journal.flush()
    before = {name: bytes(inode.content) for name, inode in disk.files.items()}
    journal.deleteEntriesFrom(3)
    append(journal, b"new", term=2)
    journal = again(journal, disk)
    assert journal[:] == [
        (b"old 0", 1, 1), (b"old 1", 2, 1), (b"old 2", 3, 1), (b"new", 4, 2),
    ]  # fmt: skip
    first = path_of(1)
    assert bytes(disk.files[first].content) == before[first], "what is written is not rewritten"
    journal.deleteEntriesFrom(0)
    journal = again(journal, disk)
    assert len(journal) == 0


def test_compaction_drops_whole_segments_and_keeps_term_and_vote():
    disk = disk_of()
    journal = open_journal(disk)
    journal.setCurrentTerm(3, "c")
    for _ in range(40):
        append(journal, *[b"x" * 200] * 10, term=3)
        journal.flush()
    had = len(segments_of(disk))
    journal.deleteEntriesTo(350)
    assert journal[0][1] == journal.first_index == 351
    assert len(segments_of(disk)) == had, "not before it is durable"
    journal.flush()
    left = segments_of(disk)
    assert 1 < len(left) < had / 4
    assert left[-1] != name_of(1)
    journal = again(journal, disk)
    assert (journal.first_index, journal.last_index) == (351, 400)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (3, "c")
    append(journal, b"after", term=3)
    journal = again(journal, disk)
    assert journal[-1] == (b"after", 401, 3)


def test_a_log_can_begin_anew_behind_a_snapshot():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, b"a", b"b")
    journal.rebase(1_000, 7)
    append(journal, b"c", term=7)
    journal = again(journal, disk)
    assert journal[:] == [(b"c", 1_000, 7)]
    journal.clear()
    journal.add(b"d", 5_000, 9)
    journal.add(b"e", 5_001, 9)
    journal = again(journal, disk)
    assert journal[:] == [(b"d", 5_000, 9), (b"e", 5_001, 9)]


def test_truncation_below_a_dropped_segment_is_read_through():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, *[b"x" * 100] * 90)
    journal.flush()
    journal.deleteEntriesFrom(40)  # this record stands in a later segment than entry 41
    for _ in range(100):
        append(journal, *[b"y" * 100] * 3, term=2)
        journal.flush()
    journal.deleteEntriesTo(200)
    journal = again(journal, disk)
    assert name_of(1) not in segments_of(disk)
    assert (journal.first_index, journal.last_index) == (201, 340)


def test_one_write_and_one_sync_cover_all_that_gathered():
    disk = disk_of()
    journal = open_journal(disk, segment_bytes=1 << 20)
    append(journal, b"first")
    journal.flush()
    disk.counts.clear()
    told: list[int] = []
    journal.on_durable = lambda: told.append(journal.durable_index)
    append(journal, *[b"x"] * 50)
    journal.sync()
    append(journal, *[b"y"] * 70)
    journal.setCurrentTerm(9, "a")
    journal.sync()
    assert (journal.durable_index, journal.durable_vote) == (1, (0, None))
    assert disk.run_one()
    assert told == [51]
    assert journal.durable_mark < journal.mark
    assert disk.run_one(), "what gathered meanwhile follows by itself"
    assert told == [51, 121]
    assert journal.durable_vote == (9, "a")
    assert journal.durable_mark == journal.mark
    assert (disk.counts["write"], disk.counts["sync"]) == (2, 2)
    assert not disk.run_one()


def test_what_is_truncated_while_it_is_written_is_not_called_durable():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, *[b"x"] * 10)
    journal.sync()
    journal.deleteEntriesFrom(4)
    append(journal, b"other", term=2)
    disk.run_one()
    assert journal.durable_index == 4
    journal.sync()
    disk.run_one()
    assert journal.durable_index == 5
    assert [entry[0] for entry in again(journal, disk)[3:]] == [b"x", b"other"]


@pytest.mark.parametrize("kind", ["write", "sync", "create", "rename", "sync_directory"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_an_error_of_the_disk_nothing_more_is_called_durable(kind: str, code: int):
    disk = disk_of()
    journal = open_journal(disk)
    fatal: list[Exception] = []
    told: list[int] = []
    journal.on_fatal, journal.on_durable = fatal.append, lambda: told.append(1)
    append(journal, *[b"x" * 40] * 20)
    journal.sync()
    assert disk.run_one()
    durable, mark = journal.durable_index, journal.durable_mark
    told.clear()
    disk.fail(kind, code)
    for _ in range(20):
        append(journal, *[b"y" * 100] * 9)
        journal.sync()
        disk.run_one()
        if fatal:
            break
        durable, mark = journal.durable_index, journal.durable_mark
        told.clear()
    assert isinstance(fatal[0], ReplicaFailed)
    assert os.strerror(code) in str(fatal[0])
    disk.mend()
    append(journal, b"z")
    journal.sync()
    assert not disk.run_one(), "a failed sync is never tried again"
    journal.close()
    assert (journal.durable_index, journal.durable_mark, told, len(fatal)) == (durable, mark, [], 1)
    opened = open_journal(disk)
    assert opened.last_index >= durable


def test_a_sync_that_failed_is_not_believed_by_the_next_life_either():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, b"a")
    journal.flush()
    append(journal, b"b")
    disk.fail("sync")
    journal.flush()
    assert journal.failure is not None
    disk.kill()
    disk.mend()
    # The kernel still has the pages, says that they are clean, and the platter has nothing of them.
    opened = open_journal(disk)
    assert opened.last_index == 2
    disk.cut_power()
    assert open_journal(disk).last_index == 2, "what a log was opened with is durable"


def test_what_a_killed_process_wrote_but_did_not_sync_is_durable_once_it_was_read():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, b"a")
    journal.flush()
    append(journal, b"b")
    disk.fail("sync")
    journal.flush()
    disk.files[path_of(1)].dirty = [(0, bytes(disk.files[path_of(1)].content))]
    disk.kill()
    disk.mend()
    assert open_journal(disk).last_index == 2
    for inode in disk.files.values():
        assert inode.dirty == []


def test_an_entry_larger_than_a_segment_has_one_of_its_own():
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, b"a")
    journal.flush()
    append(journal, b"x" * 100_000)
    journal.flush()
    append(journal, b"b")
    journal = again(journal, disk)
    assert [len(entry[0]) for entry in journal[:]] == [1, 100_000, 1]
    assert len(segments_of(disk)) == 3


def test_the_commit_index_is_kept_as_a_hint_that_never_exceeds_the_log():
    disk = disk_of()
    journal = open_journal(disk)
    assert journal.getRaftCommitIndex() == 1
    append(journal, b"a", b"b", b"c")
    journal.setRaftCommitIndex(2)
    journal = again(journal, disk)
    assert journal.getRaftCommitIndex() == 2
    journal.setRaftCommitIndex(3)
    journal.onOneSecondTimer()
    assert disk.run_one()
    writes = disk.counts["write"]
    journal.onOneSecondTimer()
    assert not disk.run_one()
    assert disk.counts["write"] == writes, "nothing is written while nothing moves"
    journal.deleteEntriesFrom(1)
    assert again(journal, disk).getRaftCommitIndex() == 1


def test_entries_that_do_not_follow_are_a_bug_and_are_not_written():
    journal = open_journal(disk_of())
    append(journal, b"a")
    with pytest.raises(Impossible, match="entry 3 of term 1 follows 1 of term 1"):
        journal.add(b"b", 3, 1)
    with pytest.raises(Impossible, match="of term 0 follows"):
        journal.add(b"b", 2, 0)
    with pytest.raises(Impossible, match="of term 0 follows"):
        journal.extend([b"b", b"c"], 0)
    assert journal.last_index == 1


def test_what_is_appended_at_once_is_what_is_appended_one_by_one():
    one, other = disk_of(), disk_of()
    first, second = open_journal(one), open_journal(other)
    for journal in (first, second):
        append(journal, b"a")
    assert first.extend([b"b", b"c", b"d"], 4) == 2
    for index, command in enumerate((b"b", b"c", b"d"), 2):
        second.add(command, index, 4)
    assert first[:] == second[:]
    assert first.mark == second.mark
    for journal in (first, second):
        journal.close()
    assert open_journal(one)[:] == open_journal(other)[:] == second[:]
    assert first.entries_after(1, 3) == [(b"b", 2, 4), (b"c", 3, 4)]
    assert first.entries_after(2, 4, limit=1) == [(b"c", 3, 4)]
    assert first.entries_after(4, 4) == []


@pytest.mark.parametrize("identity", [Identity("group", "b"), Identity("other", "a")])
def test_the_log_of_another_is_refused_untouched(identity: Identity):
    disk = disk_of()
    journal = open_journal(disk)
    append(journal, b"a")
    journal.close()
    before = {name: bytes(inode.content) for name, inode in disk.files.items()}
    with pytest.raises(DataDirectoryError, match="belongs to replica 'a' of cluster 'group'"):
        open_journal(disk, identity=identity)
    assert {name: bytes(inode.content) for name, inode in disk.files.items()} == before


def test_a_second_opener_is_told_who_holds_it(tmp_path: Path):
    journal = Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom)
    with pytest.raises(DataDirectoryError, match=f"in use by pid {os.getpid()}"):
        Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom)
    journal.close()
    Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom).close()


def test_the_file_of_the_library_is_refused_by_name(tmp_path: Path):
    (tmp_path / "journal").write_bytes(b"PYSYNCOBJ")
    with pytest.raises(DataDirectoryError, match="journal: written by a raftalloc before"):
        Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom)
    assert os.listdir(tmp_path) == ["journal"]


def test_on_a_real_disk_the_loop_goes_on_while_it_syncs(tmp_path: Path, run: Run):
    async def story() -> None:
        journal = Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom)
        durable = asyncio.Event()
        journal.on_durable = durable.set
        for number in range(20):
            append(journal, *[b"%d" % number] * 10)
            journal.sync()
            assert journal.durable_index < journal.last_index
            await durable.wait()
            durable.clear()
            assert journal.durable_index == journal.last_index
        append(journal, b"at the end")
        journal.close()
        opened = Journal(SystemLogDisk(), str(tmp_path), OURS, token=os.urandom)
        assert opened.last_index == 201
        opened.close()

    run(story())


def test_a_disk_without_room_is_a_refusal_with_a_remedy(tmp_path: Path, run: Run):
    class Full(SystemLogDisk):
        def create(self, path: str, size: int):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def story() -> None:
        journal = Journal(Full(), str(tmp_path), OURS, token=os.urandom)
        failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        journal.on_fatal = failed.set_result
        append(journal, b"a")
        journal.sync()
        error = await failed
        assert "No space left on device" in str(error)
        assert "make room on the disk" in str(error)
        assert journal.durable_index == 0
        journal.close()

    run(story())
