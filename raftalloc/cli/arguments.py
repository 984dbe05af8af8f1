"""From what people type to what the API takes: resources, durations, times, constraints, priorities.

Everything here raises InvalidRequest with the name of what was wrong and how to write it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import types_pb2
from raftalloc.client.quantities import check_kind, units_of
from raftalloc.core.quantities import DURATION_MS_MAX
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

_MS_PER_UNIT: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_CONSTRAINT: Final = re.compile(
    r"(?P<key>[^=!<>]+)(?:(?P<sign>!=|=|>|<)(?P<values>.*))?", re.DOTALL
)
_OPERATORS: Final = {
    "=": types_pb2.Constraint.OPERATOR_IN,
    "!=": types_pb2.Constraint.OPERATOR_NOT_IN,
    ">": types_pb2.Constraint.OPERATOR_GT,
    "<": types_pb2.Constraint.OPERATOR_LT,
}
_WRITE_DURATION: Final = "write it as 250ms, 90s, 5m, 1h30m or 2d; a bare number is seconds"
_WRITE_CONSTRAINT: Final = "write key=a,b  key!=a,b  key>3  key<3  or just key (it exists)"
_WRITE_RESOURCES: Final = "write kind=amount, e.g. cpu=4 memory=8 api_quota=1000"


class Priority(StrEnum):
    """How urgent."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def message(self) -> types_pb2.Priority.ValueType:
        """As the API has it."""
        return types_pb2.Priority.Value(f"PRIORITY_{self.name}")


class Policy(StrEnum):
    """Which of the nodes that could serve it."""

    BEST_FIT = "best_fit"
    FIRST_FIT = "first_fit"
    WORST_FIT = "worst_fit"
    BALANCED = "balanced"
    FGD = "fgd"
    SPREAD = "spread"
    LEAST_WASTE = "least_waste"

    @property
    def message(self) -> types_pb2.Policy.ValueType:
        """As the API has it."""
        return types_pb2.Policy.Value(f"POLICY_{self.name}")


def resources(
    words: Sequence[str], *, field: str = "resources", zero: bool = False
) -> dict[str, int]:
    """`["cpu=4", "memory=1.5"]` -> canonical units, exactly. zero: 0 is allowed, as in limits and capacities."""
    if not words:
        raise InvalidRequest(field, "nothing is asked for", _WRITE_RESOURCES)
    found: dict[str, int] = {}
    for word in words:
        kind, sign, text = word.partition("=")
        if not sign:
            raise InvalidRequest(field, f"{word!r} has no amount", _WRITE_RESOURCES)
        if check_kind(kind, field) in found:
            raise InvalidRequest(f"{field}.{kind}", "is given twice", "give each kind once")
        found[kind] = units_of(kind, text, field=f"{field}.{kind}", zero=zero)
    return found


def thousandths(text: str, *, field: str) -> int:
    """`2` or `0.5`, above 0, in thousandths."""
    remedy = "write a number above 0 with at most three decimals, such as 2 or 0.5"
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) or not Decimal(text):
        raise InvalidRequest(field, f"{text!r:.40} is no weight", remedy)
    return int(Decimal(text) * 1000)


def duration(text: str | None, *, field: str) -> int:
    """`1h30m` -> ms. None is 0."""
    if text is None:
        return 0
    length_ms = _milliseconds(text.strip(), field)
    if length_ms != int(length_ms):
        raise InvalidRequest(field, f"{text} is finer than a millisecond", "round it")
    if length_ms > DURATION_MS_MAX:
        raise InvalidRequest(field, f"{text} is too long", "give at most 10 years")
    return int(length_ms)


def _milliseconds(text: str, field: str) -> Decimal:
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return Decimal(text) * 1000
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidRequest(field, f"{text!r} is no length of time", _WRITE_DURATION)
    return sum((Decimal(number) * _MS_PER_UNIT[unit] for number, unit in parts), Decimal(0))


def moment(text: str, *, field: str, now_ms: int) -> int:
    """`2026-12-01T09:00:00Z`, `+10m` from now or `-10m` before -> ms since the epoch. Without a zone it is UTC."""
    if text.startswith("+"):
        return now_ms + duration(text[1:], field=field)
    if text.startswith("-"):
        return max(0, now_ms - duration(text[1:], field=field))
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            field, f"{text!r} is no time", "write 2026-12-01T09:00:00Z, or +10m from now"
        ) from None
    zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return round(zoned.timestamp() * 1000)


def constraints(words: Sequence[str]) -> list[types_pb2.Constraint]:
    """`zone=a,b`, `zone!=c`, `generation>3`, `generation<7`, `nvme` -> constraints, all of which must hold."""
    return [_constraint(word, f"constraints[{row}]") for row, word in enumerate(words)]


def _constraint(word: str, field: str) -> types_pb2.Constraint:
    parts = _CONSTRAINT.fullmatch(word)
    if parts is None:
        raise InvalidRequest(field, f"{word!r} is no constraint", _WRITE_CONSTRAINT)
    key, sign, values = parts["key"].strip(), parts["sign"], parts["values"]
    if sign is None:
        return types_pb2.Constraint(key=key, operator=types_pb2.Constraint.OPERATOR_EXISTS)
    listed = [value.strip() for value in values.split(",")]
    if not all(listed):
        raise InvalidRequest(field, f"{word!r} has no value", _WRITE_CONSTRAINT)
    if sign in "<>" and not (len(listed) == 1 and re.fullmatch(r"-?\d+", listed[0])):
        raise InvalidRequest(field, f"{values!r} is no single integer", _WRITE_CONSTRAINT)
    return types_pb2.Constraint(key=key, operator=_OPERATORS[sign], values=listed)


def attributes(words: Sequence[str]) -> dict[str, str]:
    """`["zone=a"]` -> {"zone": "a"}."""
    found: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not (key and sign):
            raise InvalidRequest("attributes", f"{word!r} is no attribute", "write key=value")
        if key in found:
            raise InvalidRequest(f"attributes.{key}", "is given twice", "give each attribute once")
        found[key] = value
    return found


def devices(words: Sequence[str]) -> list[str]:
    """`["A100:4", "T4"]` -> one model name per device."""
    models: list[str] = []
    for word in words:
        model, sign, number = word.partition(":")
        if not model or (sign and not (number.isdecimal() and 1 <= int(number) <= 64)):
            raise InvalidRequest(
                "devices", f"{word!r} is no device", "write MODEL or MODEL:COUNT, e.g. A100:4"
            )
        models += [model] * (int(number) if sign else 1)
    return models
