"""Messages as bytes: frames of a head, which is msgpack, and a body.

    head length | body length | head | body          lengths: 4 bytes each, big-endian

The head is the message, but for the commands of its entries, which are the body, one after the other: they are neither
parsed nor copied more than once, and a head can be held to a size at which no decoded form of it is large. In the place
of its entries the head has [their lengths, 4 bytes each, little-endian; the term of the first, how many have it, the
next term, ...]; the first index is `prevLogIdx` + 1, and the others follow.

Encoding raises AssertionError, since what is wrong then is ours. Decoding raises BadMessage and nothing else. There is
no pickle here, nor anything else that could make objects of other types than messages.py names.
"""

from __future__ import annotations

import struct
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import msgpack

from raftalloc.raft.messages import COUNT_MAX, FIELDS, ITEMS_MAX, BadMessage, check

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Message = dict[str, Any]
LogEntry = tuple[bytes, int, int]
"""Command, index, term."""

Body = bytes | memoryview
"""A view where copying would cost."""

LENGTHS: Final = struct.Struct(">II")
HEAD_BYTES_MAX: Final = 1 << 20
FRAME_ENTRIES_MAX: Final = 10_000
FRAME_BODY_BYTES: Final = 1 << 20
"""Entries beyond this go into another frame; a larger entry has one for itself."""
HELLO_BYTES_MAX: Final = 1 << 10
_NONE: Final = (b"", ())


class Encoder:
    """Makes frames. Keeps the last: what is said to several members is put into bytes once."""

    def __init__(self) -> None:
        """One for each sender."""
        self._pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
        self._last_head: Message = {}
        self._last_entries: Sequence[LogEntry] = ()
        self._last: list[bytes] = []

    def frames(self, message: Message) -> list[bytes]:
        """The frames of a message: one, or more where it has entries for more.

        O(entries) in time, and none of it where the message is the one before, as of a leader to its followers.
        """
        known = FIELDS.get(message["type"], frozenset())
        assert message.keys() <= known, (
            f"{sorted(message.keys() - known)} of {message['type']!r}: not in messages.py"
        )
        entries = message.get("entries")
        if entries is None:
            return [self.frame(message)]
        head = {name: value for name, value in message.items() if name != "entries"}
        if not self._is_last(head, entries):
            self._last = [self._frame_of(head, part) for part in _parts(entries)]
            self._last_head, self._last_entries = head, entries
        return self._last

    def frame(self, head: Message, body: Sequence[bytes] = ()) -> bytes:
        """One frame of a head that is ready; what is in the body is copied once."""
        packed: bytes = self._pack(head)
        assert len(packed) <= HEAD_BYTES_MAX, f"{head['type']} has {len(packed)} bytes of head"
        if not body:
            return LENGTHS.pack(len(packed), 0) + packed
        lengths = LENGTHS.pack(len(packed), sum(map(len, body)))
        return b"".join((lengths, packed, *body))

    def _is_last(self, head: Message, entries: Sequence[LogEntry]) -> bool:
        """Whether it says the same as the one before. Entries of one log between the same two are the same."""
        before = self._last_entries
        return (
            head == self._last_head
            and len(entries) == len(before)
            and (not entries or (entries[0] is before[0] and entries[-1] is before[-1]))
        )

    def _frame_of(self, head: Message, part: tuple[LogEntry | None, Sequence[LogEntry]]) -> bytes:
        before, entries = part
        if before is not None:
            head = {**head, "prevLogIdx": before[1], "prevLogTerm": before[2]}
        if not entries:
            return self.frame({**head, "entries": _NONE})
        commands = [entry[0] for entry in entries]
        lengths = struct.pack(f"<{len(commands)}I", *map(len, commands))
        first, last = entries[0][2], entries[-1][2]
        # Terms only rise along a log.
        terms = [first, len(commands)] if first == last else _runs(entries)
        return self.frame({**head, "entries": [lengths, terms]}, commands)


