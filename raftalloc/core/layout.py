"""Records of one kind, laid out as columns: the raw material of every storage format.

A BLOCK of records is a string table and, per record type, one packed column per field (design 9.1). A record type is a
frozen dataclass whose fields are of the types named in `_PACKERS`; the layout is read off the type, so a field that is
appended to a record appends a column, and a block that lacks it is read with the field's default.

Columns are little-endian int64, written by `array`, which for the short blocks of single requests costs a tenth of what
numpy does and for long ones the same.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack

from raftalloc.core.commands import OPERATOR_NAMES, Constraint
from raftalloc.core.formats import nested_of_text, text_of_nested
from raftalloc.core.quantities import Vector
from raftalloc.core.terms import Terms, Typical

assert sys.byteorder == "little", (
    "the formats are little-endian; big-endian machines are not supported"
)
assert array("q").itemsize == 8, "int64 columns need an 8-byte 'q'"

FORMAT = 0
"""Of everything that core writes. Golden files pin it; a newer one is refused, never guessed at."""

DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, StopIteration, TypeError)
"""What damaged bytes raise on their way through a decoder, besides ValueError; decoders make ValueError of it."""

Record = Any
"""Any frozen dataclass of the field types below; the types differ from call to call."""


class Strings:
    """The string table of a block being written: every text once, in order of first use."""

    def __init__(self) -> None:
        """Start empty."""
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The table's number for a text."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


def _ints(numbers: Iterable[int]) -> bytes:
    """Pack int64; raises OverflowError for what does not fit."""
    return array("q", numbers).tobytes()


def _unpack_ints(data: bytes) -> list[int]:
    """Unpack int64; raises ValueError if the length is not a multiple of 8."""
    column = array("q")
    column.frombytes(data)
    return column.tolist()


def _pack_plain(values: Sequence[int], _strings: Strings) -> bytes:
    return _ints(values)


def _unpack_plain(data: bytes, _strings: Sequence[str]) -> list[int]:
    return _unpack_ints(data)


def _unpack_bools(data: bytes, _strings: Sequence[str]) -> list[bool]:
    return [value != 0 for value in _unpack_ints(data)]


def _pack_texts(values: Sequence[str], strings: Strings) -> bytes:
    return _ints(map(strings.number, values))


def _unpack_texts(data: bytes, strings: Sequence[str]) -> list[str]:
    return [_text(strings, number) for number in _unpack_ints(data)]


def _text(strings: Sequence[str], number: int) -> str:
    """A text of the table; a number below 0 is damage, which Python would read as one from the end."""
    if number < 0:
        raise ValueError(f"there is no text {number}")
    return strings[number]


def _pack_lists(values: Sequence[Sequence[Any]], flatten: Callable[[Any], Iterable[int]]) -> bytes:
    """Compressed rows: how many values, the length of each, then all items one after the other."""
    numbers = [len(values), *map(len, values)]
    for value in values:
        for item in value:
            numbers.extend(flatten(item))
    return _ints(numbers)


def _unpack_lists(
    data: bytes, width: int, build: Callable[[list[int]], Any]
) -> list[tuple[Any, ...]]:
    """The inverse, for items of `width` numbers each."""
    numbers = _unpack_ints(data)
    count, position = numbers[0], numbers[0] + 1
    if not 0 <= count < len(numbers):
        raise ValueError(f"a column of {count} lists in {len(numbers)} numbers")
    rows: list[tuple[Any, ...]] = []
    for length in numbers[1 : count + 1]:
        if not 0 <= length <= len(numbers):
            raise ValueError(f"a list of {length} items in {len(numbers)} numbers")
        items = []
        for _ in range(length):
            items.append(build(numbers[position : position + width]))
            position += width
        rows.append(tuple(items))
    if position != len(numbers):
        raise ValueError("a column of lists is longer or shorter than it says")
    return rows


def _pack_vectors(values: Sequence[Vector], strings: Strings) -> bytes:
    return _pack_lists(values, lambda pair: (strings.number(pair[0]), pair[1]))


def _unpack_vectors(data: bytes, strings: Sequence[str]) -> list[tuple[Any, ...]]:
    return _unpack_lists(data, 2, lambda item: (_text(strings, item[0]), item[1]))


def _pack_text_tuples(values: Sequence[tuple[str, ...]], strings: Strings) -> bytes:
    return _pack_lists(values, lambda text: (strings.number(text),))


def _unpack_text_tuples(data: bytes, strings: Sequence[str]) -> list[tuple[Any, ...]]:
    return _unpack_lists(data, 1, lambda item: _text(strings, item[0]))


def _pack_text_pairs(values: Sequence[tuple[tuple[str, str], ...]], strings: Strings) -> bytes:
    return _pack_lists(values, lambda pair: (strings.number(pair[0]), strings.number(pair[1])))


def _unpack_text_pairs(data: bytes, strings: Sequence[str]) -> list[tuple[Any, ...]]:
    return _unpack_lists(data, 2, lambda item: (_text(strings, item[0]), _text(strings, item[1])))


_OPERATORS = tuple(str(operator) for operator in OPERATOR_NAMES)


def _pack_constraints(values: Sequence[tuple[Constraint, ...]], strings: Strings) -> bytes:
    # Few requests differ in their constraints, so each distinct list is one text of the table.
    texts = [_constraints_text(value) for value in values]
    return _pack_texts(texts, strings)


def _constraints_text(constraints: tuple[Constraint, ...]) -> str:
    """Key, operator and values, lengths in front, so that no name can be mistaken for a separator."""
    parts: list[str] = []
    for constraint in constraints:
        words = (constraint.key, str(constraint.operator), *constraint.values)
        parts.append(f"{len(words)}:" + "".join(f"{len(word)}:{word}" for word in words))
    return "".join(parts)


def _unpack_constraints(data: bytes, strings: Sequence[str]) -> list[tuple[Constraint, ...]]:
    return [_constraints_of(text) for text in _unpack_texts(data, strings)]


def _constraints_of(text: str) -> tuple[Constraint, ...]:
    constraints: list[Constraint] = []
    position = 0
    while position < len(text):
        count, position = _length_at(text, position)
        words: list[str] = []
        for _ in range(count):
            length, position = _length_at(text, position)
            words.append(text[position : position + length])
            position += length
        if position > len(text) or len(words) < 2 or words[1] not in _OPERATORS:
            raise ValueError(f"no constraint, or one that this build does not know: {words}")
        constraints.append(Constraint(words[0], int(words[1]), tuple(words[2:])))
    return tuple(constraints)


def _length_at(text: str, position: int) -> tuple[int, int]:
    """The length written at a position, and the position behind it."""
    colon = text.index(":", position)
    digits = text[position:colon]
    if len(digits) > 9 or not digits.isascii() or not digits.isdigit():
        raise ValueError(f"no length: {digits[:20]!r}")
    return int(digits), colon + 1


Packer = tuple[Callable[..., bytes], Callable[..., list[Any]]]


def _nested(hint: Any) -> Packer:
    """Nested records: each distinct one is one text of the table."""

    def pack_nested(values: Sequence[Any], strings: Strings) -> bytes:
        return _pack_texts([text_of_nested(value) for value in values], strings)

    def unpack_nested(data: bytes, strings: Sequence[str]) -> list[Any]:
        return [nested_of_text(hint, text) for text in _unpack_texts(data, strings)]

    return pack_nested, unpack_nested


_PACKERS: dict[Any, Packer] = {
    int: (_pack_plain, _unpack_plain),
    bool: (_pack_plain, _unpack_bools),
    str: (_pack_texts, _unpack_texts),
    Vector: (_pack_vectors, _unpack_vectors),
    tuple[str, ...]: (_pack_text_tuples, _unpack_text_tuples),
    tuple[tuple[str, str], ...]: (_pack_text_pairs, _unpack_text_pairs),
    tuple[Constraint, ...]: (_pack_constraints, _unpack_constraints),
    Terms: _nested(Terms),
    tuple[Typical, ...]: _nested(tuple[Typical, ...]),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One column: how it is written and read, and what stands in for it in a block older than the field."""

    name: str
    pack: Callable[..., bytes]
    unpack: Callable[..., list[Any]]
    default: Any


