"""A Raft log that was torn, bent or bereft: cut where a write was cut short, refused where anything else is wrong."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import pytest
from google_crc32c import value

from raftalloc.errors import DataDirectoryError
from raftalloc.raft.recovery import read_log
from raftalloc.raft.segments import HEADER_BYTES, MAGIC, SECTOR
from tests.raft.logs import (
    DIRECTORY,
    OURS,
    append,
    content_of,
    disk_of,
    open_journal,
    path_of,
    said,
    segments_of,
)

if TYPE_CHECKING:
    from tests.simulation.disk import SimulatedDisk


def command(number: int, size: int = 60) -> bytes:
    """Bytes without a run of zeros."""
    return bytes((number * 31 + at * 7) % 255 + 1 for at in range(size))


def filled(batches: int = 12, size: int = 60) -> SimulatedDisk:
    disk = disk_of()
    journal = open_journal(disk)
    journal.setCurrentTerm(1, "a")
    for number in range(batches):
        append(journal, command(number, size), command(number + 100, size))
        journal.flush()
    disk.kill()
    return disk


def content(disk: SimulatedDisk) -> object:
    found = read_log(disk, DIRECTORY, OURS)
    assert found is not None
    return found.contents


def refused(disk: SimulatedDisk) -> str:
    """What the refusal says; nothing was touched."""
    before = {name: bytes(inode.content) for name, inode in disk.files.items()}
    with pytest.raises(DataDirectoryError) as refusal:
        open_journal(disk)
    after = {name: bytes(inode.content) for name, inode in disk.files.items()}
    after.pop(f"{DIRECTORY}/lock", None)
    assert after == before
    assert "if a majority of the group is well" in str(refusal.value)
    return str(refusal.value)


@pytest.mark.slow
def test_every_flipped_bit_is_noticed_or_changes_nothing():
    disk = filled(batches=40)
    right = content(disk)
    assert len(segments_of(disk)) > 1
    noticed = 0
    for sequence in range(1, len(segments_of(disk)) + 1):
        data = content_of(disk, sequence)
        used = len(data.rstrip(b"\0")) + 100
        for at in range(len(data)):
            in_use = HEADER_BYTES <= at < used or at < 400
            for bit in range(8) if in_use and at % 5 == 0 else (at % 8,):
                data[at] ^= 1 << bit
                try:
                    assert content(disk) == right, f"bit {bit} of byte {at} of segment {sequence}"
                except DataDirectoryError:
                    noticed += 1
                data[at] ^= 1 << bit
    assert noticed > 5_000
    assert content(disk) == right


def test_a_bent_byte_inside_is_refused_with_file_offset_and_what_to_do():
    disk = filled()
    data = content_of(disk, 1)
    at = data.index(command(3)) + 5
    data[at] ^= 4
    text = refused(disk)
    assert text.startswith(f"{path_of(1)}: offset ")
    assert "what was written later is well" in text


def test_a_bent_byte_in_the_last_batch_is_not_taken_for_a_torn_one():
    disk = filled()
    data = content_of(disk, 1)
    data[data.index(command(111)) + 5] ^= 4
    assert "every sector of it was written" in refused(disk)


@pytest.mark.parametrize("size", [60, 900])
def test_a_write_cut_short_anyhow_is_cut_off_and_written_over(size: int):
    """Every choice of the sectors of the last batch that did not get there."""
    disk = filled(3, size)
    found = read_log(disk, DIRECTORY, OURS)
    assert found is not None
    begin, end = found.last_at, found.end
    cuts = [begin, *range(begin // SECTOR * SECTOR + SECTOR, end, SECTOR), end]
    last = len(found.segments)
    whole = bytes(content_of(disk, last))
    pieces = list(itertools.pairwise(cuts))
    for chosen in range(1, 1 << len(pieces)):
        data = bytearray(whole)
        for number, (first, after) in enumerate(pieces):
            if chosen >> number & 1:
                data[first:after] = bytes(after - first)
        disk.files[path_of(last)].content = data
        journal = open_journal(disk)
        assert [entry[0] for entry in journal[:]] == [
            command(0, size), command(100, size), command(1, size), command(101, size),
        ]  # fmt: skip
        append(journal, command(7), term=2)
        journal.flush()
        expected = said(journal)
        disk.kill()
        assert said(open_journal(disk)) == expected
        disk.kill()


def test_a_torn_end_in_a_segment_that_is_not_the_last_is_refused():
    disk = filled(batches=40)
    data = content_of(disk, 1)
    end = len(data.rstrip(b"\0"))
    data[end - 40 :] = bytes(len(data) - end + 40)
    assert "offset" in refused(disk)


def test_batches_missing_at_the_end_of_a_segment_are_refused():
    disk = filled(batches=40)
    data = content_of(disk, 1)
    nonce = bytes(data).rstrip(b"\0")[-8:]
    # All of the last batch, from its head on, as if it had never been written.
    heads = [at for at in range(HEADER_BYTES, len(data), 8) if data[at + 28 : at + 36] == nonce]
    data[heads[-1] :] = bytes(len(data) - heads[-1])
    assert "are missing" in refused(disk)


@pytest.mark.parametrize("gone", [1, 2])
def test_a_missing_segment_is_refused(gone: int):
    disk = filled(batches=80)
    assert len(segments_of(disk)) > 2
    del disk.files[path_of(gone)]
    assert "missing" in refused(disk)


def test_a_segment_of_another_name_is_refused():
    disk = filled(batches=40)
    disk.files[path_of(3)] = disk.files.pop(path_of(2))
    assert "the file holds segment 2" in refused(disk)


def test_a_segment_of_another_log_is_refused():
    disk, other = filled(batches=80), filled(batches=90)
    disk.files[path_of(2)] = other.files[path_of(3)]
    refused(disk)


def test_a_newer_format_is_refused_by_its_number():
    disk = filled()
    data = content_of(disk, 1)
    prefix = struct.pack("<8sII", MAGIC, 9, 100)
    data[:20] = prefix + struct.pack("<I", value(prefix))
    with pytest.raises(DataDirectoryError, match=r"format 9, this build knows 1.*newer raftalloc"):
        open_journal(disk)


@pytest.mark.parametrize("left", [0, 10, 4095])
def test_a_segment_without_a_whole_header_is_refused(left: int):
    disk = filled()
    del content_of(disk, 1)[left:]
    assert "shorter than a segment's header" in refused(disk)


def test_a_foreign_file_under_a_segments_name_is_refused():
    disk = filled()
    content_of(disk, 1)[:8] = b"notalog!"
    assert "no segment of a Raft log" in refused(disk)


def test_an_unfinished_segment_is_removed():
    disk = filled()
    disk.create(path_of(2) + ".tmp", 100)
    open_journal(disk)
    assert disk.list(DIRECTORY) == ["00000000000000000001.wal"]


def test_zeros_in_commands_are_no_end_of_the_log():
    disk = disk_of()
    journal = open_journal(disk)
    for _ in range(4):
        append(journal, bytes(1500), b"", bytes(3))
        journal.flush()
    expected = said(journal)
    disk.kill()
    assert said(open_journal(disk)) == expected