class Assembler:
    """Makes messages of bytes as they come in, in pieces of any size."""

    def __init__(self, *, head_bytes_max: int, body_bytes_max: int) -> None:
        """The limits hold until `allow` says otherwise."""
        self._partial = bytearray()
        self._needed = LENGTHS.size
        self.allow(head_bytes_max=head_bytes_max, body_bytes_max=body_bytes_max)

    def allow(self, *, head_bytes_max: int, body_bytes_max: int) -> None:
        """From the next frame on."""
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max

    @property
    def has_partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._partial)

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, Body]]:
        """Head and body of every frame that is whole now. Raises BadMessage for one that would be too large.

        What waits for its end is copied once, whatever the pieces.
        """
        data: Body = piece
        if self._partial:
            self._partial += piece
            if len(self._partial) < self._needed:
                return
            data, self._partial = memoryview(self._partial), bytearray()
        at, end = 0, len(data)
        while end - at >= LENGTHS.size:
            head_bytes, body_bytes = LENGTHS.unpack_from(data, at)
            if head_bytes > self._head_bytes_max or body_bytes > self._body_bytes_max:
                problem = f"a frame of {head_bytes} + {body_bytes} bytes is too large"
                raise BadMessage("too_large", problem)
            head_at = at + LENGTHS.size
            body_at = head_at + head_bytes
            if body_at + body_bytes > end:
                self._needed = body_at + body_bytes - at
                break
            at = body_at + body_bytes
            yield bytes(data[head_at:body_at]), data[body_at:at]
        else:
            self._needed = LENGTHS.size
        if at < end:
            self._partial += data[at:] if at else data


def decode(head: bytes, body: Body) -> Message:
    """The message of a frame, looked through. Raises BadMessage."""
    message = unpack(head)
    if type(message) is dict and "entries" in message:
        message["entries"] = _entries_of(message.get("prevLogIdx"), message["entries"], body)
    elif body:
        raise BadMessage("malformed", "a body, and no entries that it could hold")
    return check(message)


def unpack(head: bytes) -> object:
    """A head as values: None, bool, int, str, bytes, float, list, dict with text for keys. Raises BadMessage."""
    try:
        return msgpack.unpackb(
            head,
            raw=False,
            strict_map_key=True,
            max_array_len=max(ITEMS_MAX, 2 * FRAME_ENTRIES_MAX),
            max_map_len=ITEMS_MAX,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise BadMessage("malformed", f"the head is no msgpack: {type(error).__name__}") from error


def _parts(entries: Sequence[LogEntry]) -> Iterator[tuple[LogEntry | None, Sequence[LogEntry]]]:
    """What goes into each frame, and the entry before it where that is another frame's."""
    if len(entries) <= 1:
        yield None, entries
        return
    before: LogEntry | None = None
    part: list[LogEntry] = []
    size = 0
    for entry in entries:
        if part and (size + len(entry[0]) > FRAME_BODY_BYTES or len(part) == FRAME_ENTRIES_MAX):
            yield before, part
            before, part, size = part[-1], [], 0
        part.append(entry)
        size += len(entry[0])
    yield before, part


def _runs(entries: Sequence[LogEntry]) -> list[int]:
    """Each term, and how many entries have it."""
    runs: list[int] = []
    for term, run in groupby(entries, key=itemgetter(2)):
        runs += (term, sum(1 for _ in run))
    return runs


def _entries_of(previous: object, described: object, body: Body) -> list[LogEntry]:
    """The entries behind index `previous`, as the head describes them."""
    if type(previous) is not int or type(described) is not list or len(described) != 2:
        raise BadMessage("malformed", "the entries are not described")
    packed, runs = described
    if type(packed) is not bytes or len(packed) % 4 or type(runs) is not list or len(runs) % 2:
        raise BadMessage("malformed", "the entries are not described")
    count = len(packed) // 4
    lengths = struct.unpack(f"<{count}I", packed)
    if sum(lengths) != len(body) or 0 in lengths:
        raise BadMessage("malformed", "the entries do not fill the body")
    terms = _terms_of(runs, count)
    entries: list[LogEntry] = []
    at = 0
    for index, (length, term) in enumerate(zip(lengths, terms, strict=True), previous + 1):
        # Of bytes that are a whole already, `bytes` makes no copy.
        entries.append((bytes(body[at : at + length]), index, term))
        at += length
    return entries


def _terms_of(runs: list[object], count: int) -> list[int]:
    """The term of each of `count` entries."""
    terms: list[int] = []
    for term, times in zip(runs[::2], runs[1::2], strict=True):
        if not _is_count(term) or not _is_count(times) or times > count - len(terms):
            raise BadMessage("malformed", "the terms of the entries are not numbers of them")
        terms += [term] * times
    if len(terms) != count:
        raise BadMessage("malformed", "not every entry has a term")
    return terms


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= COUNT_MAX