class Layout:
    """How the records of one type lie in columns."""

    def __init__(self, record_type: type[Any]) -> None:
        """Read the columns off a dataclass; raises KeyError for a field of a type that has no layout."""
        self.record_type = record_type
        hints = typing.get_type_hints(record_type)
        self._fields = tuple(
            _Field(field.name, *_PACKERS[hints[field.name]], field.default)
            for field in dataclasses.fields(record_type)
        )
        self._defaults = {field.name: field.default for field in self._fields}

    def pack(self, records: Sequence[Record], strings: Strings) -> list[bytes]:
        """One packed column per field, in the order of the fields, up to the last that says more than its default.

        A field that was appended and is not used leaves no trace, so that a build that does not know it writes the
        same bytes, and reads them.
        """
        names = [field.name for field in self._fields]
        while names and self._is_default(names[-1], records):
            names.pop()
        return [
            field.pack([getattr(record, field.name) for record in records], strings)
            for field in self._fields[: len(names)]
        ]

    def _is_default(self, name: str, records: Sequence[Record]) -> bool:
        default = self._defaults.get(name, dataclasses.MISSING)
        return default is not dataclasses.MISSING and all(
            getattr(record, name) == default for record in records
        )

    def unpack(self, columns: Sequence[bytes], strings: Sequence[str], count: int) -> list[Record]:
        """The records. Raises ValueError if there are more columns than this build knows."""
        if len(columns) > len(self._fields):
            raise ValueError(
                f"{self.record_type.__name__} has fields that this build does not know"
            )
        values: list[list[Any]] = []
        for field, column in zip(self._fields, columns, strict=False):
            values.append(field.unpack(column, strings))
        if any(len(value) != count for value in values):
            raise ValueError(f"the columns of {self.record_type.__name__} differ in length")
        for field in self._fields[len(columns) :]:
            if field.default is dataclasses.MISSING:
                raise ValueError(
                    f"{self.record_type.__name__}.{field.name} is missing and has no default"
                )
            values.append([field.default] * count)
        return (
            [self.record_type(*row) for row in zip(*values, strict=True)]
            if values
            else [self.record_type() for _ in range(count)]
        )


