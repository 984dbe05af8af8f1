"""Messages as bytes, and what is no message."""

from __future__ import annotations

import struct
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.raft import frames, messages
from raftalloc.raft.frames import Assembler, Encoder, decode
from raftalloc.raft.messages import BadMessage

APPEND = {
    "type": "append_entries",
    "term": 7,
    "commit_index": 3,
    "prevLogIdx": 4,
    "prevLogTerm": 2,
    "at_ms": 1_700_000_000_000,
}
VOTE = {"type": "request_vote", "term": 3, "last_log_index": 9, "last_log_term": 2}


def entries_of(terms: list[int], size: int = 3) -> list[tuple[bytes, int, int]]:
    return [(bytes([n % 256]) * size, 5 + n, term) for n, term in enumerate(terms)]


def assembler(head: int = frames.HEAD_BYTES_MAX, body: int = 1 << 26) -> Assembler:
    return Assembler(head_bytes_max=head, body_bytes_max=body)


def arrived(data: bytes, pieces: int = 1 << 30) -> list[dict]:
    receiver = assembler()
    return [
        decode(head, body)
        for at in range(0, len(data), pieces)
        for head, body in receiver.feed(data[at : at + pieces])
    ]


def reason_of(head: object, body: bytes = b"") -> str:
    packed = head if isinstance(head, bytes) else msgpack.packb(head)
    with pytest.raises(BadMessage) as caught:
        decode(packed, body)
    return caught.value.reason


@pytest.mark.parametrize("terms", [[], [2], [2, 2, 2], [2, 3, 3, 7]])
def test_what_was_sent_arrives(terms: list[int]):
    message = {**APPEND, "entries": entries_of(terms)}
    assert arrived(b"".join(Encoder().frames(message))) == [message]


@given(st.integers(1, 40), st.lists(st.integers(0, 900), max_size=5))
def test_frames_may_come_in_pieces_of_any_size(pieces: int, sizes: list[int]):
    sent = [{**APPEND, "entries": entries_of([7], size + 1)} for size in sizes] + [VOTE]
    encoder = Encoder()
    data = b"".join(frame for message in sent for frame in encoder.frames(message))
    assert arrived(data, pieces) == sent


def test_more_entries_than_go_into_a_frame_go_into_several_that_follow_one_another():
    entries = entries_of([2] * 10_000 + [3] * 5, 2)
    entries += [(b"x" * (3 << 20), 10_010, 3), (b"y", 10_011, 4)]
    parts = arrived(b"".join(Encoder().frames({**APPEND, "entries": entries})))
    assert [len(part["entries"]) for part in parts] == [10_000, 5, 1, 1]
    assert [entry for part in parts for entry in part["entries"]] == entries
    for before, part in pairwise(parts):
        _, index, term = before["entries"][-1]
        assert (part["prevLogIdx"], part["prevLogTerm"]) == (index, term)


def test_the_same_message_to_another_member_is_not_put_into_bytes_again():
    encoder, entries = Encoder(), entries_of([2, 2])
    first = encoder.frames({**APPEND, "entries": list(entries)})
    assert encoder.frames({**APPEND, "entries": list(entries)}) is first
    assert encoder.frames({**APPEND, "entries": entries[:1]}) is not first
    assert encoder.frames({**APPEND, "commit_index": 4, "entries": list(entries)}) is not first


def test_a_message_that_is_not_in_the_table_cannot_be_sent():
    with pytest.raises(AssertionError, match="'chatter': not in messages"):
        Encoder().frames({"type": "chatter"})
    with pytest.raises(AssertionError, match=r"\['colour'\] of 'request_vote'"):
        Encoder().frames({**VOTE, "colour": "blue"})


