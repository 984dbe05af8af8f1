"""Resource kinds, their columns, canonical units and bounds.

A KIND is one of nine base names, or a base name with a dotted type (`disk.nvme`). Every kind is a column of the matrix;
a dotted kind is a column of its own and a plain kind never matches it (design 9.11).

Quantities are int64 in canonical units: memory and disk 1024 per GB (MiB), all else 1000 per unit. Nothing here rounds:
what cannot be represented exactly is refused where it enters.

SCOPE: a kind lives on nodes or on cluster-wide providers. Base kinds have a fixed scope, which their dotted
types share.
"""

from __future__ import annotations

from typing import Final

Vector = tuple[tuple[str, int], ...]
"""A sparse demand, capacity or limit.

(kind, amount) pairs sorted by kind, each kind once, amounts in canonical units.
"""

NODE: Final = 0
PROVIDER: Final = 1

BASE_KINDS: Final = (
    "cpu",
    "memory",
    "disk",
    "network",
    "gpu",
    "cache",
    "db_connections",
    "query_capacity",
    "api_quota",
)
_SCALE_OF_BASE: Final = {"memory": 1024, "disk": 1024}
_PROVIDER_BASES: Final = ("db_connections", "query_capacity", "api_quota")

UNIT_OF_BASE: Final = {
    "cpu": "cores",
    "memory": "GB",
    "disk": "GB",
    "network": "Mbps",
    "gpu": "GPUs",
    "cache": "MB",
    "db_connections": "connections",
    "query_capacity": "queries/s",
    "api_quota": "requests/min",
}

GPU: Final = "gpu"
DEVICE_UNITS: Final = 1000
"""Canonical units of one GPU device."""

KINDS_MAX: Final = 64
"""Columns of the matrix (design 9.11)."""
KINDS_PER_REQUEST_MAX: Final = 8
DEVICES_PER_NODE_MAX: Final = 64
AMOUNT_MAX: Final = 1 << 50
"""Of one kind on one row or in one demand: 10^15."""
FLEET_AMOUNT_MAX: Final = 1 << 60
"""Of one kind on all rows together, with what is in use of it: so that every sum over the fleet fits int64."""
NAME_BYTES_MAX: Final = 256
DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
"""Ten years: far from overflow wherever it is added to a time."""


def base_of(kind: str) -> str:
    """`disk.nvme` -> `disk`."""
    return kind.partition(".")[0]


def is_kind(kind: str) -> bool:
    """Whether `kind` is well-formed: a base name, or base.type with type of [a-z0-9_-], 1..64 characters."""
    base, dot, subtype = kind.partition(".")
    if base not in BASE_KINDS:
        return False
    if not dot:
        return True
    if base == GPU or not 1 <= len(subtype) <= 64:
        return False
    return all(c in "abcdefghijklmnopqrstuvwxyz0123456789_-" for c in subtype)


def scale_of(kind: str) -> int:
    """Canonical units per whole unit: 1024 for memory and disk, else 1000."""
    return _SCALE_OF_BASE.get(base_of(kind), 1000)


def unit_of(kind: str) -> str:
    """The name of a whole unit, for people: `GB`, `cores`."""
    return UNIT_OF_BASE[base_of(kind)]


def scope_of(kind: str) -> int:
    """NODE or PROVIDER."""
    return PROVIDER if base_of(kind) in _PROVIDER_BASES else NODE


def text_of(kind: str, amount: int) -> str:
    """`amount` canonical units in whole units, exactly, for people: 1536 memory -> '1.5'."""
    scale = scale_of(kind)
    sign, magnitude = ("-", -amount) if amount < 0 else ("", amount)
    whole, rest = divmod(magnitude, scale)
    if not rest:
        return f"{sign}{whole}"
    digits = ""
    while rest and len(digits) < 10:  # 1/1024 needs ten decimals and ends there
        digit, rest = divmod(rest * 10, scale)
        digits += str(digit)
    return f"{sign}{whole}.{digits}"
