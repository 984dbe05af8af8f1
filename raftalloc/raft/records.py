"""Records of the Raft log, and the batches that are written at once.

A record is `crc | length | kind | a | b | payload`, little-endian; the CRC32C is over all after it, and begins with the
segment's seed, so that a record of another segment does not pass for one of this.

    BATCH      a: number of the batch   b: its bytes, this head and its end included   payload: the segment's nonce
    ENTRY      a: index                 b: term               payload: the command
    VOTE       a: term                                        payload: nothing for no vote, else `+` and who has it
    TRUNCATE   a: last index kept                             what is above was in conflict with the leader's
    BASE       a: first index kept      b: term before it     payload: the group's configuration before it, if known;
                                                              what is below is in a snapshot
    COMMIT     a: commit index, as known when it was written; a hint, that may lag
    SKIP       a: index                 b: ms since 1970          payload: why the entry is not to be applied
    INCARNATION                                               payload: this data directory's, drawn when it was made
    PROMISE                                                   payload: the configuration that it would begin with

A BATCH holds all records up to its end, then zeros up to a multiple of 8, then the nonce again. One batch is written
and synced before the next: of all there is on the disk, only the last batch can be torn.
"""

from __future__ import annotations

import struct
from typing import Final

from google_crc32c import extend

BATCH: Final = 1
ENTRY: Final = 2
VOTE: Final = 3
TRUNCATE: Final = 4
BASE: Final = 5
COMMIT: Final = 6
SKIP: Final = 7
INCARNATION: Final = 8
PROMISE: Final = 9
KIND_NAMES: Final = {
    BATCH: "batch",
    ENTRY: "entry",
    VOTE: "vote",
    TRUNCATE: "truncate",
    BASE: "base",
    COMMIT: "commit",
    SKIP: "skip",
    INCARNATION: "incarnation",
    PROMISE: "promise",
}

Record = tuple[int, int, int, bytes]
"""kind, a, b, payload"""

NONCE_BYTES: Final = 8
PAYLOAD_BYTES_MAX: Final = (1 << 31) - 1
_ALIGN: Final = 8
_CRC: Final = struct.Struct("<I")
_BODY: Final = struct.Struct("<IB3xQQ")
_HEAD: Final = struct.Struct("<IIB3xQQ")
RECORD_BYTES: Final = _HEAD.size
HEAD_BYTES: Final = RECORD_BYTES + NONCE_BYTES


class Damage(Exception):
    """Bytes that are not what was written: where, and what is wrong there."""

    def __init__(self, offset: int, problem: str) -> None:
        """`offset` in the file."""
        super().__init__(f"offset {offset}: {problem}")
        self.offset = offset
        self.problem = problem


def encode_record(record: Record, seed: int) -> bytes:
    """One record as it is written."""
    kind, a, b, payload = record
    assert len(payload) <= PAYLOAD_BYTES_MAX
    body = _BODY.pack(len(payload), kind, a, b) + payload
    return _CRC.pack(extend(seed, body)) + body


def batch_bytes(records: list[Record]) -> int:
    """Length of a batch of these."""
    content = RECORD_BYTES * len(records) + sum([len(payload) for _, _, _, payload in records])
    return _aligned(HEAD_BYTES + content) + NONCE_BYTES


def encode_batch(number: int, records: list[Record], *, seed: int, nonce: bytes) -> bytes:
    """A batch as it is written; its length is a multiple of 8."""
    length = batch_bytes(records)
    parts = [encode_record((BATCH, number, length, nonce), seed)]
    # As encode_record does: this is where a busy log spends its time.
    pack_crc, pack_body = _CRC.pack, _BODY.pack
    for kind, a, b, payload in records:
        body = pack_body(len(payload), kind, a, b) + payload
        parts += (pack_crc(extend(seed, body)), body)
    written = sum(map(len, parts))
    parts += (bytes(length - NONCE_BYTES - written), nonce)
    return b"".join(parts)


def decode_head(data: bytes, at: int, *, seed: int, nonce: bytes) -> tuple[int, int]:
    """Number and length of the batch that begins at `at`. Raises Damage."""
    if at + HEAD_BYTES > len(data):
        raise Damage(at, "the head of a batch is cut short")
    crc, length, kind, number, total = _HEAD.unpack_from(data, at)
    if extend(seed, data[at + 4 : at + HEAD_BYTES]) != crc:
        raise Damage(at, "the checksum of the head of a batch is wrong")
    if kind != BATCH or length != NONCE_BYTES or data[at + RECORD_BYTES : at + HEAD_BYTES] != nonce:
        raise Damage(at, "no batch begins here")
    return number, total


def decode_records(data: bytes, at: int, total: int, *, seed: int, nonce: bytes) -> list[Record]:
    """What is in the batch at `at`, whose head is well. Raises Damage with the offset of the first bad record."""
    end = at + total - NONCE_BYTES
    if end + NONCE_BYTES > len(data):
        raise Damage(at, "a batch is cut short by the end of the file")
    records: list[Record] = []
    position = at + HEAD_BYTES
    unpack, size = _HEAD.unpack_from, RECORD_BYTES
    while position + size <= end:
        crc, length, kind, a, b = unpack(data, position)
        after = position + size + length
        if after > end:
            raise Damage(position, "a record is longer than its batch")
        if extend(seed, data[position + 4 : after]) != crc:
            raise Damage(position, "the checksum of a record is wrong")
        records.append((kind, a, b, data[position + size : after]))
        position = after
    if data[position:end].strip(b"\0") or data[end : end + NONCE_BYTES] != nonce:
        raise Damage(position, "the end of a batch is not as it was written")
    return records


def _aligned(length: int) -> int:
    return -(-length // _ALIGN) * _ALIGN
