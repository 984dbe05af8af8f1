"""A struct of arrays: int64 columns over rows that come and go.

A freed row is used again, the latest freed first. Rows and free list are part of the state. Columns are numpy arrays of
shape (rows,) or (rows, width), grown by doubling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]
_ROWS_MIN = 64


class Table:
    """Columns by name. `self.columns[name][row]`; keep no reference to a column across `add`, which may replace it."""

    __slots__ = ("appended", "columns", "free", "high", "widths")

    def __init__(self, widths: Mapping[str, int], appended: Sequence[str] = ()) -> None:
        """`widths`: column name -> how many int64 a row has in it (1: a flat column).

        appended: columns that an older format does not have, left out of `parts` where they are all 0.
        """
        self.widths = dict(widths)
        self.appended = tuple(appended)
        self.high = 0
        self.free: list[int] = []
        self.columns: dict[str, Column] = {
            name: np.zeros(_shape(_ROWS_MIN, width), np.int64)
            for name, width in self.widths.items()
        }

    def add(self) -> int:
        """A row, all zero."""
        if self.free:
            return self.free.pop()
        row = self.high
        if row == self.rows_allocated():
            self._grow(row * 2)
        self.high += 1
        return row

    def remove(self, row: int) -> None:
        """Give a row back, zeroed, so that equal states are equal bytes."""
        for column in self.columns.values():
            column[row] = 0
        self.free.append(row)

    def count(self) -> int:
        """Rows in use."""
        return self.high - len(self.free)

    def rows_allocated(self) -> int:
        """Rows that fit before the next growth."""
        return len(next(iter(self.columns.values())))

    def _grow(self, rows: int) -> None:
        for name, column in self.columns.items():
            grown = np.zeros(_shape(rows, self.widths[name]), np.int64)
            grown[: len(column)] = column
            self.columns[name] = grown

    def parts(self) -> tuple[int, list[int], dict[str, bytes]]:
        """High-water mark, free list and the used part of each column: all there is to write down."""
        written = {
            name: column[: self.high].tobytes()
            for name, column in self.columns.items()
            if name not in self.appended or column.any()
        }
        return self.high, self.free, written

    def restore(self, high: int, free: list[int], columns: Mapping[str, bytes]) -> None:
        """The inverse of `parts`; a column that is missing (an older format) stays zero. Raises ValueError."""
        if not columns or any(
            len(data) != 8 * high * self.widths[name] for name, data in columns.items()
        ):
            raise ValueError(
                f"columns that are no {high} rows long"
            )  # before room is made for them
        self._grow(max(_ROWS_MIN, 1 << max(0, high - 1).bit_length()))
        self.high, self.free = high, list(free)
        for name, data in columns.items():
            values = np.frombuffer(data, np.int64)
            self.columns[name][:high] = values.reshape(_shape(high, self.widths[name]))


def _shape(rows: int, width: int) -> tuple[int, ...]:
    return (rows,) if width == 1 else (rows, width)
