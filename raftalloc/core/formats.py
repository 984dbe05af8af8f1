"""Records within records, as one text of the string table: few requests differ in them.

JSON, lists for records and tuples, fields by place, defaults at the end left out; equal records give equal texts.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any


def text_of_nested(value: Any) -> str:
    """A record, or a tuple of records, as a text; one that is empty, or all defaults, is the empty text."""
    plain = _plain(value)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False) if plain else ""


def nested_of_text(hint: Any, text: str) -> Any:
    """The inverse, for a value of the type `hint`. Raises ValueError for what is no such text."""
    try:
        return _build(hint, json.loads(text) if text else [])
    except RecursionError as error:
        raise ValueError("a nested record is too deep") from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    while fields and fields[-1][1] == fields[-1][0].default:
        fields.pop()
    return [_plain(each) for _, each in fields]


def _build(hint: Any, value: Any) -> Any:
    if hint in (int, str, bool):
        if type(value) is not hint:
            raise ValueError(f"{value!r:.40} is no {hint.__name__}")
        return value
    if type(value) is not list:
        raise ValueError(f"{value!r:.40} is no list")
    if dataclasses.is_dataclass(hint):
        return _build_record(hint, value)
    inner = typing.get_args(hint)
    assert isinstance(hint, types.GenericAlias), "nested fields are int, str, bool, records, tuples"
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_build(inner[0], item) for item in value)
    if len(inner) != len(value):
        raise ValueError(f"{len(value)} items for {len(inner)}")
    return tuple(map(_build, inner, value))


def _build_record(record_type: Any, values: list[Any]) -> Any:
    hints = typing.get_type_hints(record_type)
    fields = dataclasses.fields(record_type)
    if len(values) > len(fields):
        raise ValueError(f"{record_type.__name__} has fields that this build does not know")
    built = [_build(hints[field.name], item) for field, item in zip(fields, values, strict=False)]
    for field in fields[len(values) :]:
        if field.default is dataclasses.MISSING:
            raise ValueError(f"{record_type.__name__}.{field.name} is missing")
    return record_type(*built)
