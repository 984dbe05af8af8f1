"""Amounts in whole units, as people write them, to canonical units and back, exactly or not at all (design 9.10).

A float means the decimal that it prints as: 0.1 is one tenth. What is no whole number of canonical units (1/1024 for
memory and disk, else 1/1000) is refused, and the error names the nearest amounts that are one.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from raftalloc.core.quantities import (
    AMOUNT_MAX,
    BASE_KINDS,
    KINDS_MAX,
    KINDS_PER_REQUEST_MAX,
    base_of,
    is_kind,
    scale_of,
    text_of,
    unit_of,
)
from raftalloc.errors import InvalidRequest

Amount = int | float | Decimal | Fraction | str
"""A number of whole units: cores, GB, Mbps ... A str is a decimal such as "0.5"."""

_DECIMAL: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DIGITS_MAX: Final = 40
"""Of a decimal, before and behind the point: no amount in bounds needs more, and no text may cost us more."""
_SHOWN_MAX: Final = 60


def units_of(kind: str, amount: Amount, *, field: str, zero: bool = False) -> int:
    """Canonical units of `amount` whole units of `kind`. Raises InvalidRequest that names `field`.

    Above 0, or from 0 on where `zero` is allowed; at most AMOUNT_MAX.
    """
    check_kind(kind, field)
    exact = _exact(amount, field, unit_of(kind))
    scale = scale_of(kind)
    if exact < 0 or (exact == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        raise InvalidRequest(field, f"{_shown(amount)} is too little", f"ask for {least}")
    if exact * scale > AMOUNT_MAX:
        most = text_of(kind, AMOUNT_MAX)
        raise InvalidRequest(field, f"{_shown(amount)} is too much", f"the most is {most}")
    units = exact * scale
    if units.denominator != 1 and isinstance(amount, float):
        # Amounts that we gave out may print as a shorter decimal than they are: 1/1024 steps of large amounts.
        units = Fraction(amount) * scale
    if units.denominator != 1:
        low = units.numerator // units.denominator
        near = [text_of(kind, units) for units in (low, low + 1) if units or zero]
        raise InvalidRequest(
            field,
            f"{_shown(amount)} {unit_of(kind)} is no multiple of 1/{scale}",
            f"nothing is rounded: write {' or '.join(near)}",
        )
    return units.numerator


def vector_of(
    resources: Mapping[str, Amount],
    *,
    field: str = "resources",
    zero: bool = False,
    kinds_max: int = KINDS_PER_REQUEST_MAX,
) -> dict[str, int]:
    """Canonical units by kind, of 1 to `kinds_max` kinds. Raises InvalidRequest that names `resources.cpu`."""
    if not isinstance(resources, Mapping):
        raise InvalidRequest(field, "is no mapping of kinds to amounts", 'write {"cpu": 4}')
    if len(resources) > kinds_max:
        raise InvalidRequest(
            field, f"has {len(resources)} kinds", f"at most {kinds_max} go together"
        )
    if not resources:
        raise InvalidRequest(field, "is empty", 'name one kind at least: {"cpu": 4}')
    return {
        check_kind(kind, field): units_of(kind, amount, field=f"{field}.{kind}", zero=zero)
        for kind, amount in resources.items()
    }


def limits_of(resources: Mapping[str, Amount], *, field: str = "resources") -> dict[str, int]:
    """As `vector_of`, for limits and capacities: 0 is allowed, no kind at all too, and every kind there can be."""
    if isinstance(resources, Mapping) and not resources:
        return {}
    return vector_of(resources, field=field, zero=True, kinds_max=KINDS_MAX)


def amount_of(kind: str, units: int) -> int | float:
    """Whole units: an int where it is one, else the float that `units_of` takes back exactly."""
    scale = scale_of(kind)
    whole, rest = divmod(units, scale)
    return whole if not rest else units / scale


def amounts_of(vector: Mapping[str, int]) -> dict[str, int | float]:
    """Whole units by kind, in the order of the kinds."""
    return {kind: amount_of(kind, vector[kind]) for kind in sorted(vector, key=_order)}


def check_kind(kind: str, field: str) -> str:
    """The kind, if there can be one of that name. Raises InvalidRequest."""
    if not isinstance(kind, str) or not is_kind(kind):
        known = ", ".join(BASE_KINDS)
        raise InvalidRequest(
            f"{field}.{_shown(kind)}" if isinstance(kind, str) else field,
            f"{_shown(kind)} is no resource kind",
            f"kinds are {known}, or with a type: disk.nvme (gpu takes none: use gpu_models)",
        )
    return kind


def _order(kind: str) -> tuple[int, str]:
    """Kinds as they stand in BASE_KINDS, types behind their base."""
    base = base_of(kind)
    return (BASE_KINDS.index(base) if base in BASE_KINDS else len(BASE_KINDS), kind)


def _exact(amount: Amount, field: str, unit: str) -> Fraction:
    """The number that is meant. NaN, infinity, bool and what is no number are refused."""
    remedy = f"write a number of {unit}, such as 4 or 0.5"
    if isinstance(amount, bool) or not isinstance(amount, (numbers.Real, Decimal, str)):
        raise InvalidRequest(field, f"{_shown(amount)} is no number", remedy)
    if isinstance(amount, numbers.Rational):
        return Fraction(int(amount.numerator), int(amount.denominator))
    if isinstance(amount, str) and not (len(amount) <= _SHOWN_MAX and _DECIMAL.fullmatch(amount)):
        raise InvalidRequest(field, f"{_shown(amount)} is no decimal number", remedy)
    number = Decimal(str(amount))
    if not number.is_finite():
        raise InvalidRequest(field, f"{_shown(amount)} is not finite", remedy)
    if number and not -_DIGITS_MAX <= number.adjusted() <= _DIGITS_MAX:
        raise InvalidRequest(field, f"{_shown(amount)} is out of all bounds", remedy)
    return Fraction(number)


def _shown(value: object) -> str:
    """A value for an error message: never long, never with control characters."""
    if isinstance(value, int) and abs(value) > 10**_DIGITS_MAX:
        return f"an integer of {value.bit_length()} bits"
    text = value if isinstance(value, str) else repr(value)
    plain = "".join(c if c.isprintable() else "?" for c in text[:_SHOWN_MAX])
    return plain + ("..." if len(text) > _SHOWN_MAX else "")