def test_a_length_above_the_limit_is_refused_before_anything_of_it_is_kept():
    receiver = assembler(body=100)
    for lengths in ((1, 101), (frames.HEAD_BYTES_MAX + 1, 0), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(BadMessage) as caught:
            list(receiver.feed(struct.pack(">II", *lengths) + b"x"))
        assert caught.value.reason == "too_large"


def test_limits_can_be_widened_once_it_is_known_who_speaks():
    receiver = assembler(head=10, body=0)
    receiver.allow(head_bytes_max=100, body_bytes_max=100)
    assert list(receiver.feed(struct.pack(">II", 11, 1) + b"h" * 11 + b"b")) == [(b"h" * 11, b"b")]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (b"\x80\x80", "malformed"),
        (b"\x91" * 5_000, "malformed"),
        (b"\x81\xa1a" * 300_000, "malformed"),
        (b"\xdd\xff\xff\xff\xff", "malformed"),
        (b"\xdf\xff\xff\xff\xff", "malformed"),
        (b"\xc6\xff\xff\xff\xff", "malformed"),
        (msgpack.packb(msgpack.ExtType(4, b"x")), "malformed"),
        (msgpack.packb({1: 2}), "malformed"),
        ([], "malformed"),
        (None, "malformed"),
        ({}, "unknown_kind"),
        ({"type": ["append_entries"]}, "unknown_kind"),
        ({"type": "apply_command", "command": b"x"}, "unknown_kind"),
        ({"type": "response_vote"}, "bad_field"),
        ({"type": "response_vote", "term": -1}, "bad_field"),
        ({"type": "response_vote", "term": 1 << 63}, "bad_field"),
        ({"type": "response_vote", "term": True}, "bad_field"),
        ({"type": "response_vote", "term": 1.0}, "bad_field"),
        ({"type": "response_vote", "term": "1"}, "bad_field"),
        ({**VOTE, "last_log_term": [1]}, "bad_field"),
        ({**APPEND}, "bad_field"),
        ({**APPEND, "entries": []}, "malformed"),
        ({**APPEND, "entries": [[b"x", 5, 7]]}, "malformed"),
        ({**APPEND, "entries": [b"\1\0\0", [7, 1]]}, "malformed"),
        ({**APPEND, "entries": [b"", [7]]}, "malformed"),
        ({**APPEND, "entries": [b"\1\0\0\0", [7, 1]]}, "malformed"),
        ({**APPEND, "prevLogIdx": None, "entries": [b"", []]}, "malformed"),
        ({**APPEND, "prevLogIdx": -1, "entries": [b"", []]}, "bad_field"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_dropped_for_a_reason(head: object, reason: str):
    assert reason_of(head) == reason


@pytest.mark.parametrize(
    ("described", "body"),
    [
        ([b"\1\0\0\0", [7, 1]], b"xx"),
        ([b"\1\0\0\0", [7, 2]], b"x"),
        ([b"\1\0\0\0", [7, 0]], b"x"),
        ([b"\1\0\0\0", [-7, 1]], b"x"),
        ([b"\1\0\0\0", [7, 1 << 60]], b"x"),
        ([b"\0\0\0\0", [7, 1]], b""),
        ([b"\xff\xff\xff\xff", [7, 1]], b"x"),
        (None, b"x"),
    ],
)
def test_entries_that_do_not_fit_their_body_are_dropped(described: object, body: bytes):
    assert reason_of({**APPEND, "entries": described}, body) == "malformed"


def test_a_body_without_entries_is_dropped():
    assert reason_of(VOTE, b"x") == "malformed"


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_any_bytes_are_a_message_or_bad(head: bytes, body: bytes):
    try:
        kind = decode(head, body)["type"]
    except BadMessage as bad:
        kind = bad.reason
    assert kind in (*messages.KINDS, "malformed", "unknown_kind", "bad_field")


def test_fields_of_a_newer_version_are_let_pass():
    packed = msgpack.packb({**VOTE, "colour": "blue"})
    assert decode(packed, b"")["term"] == 3


def test_plain_values_are_bounded_in_depth_and_number(monkeypatch: pytest.MonkeyPatch):
    rows = (("rows", list, 0, messages.ITEMS_MAX, False),)
    monkeypatch.setitem(messages._ROWS, "rows", rows)
    assert decode(msgpack.packb({"type": "rows", "rows": [[1], {"a": b"x"}]}), b"")
    assert reason_of({"type": "rows", "rows": [[[[[1]]]]]}) == "bad_field"
    assert reason_of({"type": "rows", "rows": [[0] * (messages.ITEMS_MAX + 1)]}) == "bad_field"
