"""Labels of live allocations: which rows of the table of leases carry which.

Derived from the leases and not part of the state's bytes.
"""

from __future__ import annotations

from typing import cast

from raftalloc.core.formats import nested_of_text
from raftalloc.core.terms import Label


class Labelled:
    """Lease rows by label."""

    def __init__(self) -> None:
        """Start with none."""
        self._rows: dict[Label, dict[int, None]] = {}

    def add(self, row: int, labels: tuple[Label, ...]) -> None:
        """A row carries these."""
        for label in labels:
            self._rows.setdefault(label, {})[row] = None

    def remove(self, row: int, labels: tuple[Label, ...]) -> None:
        """It is gone."""
        for label in labels:
            rows = self._rows[label]
            del rows[row]
            if not rows:
                del self._rows[label]

    def rows(self, label: Label) -> list[int]:
        """The rows that carry a label, in no order that means anything."""
        return list(self._rows.get(label, ()))


def labels_of_text(text: str) -> tuple[Label, ...]:
    """Labels as the table of leases keeps them: one interned text for all of an allocation's."""
    return cast("tuple[Label, ...]", nested_of_text(tuple[Label, ...], text))
