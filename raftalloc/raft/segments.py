"""The files of the Raft log: their names, their headers, and whether an end that cannot be read was torn or damaged.

    00000000000000000001.wal     sequence; the last one is written to
    <4096 bytes of header> <batch> <batch> ... <zeros up to the size that was reserved>

A header is `magic | format | length | crc`, which every format keeps, then msgpack, then its CRC32C.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Final

import msgpack
from google_crc32c import value

from raftalloc.raft.records import HEAD_BYTES, NONCE_BYTES, Damage, decode_head

FORMAT: Final = 1
MAGIC: Final = b"raftalog"
SUFFIX: Final = ".wal"
UNFINISHED: Final = ".tmp"
HEADER_BYTES: Final = 4096
SECTOR: Final = 512
"""What a disk writes wholly or not at all."""
_PREFIX: Final = struct.Struct("<8sII")
_CRC: Final = struct.Struct("<I")
_BODY_AT: Final = _PREFIX.size + _CRC.size


class NewerFormat(Exception):
    """Written by a newer raftalloc; the format is its argument."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is."""

    cluster_id: str
    replica_id: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment begins with. With it, a log needs no older segment than that of its first index.

    sequence: of the segment, from 1, without gaps. batch: number of the last batch before it. next_index: of the next
    entry at that point. base, base_term, base_members: first index kept, and term and configuration before it.
    current_term, vote (None: nobody), commit, incarnation, promise: as they were then. Segments of earlier versions
    lack those with a default.
    """

    cluster_id: str
    replica_id: str
    sequence: int
    batch: int
    next_index: int
    base: int
    base_term: int
    current_term: int
    vote: str | None
    commit: int
    nonce: bytes
    base_members: bytes = b""
    incarnation: bytes = b""
    promise: bytes = b""

    @property
    def identity(self) -> Identity:
        """Whose segment it is."""
        return Identity(self.cluster_id, self.replica_id)

    @property
    def seed(self) -> int:
        """What the checksums of its records begin with."""
        return int(value(self.nonce))


def name_of(sequence: int) -> str:
    """Its file's name; names sort as sequences do."""
    return f"{sequence:020d}{SUFFIX}"


def sequence_of(name: str) -> int | None:
    """None for what is no segment's name."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if stem != name and len(stem) == 20 and stem.isdecimal() else None


def nonce_of(token: bytes) -> bytes:
    """`token` without a zero byte: what was never written is zeros, and shall not look like it."""
    assert len(token) == NONCE_BYTES
    return bytes(byte or 1 for byte in token)


def encode_header(header: Header) -> bytes:
    """HEADER_BYTES of it."""
    body: bytes = msgpack.packb(asdict(header))
    prefix = _PREFIX.pack(MAGIC, FORMAT, len(body))
    data = prefix + _CRC.pack(value(prefix)) + body + _CRC.pack(value(body))
    assert len(data) <= HEADER_BYTES, "the ids of cluster and replica are bounded"
    return data.ljust(HEADER_BYTES, b"\0")


def decode_header(data: bytes) -> Header:
    """Raises NewerFormat, or Damage."""
    if len(data) < HEADER_BYTES:
        raise Damage(0, "the file is shorter than a segment's header")
    magic, found, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise Damage(0, "this is no segment of a Raft log")
    if value(data[: _PREFIX.size]) != _CRC.unpack_from(data, _PREFIX.size)[0]:
        raise Damage(0, "the checksum of the header's beginning is wrong")
    if found > FORMAT:
        raise NewerFormat(found)
    body = data[_BODY_AT : _BODY_AT + length]
    after = _BODY_AT + length
    if after + _CRC.size > HEADER_BYTES or value(body) != _CRC.unpack_from(data, after)[0]:
        raise Damage(_BODY_AT, "the checksum of the header is wrong")
    if data[after + _CRC.size : HEADER_BYTES].strip(b"\0"):
        raise Damage(after + _CRC.size, "the rest of the header is not zeros")
    try:
        return Header(**msgpack.unpackb(body))
    except (ValueError, TypeError) as error:
        raise Damage(_BODY_AT, f"the header cannot be read ({error})") from error


def check_torn(data: bytes, at: int, number: int, header: Header) -> None:
    """Raises Damage unless the unreadable batch at `at` of the last segment is one whose writing was cut short.

    It is, if nothing that was written later follows it, and if one of its sectors was never written: those are zeros,
    because segments are reserved as zeros and written once. Rot in the last batch leaves no such sector - but where
    a command holds a whole sector of zeros itself, rot beside it cannot be told from a tear.
    """
    seed, nonce = header.seed, header.nonce
    found = data.find(nonce, at)
    while found >= 0:
        start = found - (HEAD_BYTES - NONCE_BYTES)
        if start > at and _number_at(data, start, seed, nonce) > number:
            raise Damage(at, f"damaged, for what was written later is well (offset {start})")
        found = data.find(nonce, found + 1)
    try:
        _, length = decode_head(data, at, seed=seed, nonce=nonce)
    except Damage:
        length = HEAD_BYTES
    if not _has_unwritten_sector(data, at, min(at + length, len(data))):
        raise Damage(at, "damaged, for every sector of it was written")


def _number_at(data: bytes, at: int, seed: int, nonce: bytes) -> int:
    try:
        return decode_head(data, at, seed=seed, nonce=nonce)[0]
    except Damage:
        return -1


def _has_unwritten_sector(data: bytes, begin: int, end: int) -> bool:
    position = begin
    while position < end:
        after = min(end, position // SECTOR * SECTOR + SECTOR)
        if not data[position:after].strip(b"\0"):
            return True
        position = after
    return False
