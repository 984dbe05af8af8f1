"""Damaged bytes: a decoder answers what was written or raises ValueError; nothing else comes out, and it comes soon."""

from __future__ import annotations

import functools
import os
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftalloc.core import codec
from tests.core.dice import Dice, SeededDice
from tests.core.walk import Walk

MORE = os.environ.get("RAFTALLOC_HYPOTHESIS") == "long"
DECODERS = {
    "entry": codec.decode_entry,
    "events": codec.decode_events,
    "block": codec.decode_block,
    "state": codec.decode_state,
}
LEAVES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 1 << 31, 1 << 62, -(1 << 63), (1 << 64) - 1, 0.5, "", "cpu", "9:9:", b"", b"\x01",
    b"\xff" * 8, b"\xff" * 16, b"\x00" * 64, [], [1], ["x"], {}, {0: []}, {7: [1 << 60]},
)  # fmt: skip


@functools.cache
def samples() -> dict[str, list[bytes]]:
    """Good bytes of each sort, from a log with everything in it."""
    walk, dice = Walk(), SeededDice(5)
    walk.begin(dice)
    found: dict[str, list[bytes]] = {name: [] for name in DECODERS}
    observe = walk.rig.audit.observe

    def keep(entry, applied):
        observe(entry, applied)
        packed, happened = codec.encode_entry(entry), codec.encode_events(applied.happened)
        found["entry"].append(packed)
        found["events"].append(happened)
        found["block"].append(codec.encode_block(codec.Block(1, 2, packed, happened, bytes(32))))

    walk.rig.audit.observe = keep  # type: ignore[method-assign]  # to look over its shoulder
    for _ in range(80):
        walk.step(dice)
        if walk.rig.index % 8 == 0:
            found["state"].append(codec.encode_state(walk.rig.state))
    return {name: sorted(set(all_of_them), key=len)[-12:] for name, all_of_them in found.items()}


def only_value_error(name: str, data: bytes) -> None:
    try:
        DECODERS[name](data)
    except ValueError:
        return


def flipped(dice: Dice, data: bytes) -> bytes:
    """A few bytes other than they were, or gone, or twice."""
    damaged = bytearray(data)
    for _ in range(dice.pick((1, 1, 2, 5))):
        place = dice.pick(range(len(damaged)))
        match dice.pick(("flip", "flip", "set", "cut", "drop", "double")):
            case "flip":
                damaged[place] ^= 1 << dice.pick(range(8))
            case "set":
                damaged[place] = dice.pick((0, 1, 0x7F, 0x80, 0xC0, 0xFF))
            case "cut":
                del damaged[max(place, 1) :]
            case "drop":
                del damaged[place : place + 1]
            case "double":
                damaged[place:place] = damaged[place : place + 9]
        damaged = damaged or bytearray(b"\x90")
    return bytes(damaged)


def misplaced(dice: Dice, data: bytes) -> bytes:
    """Good msgpack, in which one value is another's, or of another sort."""

    def change(value: Any) -> Any:
        deeper = dice.pick((True, True, True, False))
        match value:
            case list() if value and deeper:
                place = dice.pick(range(len(value)))
                return [change(v) if i == place else v for i, v in enumerate(value)]
            case dict() if value and deeper:
                chosen = dice.pick([*value])
                return {k: change(v) if k == chosen else v for k, v in value.items()}
            case list() if value:
                return dice.pick((value[:-1], [*value, value[-1]], value[::-1]))
            case bytes() if len(value) >= 8 and dice.pick((True, False)):
                place = 8 * dice.pick(range(len(value) // 8))
                number = dice.pick((-1, 0, 1, 63, 1 << 40, (1 << 63) - 1, -(1 << 63)))
                return (
                    value[:place] + number.to_bytes(8, "little", signed=True) + value[place + 8 :]
                )
            case int() if dice.pick((True, False)):
                return value + dice.pick((-1, 1, 1000))
        return dice.pick(LEAVES)

    changed = change(msgpack.unpackb(data, strict_map_key=False))
    return bytes(msgpack.packb(changed, use_bin_type=True))


@pytest.mark.parametrize("damage", [flipped, misplaced])
@pytest.mark.parametrize("name", DECODERS)
def test_damaged_bytes_are_refused_or_read(name, damage):
    dice = SeededDice(17)
    for _ in range(20_000 if MORE else 600):
        only_value_error(name, damage(dice, dice.pick(samples()[name])))


@given(st.binary(max_size=400))
@settings(max_examples=2000 if MORE else 100)
def test_random_bytes_are_refused_or_read(data):
    for name in DECODERS:
        only_value_error(name, data)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "sample", [b"", b"\xc1", b"\x00", b"\x90", b"\x91\x00", b"\x93\x00\x00\x00"]
)
def test_what_is_no_such_encoding_is_refused(name, sample):
    with pytest.raises(ValueError, match=r"this is no|damaged"):
        DECODERS[name](sample)


@pytest.mark.parametrize("name", DECODERS)
def test_a_newer_format_is_refused(name):
    fields = msgpack.unpackb(samples()[name][0], strict_map_key=False)
    fields[0] = codec.FORMAT + 1
    with pytest.raises(ValueError, match=f"format {codec.FORMAT + 1}; this build reads up to"):
        DECODERS[name](msgpack.packb(fields))


@pytest.mark.parametrize("name", DECODERS)
def test_good_bytes_are_read(name):
    for data in samples()[name]:
        DECODERS[name](data)
