"""The bytes of every format, pinned. `pytest tests/core/test_golden.py --rewrite` writes them anew.

Format 0 may change until it is frozen (docs/decisions.md); then these files must never change again, and only new ones
come.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import msgpack
import pytest

from raftalloc.core import codec, commands, events
from raftalloc.core.commands import Asked, Entry
from raftalloc.core.events import Happened
from raftalloc.core.invariants import check
from tests.core import specimens

GOLDEN = Path(__file__).parent / "golden"
MADE = {
    "entry": lambda: codec.encode_entry(specimens.entry()),
    "events": lambda: codec.encode_events(specimens.happened()),
    "block": lambda: codec.encode_block(specimens.block()),
    "state": lambda: codec.encode_state(specimens.state()),
}
RECORDS = {type(one).__name__: one for one in (*specimens.COMMANDS, *specimens.EVENTS)}


@pytest.mark.parametrize("name", MADE)
def test_the_bytes_are_those_of_the_golden_file(name, request):
    path = GOLDEN / f"{name}.bin"
    if request.config.getoption("--rewrite"):
        path.write_bytes(MADE[name]())
    assert MADE[name]() == path.read_bytes(), f"{name} is written otherwise than before"


def test_the_golden_entry_is_read():
    entry = codec.decode_entry((GOLDEN / "entry.bin").read_bytes())
    assert entry == specimens.entry()


def test_the_golden_events_are_read():
    happened = codec.decode_events((GOLDEN / "events.bin").read_bytes())
    assert happened == specimens.happened()


def test_the_golden_block_is_read_and_its_chain_holds():
    block = codec.decode_block((GOLDEN / "block.bin").read_bytes())
    assert block == specimens.block()
    assert codec.next_chain(bytes(32), block.index, block.entry, block.events) == block.chain


def test_the_golden_state_is_read_and_written_again():
    data = (GOLDEN / "state.bin").read_bytes()
    state = codec.decode_state(data)
    assert check(state) == []
    assert codec.encode_state(state) == data
    assert codec.content_digest(state) == codec.content_digest(specimens.state())


def test_bytes_that_an_older_build_wrote_are_written_the_same_today():
    """Fields that came since are left out where nobody uses them."""
    older = GOLDEN / "older"
    entry = (older / "entry-1.bin").read_bytes()
    assert codec.encode_entry(codec.decode_entry(entry)) == entry
    happened = (older / "events-1.bin").read_bytes()
    assert codec.encode_events(codec.decode_events(happened)) == happened
    block = codec.decode_block((older / "block-1.bin").read_bytes())
    assert codec.next_chain(bytes(32), block.index, entry, happened) == block.chain


def test_every_command_and_event_is_in_the_golden_files():
    assert [c for c in get_args(commands.Command) if c.__name__ not in RECORDS] == []
    assert [e for e in get_args(events.Event) if e.__name__ not in RECORDS] == []


@pytest.mark.parametrize("name", RECORDS)
def test_no_field_of_a_specimen_is_at_its_default(name):
    """Else the golden file could not tell whether it is written at all."""
    given = [one for one in (*specimens.COMMANDS, *specimens.EVENTS) if type(one).__name__ == name]
    for field in dataclasses.fields(given[0]):
        assert any(getattr(one, field.name) != field.default for one in given), field.name


def test_the_golden_state_has_something_in_every_table():
    state = specimens.state()
    assert state.leases.rows
    assert state.leases.ended
    assert {one.queued.gang for one in state.queue.requests.values()} == {True, False}
    assert {one.open for one in state.reservations.by_id.values()} == {True, False}
    assert state.sessions.sessions
    assert state.sessions.keys
    assert state.sessions.tombstones
    assert state.fleet.free_rows
    assert any(state.quotas.implicit)
    assert len(state.kinds) == 11
    assert state.token
    assert len(set(state.fleet.states)) > 1


# -- older and newer bytes ---------------------------------------------------------------------------


def without_last_column(data: bytes, asked_at: int) -> bytes:
    """Bytes of a block of one record, as a build wrote them that did not know its last field."""
    fields = msgpack.unpackb(data, strict_map_key=False)
    ((number, table),) = fields[asked_at][1].items()
    fields[asked_at][1][number] = table[:-1]
    return bytes(msgpack.packb(fields))


def with_one_more_column(data: bytes, asked_at: int) -> bytes:
    fields = msgpack.unpackb(data, strict_map_key=False)
    ((_, table),) = fields[asked_at][1].items()
    table.append(bytes(8))
    return bytes(msgpack.packb(fields))


@pytest.mark.parametrize("record", specimens.COMMANDS, ids=lambda one: type(one).__name__)
def test_a_command_of_before_its_last_field_is_read_with_the_default(record):
    whole = codec.encode_entry(Entry(1, "r1", (Asked(record),)))
    fields = dataclasses.fields(record)
    if not fields:
        return
    if getattr(record, fields[-1].name) == fields[-1].default:
        assert codec.decode_entry(whole).asked[0].command == record, "it left no trace"
        return
    if fields[-1].default is dataclasses.MISSING:
        with pytest.raises(ValueError, match="missing and has no default"):
            codec.decode_entry(without_last_column(whole, 4))
        return
    older = codec.decode_entry(without_last_column(whole, 4)).asked[0].command
    assert older == dataclasses.replace(record, **{fields[-1].name: fields[-1].default})


@pytest.mark.parametrize("record", specimens.EVENTS, ids=lambda one: type(one).__name__)
def test_an_event_of_before_its_last_field_is_read_with_the_default(record):
    whole = codec.encode_events((Happened(record, 0),))
    last = dataclasses.fields(record)[-1]
    if getattr(record, last.name) == last.default:
        assert codec.decode_events(whole)[0].event == record, "it left no trace"
        return
    if last.default is dataclasses.MISSING:
        with pytest.raises(ValueError, match="missing and has no default"):
            codec.decode_events(without_last_column(whole, 2))
        return
    older = codec.decode_events(without_last_column(whole, 2))[0].event
    assert older == dataclasses.replace(record, **{last.name: last.default})


@pytest.mark.parametrize("record", specimens.COMMANDS, ids=lambda one: type(one).__name__)
def test_a_command_with_a_field_of_a_newer_build_is_refused(record):
    newer = codec.encode_entry(Entry(1, "r1", (Asked(record),)))
    fields = dataclasses.fields(record)
    columns = len(next(iter(msgpack.unpackb(newer, strict_map_key=False)[4][1].values()))) - 1
    for _ in range(len(fields) + 1 - columns):
        newer = with_one_more_column(newer, 4)
    with pytest.raises(ValueError, match="fields that this build does not know"):
        codec.decode_entry(newer)


def test_a_field_that_is_not_used_leaves_no_trace():
    """So builds that do not know it write the same bytes, and their chains agree."""
    from dataclasses import make_dataclass

    from raftalloc.core.layout import Layout, Strings

    old = make_dataclass("Old", [("number", int)], frozen=True)
    new = make_dataclass("New", [("number", int), ("more", int, 0)], frozen=True)
    one, other = Layout(old), Layout(new)
    assert other.pack([new(1), new(2)], Strings()) == one.pack([old(1), old(2)], Strings())
    assert len(other.pack([new(1), new(2, 5)], Strings())) == 2
    assert other.unpack(one.pack([old(7)], Strings()), [], 1) == [new(7)]


def test_a_command_and_an_event_of_a_newer_build_are_refused():
    entry = msgpack.unpackb(codec.encode_entry(specimens.entry()), strict_map_key=False)
    entry[4] = [bytes([200]), {200: [1]}]
    with pytest.raises(ValueError, match="record type 200 is not known to this build"):
        codec.decode_entry(msgpack.packb(entry))
    happened = msgpack.unpackb(codec.encode_events(specimens.happened()), strict_map_key=False)
    happened[2] = [bytes([99]), {99: [1]}]
    with pytest.raises(ValueError, match="record type 99 is not known to this build"):
        codec.decode_events(msgpack.packb(happened))


def test_a_state_of_newer_rules_is_refused():
    state = specimens.state()
    state.rules_version = 99
    with pytest.raises(ValueError, match="decides by rules 99; this build knows"):
        codec.decode_state(codec.encode_state(state))


def test_what_does_not_fit_int64_is_not_written():
    entry = Entry(1, "r1", (Asked(commands.Cancel(1 << 63, "a")),))
    with pytest.raises(OverflowError):
        codec.encode_entry(entry)
