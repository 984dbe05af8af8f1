"""Priorities of published traces in ours (design 9.24).

Each trace counts in its own way; its `qos` column tells which it is, so that nobody has to say:

    Google clusterdata    class0..class3                     9-11 CRITICAL, 2-8 MEDIUM, 0-1 LOW
    openb (Alibaba GPU)   LS, Guaranteed, Burstable, BE      100 HIGH, 50 MEDIUM, 0 LOW
    Alibaba batch         batch                              MEDIUM

A trace of one's own names them: LOW, MEDIUM, HIGH, CRITICAL; an empty cell is MEDIUM.
"""

from __future__ import annotations

from typing import Final

from raftalloc.core.commands import CRITICAL, HIGH, LOW, MEDIUM, PRIORITY_NAMES
from raftalloc.replay.table import Row

_BY_NAME: Final = {name: value for value, name in PRIORITY_NAMES.items()}
_GOOGLE: Final = {
    **dict.fromkeys((0, 1), LOW),
    **dict.fromkeys(range(2, 9), MEDIUM),
    **dict.fromkeys((9, 10, 11), CRITICAL),
}
_OPENB: Final = {100: HIGH, 50: MEDIUM, 0: LOW}
_OPENB_QOS: Final = ("LS", "Guaranteed", "Burstable", "BE")


def priority_of(row: Row) -> int:
    """The priority of a row. Raises InvalidRequest for a number that its trace does not have."""
    cell = row.text("priority")
    qos = row.text("qos")
    if not cell or qos == "batch":
        return MEDIUM
    if cell.upper() in _BY_NAME:
        return _BY_NAME[cell.upper()]
    scheme = _scheme_of(qos)
    number = row.integer("priority", low=0, high=1000)
    if number not in scheme:
        known = ", ".join(str(value) for value in sorted(scheme))
        raise row.bad(
            "priority",
            f"{cell} is not known for qos {qos or '(none)'}, which has {known}",
            "name it: LOW, MEDIUM, HIGH or CRITICAL",
        )
    return scheme[number]


def _scheme_of(qos: str) -> dict[int, int]:
    if qos in _OPENB_QOS:
        return _OPENB
    # Without a qos column 0 is the lowest in both, and no other number is in both.
    return _GOOGLE if qos.startswith("class") else _OPENB | _GOOGLE
