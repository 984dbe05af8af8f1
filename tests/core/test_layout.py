"""Records as columns: what goes in comes out, whatever the names are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.core import commands
from raftalloc.core.commands import Constraint
from raftalloc.core.layout import Family, Layout, Strings
from raftalloc.core.quantities import Vector

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
vectors = st.lists(st.tuples(texts, int64), max_size=4).map(tuple)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
constraints = st.lists(
    st.builds(
        Constraint,
        texts,
        st.sampled_from(sorted(commands.OPERATOR_NAMES)),
        st.lists(texts, max_size=3).map(tuple),
    ),
    max_size=3,
).map(tuple)


@dataclass(frozen=True, slots=True)
class Everything:
    """A field of each type that there is a layout for."""

    number: int
    flag: bool
    text: str
    vector: Vector
    names: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    constraints: tuple[Constraint, ...] = ()


everything = st.builds(
    Everything,
    int64,
    st.booleans(),
    texts,
    vectors,
    st.lists(texts, max_size=3).map(tuple),
    pairs,
    constraints,
)


@given(st.lists(everything, max_size=6))
def test_records_come_back_as_they_were(records):
    strings, layout = Strings(), Layout(Everything)
    columns = layout.pack(records, strings)
    assert layout.unpack(columns, strings.texts, len(records)) == records
    assert len(strings.texts) == len(set(strings.texts)), "a text is written once"


@given(st.lists(st.sampled_from([commands.Tick(), commands.Cordon("n"), commands.OpenSession()])))
def test_records_of_several_types_keep_their_order(records):
    family = Family((commands.Cordon, commands.Tick, commands.OpenSession))
    strings = Strings()
    packed = family.pack(records, strings)
    assert family.unpack(packed, strings.texts) == records


def test_a_field_of_a_type_without_layout_is_refused_at_once():
    @dataclass(frozen=True)
    class Odd:
        where: complex

    Odd.__annotations__["where"] = complex
    with pytest.raises(KeyError):
        Layout(Odd)


def column_of(record_type: Any, records: list[Any], place: int, numbers: list[int]) -> list[bytes]:
    columns = Layout(record_type).pack(records, Strings())
    columns[place] = b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)
    return columns


@pytest.mark.parametrize("numbers", [[], [0, 0], [-1], [7]])
def test_a_text_that_is_not_there_is_refused(numbers):
    columns = column_of(commands.Cordon, [commands.Cordon("n")], 0, numbers)
    with pytest.raises((ValueError, IndexError)):
        Layout(commands.Cordon).unpack(columns, ["n"], 1)


@pytest.mark.parametrize(
    "numbers",
    [[-1], [2, 0], [1, -1], [1, 1 << 40], [1, 1, 0], [1, 0, 5], [1 << 62], [1, 1, 0, 1, 9]],
)
def test_a_list_that_is_longer_or_shorter_than_it_says_is_refused(numbers):
    quota = commands.SetQuota("q", "", (("cpu", 1),))
    columns = column_of(commands.SetQuota, [quota], 2, numbers)
    with pytest.raises((ValueError, IndexError)):
        Layout(commands.SetQuota).unpack(columns, ["q", "", "cpu"], 1)


@pytest.mark.parametrize(
    "text",
    [
        "2",
        "2:",
        "2:4:zone",
        "-1:",
        "1:4:zone",
        "2:4:zone1:9",
        "2:99:zone1:1",
        "9999999999:",
        "2:4:zone2:-1",
        "٢:4:zone1:3",
    ],
)
def test_a_constraint_that_is_damaged_or_new_is_refused(text):
    commands_of = Layout(commands.Allocate)
    strings = Strings()
    columns = commands_of.pack(
        [commands.Allocate("a", "a", "", 1, (), constraints=(Constraint("k", 3),))], strings
    )
    damaged = [text if one == "2:1:k1:3" else one for one in strings.texts]
    with pytest.raises((ValueError, IndexError)):
        commands_of.unpack(columns, damaged, 1)