class Family:
    """Record types that may stand in one block together; the number of a type is its place, so append only."""

    def __init__(self, record_types: Sequence[type[Any]]) -> None:
        """Number the types by their order."""
        self._layouts = tuple(Layout(record_type) for record_type in record_types)
        self._numbers = {record_type: n for n, record_type in enumerate(record_types)}

    def pack(self, records: Sequence[Record], strings: Strings) -> list[Any]:
        """[type of each record, {type: [count, columns]}], ready for msgpack."""
        numbers = [self._numbers[type(record)] for record in records]
        grouped: dict[int, list[Record]] = {}
        for number, record in zip(numbers, records, strict=True):
            grouped.setdefault(number, []).append(record)
        tables = {
            number: [len(group), *self._layouts[number].pack(group, strings)]
            for number, group in grouped.items()
        }
        return [bytes(numbers), tables]

    def unpack(self, packed: Sequence[Any], strings: Sequence[str]) -> list[Record]:
        """The records, in the order they were packed in. Raises ValueError for what it cannot read."""
        numbers, tables = packed
        for number, table in tables.items():
            if not 0 <= number < len(self._layouts):
                raise ValueError(f"record type {number} is not known to this build")
            if table[0] != numbers.count(number):  # before anything of that size is made
                raise ValueError(
                    f"{table[0]} records of type {number}, {numbers.count(number)} named"
                )
        queues = {
            number: iter(self._layouts[number].unpack(table[1:], strings, table[0]))
            for number, table in tables.items()
        }
        return [next(queues[number]) for number in numbers]


def pack(value: Any) -> bytes:
    """msgpack, with integer map keys allowed."""
    return typing.cast("bytes", msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, length: int, what: str) -> list[Any]:
    """The fields of an encoding, of which the first is its format; raises ValueError for garbage and newer formats."""
    try:
        fields = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, *DAMAGE) as error:
        raise ValueError(f"this is no {what}: {error!r}") from error
    if not isinstance(fields, list) or not fields or not isinstance(fields[0], int):
        raise ValueError(f"this is no {what}")
    if not 0 <= fields[0] <= FORMAT:
        raise ValueError(f"{what} of format {fields[0]}; this build reads up to {FORMAT}")
    if len(fields) != length:
        raise ValueError(f"a damaged {what}: {len(fields)} of {length} fields")
    return fields


def check_types(what: str, *values: tuple[Any, type[Any]]) -> None:
    """Raise TypeError for the first value that is not of its type; a bool is no int."""
    for value, wanted in values:
        if type(value) is not wanted:
            raise TypeError(f"{what}: {value!r:.40} is no {wanted.__name__}")


def check_list(what: str, values: Any, wanted: type[Any]) -> None:
    """The same for every item of a list."""
    check_types(what, (values, list), *((value, wanted) for value in values))
