"""Lengths and moments as people write them, to milliseconds and back.

A LENGTH is a number of seconds, a timedelta, or text such as "90s", "30m", "24h", "7d". A MOMENT is a datetime with a
time zone, or ISO 8601 text with one ("2026-12-01T09:00:00Z"). Milliseconds since the epoch are the group's clock.
"""

from __future__ import annotations

import numbers
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from raftalloc.core.quantities import DURATION_MS_MAX
from raftalloc.errors import InvalidRequest

Length = int | float | Decimal | timedelta | str
Moment = datetime | str

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d|w)")
_MS_OF: Final = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}


def length_ms(value: Length | None, *, field: str) -> int:
    """Milliseconds from 0 to ten years; None is 0. Raises InvalidRequest where it is no whole number of them."""
    if value is None:
        return 0
    exact = _exact_ms(value, field)
    if exact < 0:
        raise InvalidRequest(field, f"{value!s:.40} is below 0", "write a length of time from 0 on")
    if exact > DURATION_MS_MAX:
        raise InvalidRequest(field, f"{value!s:.40} is too long", "ten years are the most")
    if exact.denominator != 1:
        raise InvalidRequest(
            field,
            f"{value!s:.40} is no whole number of milliseconds",
            "write three decimals at most",
        )
    return exact.numerator


def moment_ms(value: Moment, *, field: str) -> int:
    """Milliseconds since the epoch; what is finer is cut off. Raises InvalidRequest."""
    remedy = 'write "2026-12-01T09:00:00Z", or a datetime with a time zone'
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidRequest(field, f"{value[:40]!r} is no ISO 8601 time", remedy) from None
    elif isinstance(value, datetime):
        moment = value
    else:
        raise InvalidRequest(field, f"{type(value).__name__} is no moment", remedy)
    if moment.tzinfo is None:
        raise InvalidRequest(field, f"{moment.isoformat()} has no time zone", remedy)
    since = (moment - _EPOCH) // timedelta(milliseconds=1)
    if since < 0:
        raise InvalidRequest(field, f"{moment.isoformat()} is before 1970", remedy)
    return since


def index_or_ms(at: int | Moment | None, *, field: str) -> tuple[int, int]:
    """`at_index` and `at_time_ms` of a request: a whole number is an index of the log. Neither: now."""
    if at is None:
        return 0, 0
    if isinstance(at, int):
        if at <= 0 or isinstance(at, bool):
            raise InvalidRequest(field, f"{at} is no index", "indices of the log are above 0")
        return at, 0
    return 0, moment_ms(at, field=field)


def moment_of(ms: int) -> datetime | None:
    """The moment, in UTC; None for 0, which means "none"."""
    return _EPOCH + timedelta(milliseconds=ms) if ms else None


def _exact_ms(value: Length, field: str) -> Fraction:
    """The number of milliseconds that is meant."""
    remedy = 'write seconds (3600), a timedelta, or "24h"'
    if isinstance(value, timedelta):
        return Fraction(value // timedelta(microseconds=1), 1000)
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        if found is None:
            raise InvalidRequest(field, f"{value[:40]!r} is no length of time", remedy)
        return Fraction(found[1]) * _MS_OF[found[2]]
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
        raise InvalidRequest(field, f"{type(value).__name__} is no length of time", remedy)
    if isinstance(value, numbers.Rational):
        return Fraction(int(value.numerator), int(value.denominator)) * 1000
    seconds = Decimal(str(value))
    if not seconds.is_finite() or (seconds and not -20 <= seconds.adjusted() <= 20):
        raise InvalidRequest(field, f"{value!s:.40} is no length of time", remedy)
    return Fraction(seconds) * 1000
