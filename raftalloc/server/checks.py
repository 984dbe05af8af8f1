"""Checks of single fields: each answers the value as the core takes it, or raises InvalidRequest with field and remedy.

Cheap checks come first and sizes before contents, so that hostile input costs little; values are shown clipped.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from raftalloc.core.quantities import (
    AMOUNT_MAX,
    BASE_KINDS,
    DURATION_MS_MAX,
    NAME_BYTES_MAX,
    Vector,
    is_kind,
    scale_of,
    text_of,
    unit_of,
)
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sized

PAGE_MAX: Final = 1_000
PAGE_DEFAULT: Final = 100
TIME_MS_MAX: Final = 1 << 46
"""The year 4199: far from overflow wherever a duration is added."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SHOWN_MAX: Final = 40
_KIND_MAX: Final = 128
"""Longer than any kind: a base name, a dot, and 64 characters."""


def shown(value: str) -> str:
    """A value as an error may quote it."""
    text = repr(value[: _SHOWN_MAX + 1])
    return text if len(value) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}...'"


def in_path(key: str) -> str:
    """A caller's key as the path of a field may have it: short, on one line, nothing that moves a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in key[:_SHOWN_MAX])


def name(field: str, value: str) -> str:
    """An identifier or nothing: at most 256 bytes of UTF-8 without control characters."""
    if len(value) > NAME_BYTES_MAX or (
        not value.isascii() and len(value.encode()) > NAME_BYTES_MAX
    ):
        problem = f"{shown(value)} is {len(value)} characters long"
        raise InvalidRequest(field, problem, f"use at most {NAME_BYTES_MAX} bytes of UTF-8")
    bad = _CONTROL.search(value)
    if bad:
        problem = f"has the control character U+{ord(bad[0]):04X} at position {bad.start()}"
        raise InvalidRequest(field, problem, "leave control characters out")
    return value


def required_name(field: str, value: str) -> str:
    """An identifier that must be there."""
    if not value:
        raise InvalidRequest(field, "is missing", f"give 1 to {NAME_BYTES_MAX} bytes of UTF-8")
    return name(field, value)


def at_most(field: str, values: Sized, limit: int) -> None:
    """Not more than `limit` items."""
    if len(values) > limit:
        raise InvalidRequest(field, f"has {len(values)} items", f"give at most {limit}")


def whole(field: str, value: int, low: int, high: int) -> int:
    """An integer from low to high."""
    if not low <= value <= high:
        raise InvalidRequest(field, f"{value} is out of bounds", f"give {low} to {high}")
    return value


def duration_ms(field: str, value: int, low: int = 0) -> int:
    """A length of time, or 0 for none; anything else is at least `low`."""
    if value == 0:
        return 0
    low = max(low, 1)
    if not low <= value <= DURATION_MS_MAX:
        remedy = f"give {low} to {DURATION_MS_MAX}, or 0 for none"
        raise InvalidRequest(field, f"{value} is out of bounds", remedy)
    return value


def time_ms(field: str, value: int) -> int:
    """A time since the epoch, or 0 for none."""
    return whole(field, value, 0, TIME_MS_MAX)


def identifier(field: str, value: int) -> int:
    """An id that raftalloc gave, or 0 for none."""
    if value < 0:
        raise InvalidRequest(field, f"{value} is no id", "ids are above 0")
    return value


def required_identifier(field: str, value: int) -> int:
    """An id that raftalloc gave."""
    if value == 0:
        raise InvalidRequest(field, "is missing", "give the id that the grant or queueing named")
    return identifier(field, value)


def page_size(value: int) -> int:
    """Rows of a page."""
    return whole("page_size", value, 0, PAGE_MAX) or PAGE_DEFAULT


def vector(field: str, amounts: Mapping[str, int], kinds_max: int, low: int) -> Vector:
    """Amounts by kind, each from `low` to AMOUNT_MAX canonical units, sorted by kind; at most kinds_max kinds."""
    if len(amounts) > kinds_max:
        raise InvalidRequest(field, f"has {len(amounts)} kinds", f"give at most {kinds_max}")
    for kind, amount in amounts.items():
        if not known_kind(kind):
            raise InvalidRequest(f"{field}.{in_path(kind)}", *_unknown_kind(kind))
        if not low <= amount <= AMOUNT_MAX:
            raise InvalidRequest(f"{field}.{kind}", *_bad_amount(kind, amount, low))
    return tuple(sorted(amounts.items()))


def one_of(field: str, value: str, known: Collection[str]) -> str:
    """One of a few words; suggests the nearest."""
    if value not in known:
        raise InvalidRequest(field, f"{shown(value)} is not known", nearest(value, known))
    return value


def nearest(wrong: str, known: Collection[str]) -> str:
    """The remedy for a misspelt word."""
    near = difflib.get_close_matches(wrong[:64], known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def known_kind(kind: str) -> bool:
    """Whether the kind is well-formed. What is too long for one is not even remembered: it may be megabytes."""
    return len(kind) <= _KIND_MAX and _remembered_kind(kind)


@lru_cache(maxsize=1024)
def _remembered_kind(kind: str) -> bool:
    return is_kind(kind)  # the same few come again and again


def _unknown_kind(kind: str) -> tuple[str, str]:
    base, dot, _ = kind.partition(".")
    if dot and base == "gpu":
        return "gpu has no dotted types", "ask for gpu, and name models in gpu_models"
    if dot and base in BASE_KINDS:
        return (
            f"the type in {shown(kind)} is malformed",
            "use 1 to 64 of a-z, 0-9, '-' and '_' after the dot",
        )
    return f"{shown(kind)} is no kind of resource", nearest(kind, BASE_KINDS)


def _bad_amount(kind: str, amount: int, low: int) -> tuple[str, str]:
    if amount < low:
        smallest = f"{text_of(kind, 1)} {unit_of(kind)}"
        problem = f"{amount} is not above 0" if low else f"{amount} is negative"
        return problem, f"canonical units: {scale_of(kind)} to a whole one, so 1 is {smallest}"
    return f"{amount} is too much", f"at most {AMOUNT_MAX} canonical units"
