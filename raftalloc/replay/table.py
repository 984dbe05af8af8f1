"""CSV files with a header, read row by row; a complaint names the file, the line and the column."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from raftalloc.core.quantities import NAME_BYTES_MAX
from raftalloc.errors import InvalidRequest

MILLISECONDS_MAX = 1 << 50
"""Of a time in a trace: far beyond any trace, far from overflow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line. Columns are found by name; a missing optional column reads as an empty cell."""

    path: str
    line: int
    columns: Mapping[str, int]
    cells: Sequence[str]

    def bad(self, column: str, problem: str, remedy: str) -> InvalidRequest:
        """The complaint about a cell, to be raised."""
        return InvalidRequest(f"{self.path}, line {self.line}, column {column}", problem, remedy)

    def text(self, column: str) -> str:
        """The cell without surrounding blanks."""
        at = self.columns.get(column)
        return "" if at is None else self.cells[at].strip()

    def name(self, column: str, default: str = "") -> str:
        """An identifier of 1..256 bytes without control characters; `default` for an empty cell."""
        value = self.text(column) or default
        if not value:
            raise self.bad(column, "is empty", "give a name of 1 to 256 bytes")
        if len(value.encode()) > NAME_BYTES_MAX or not value.isprintable():
            raise self.bad(
                column, f"{value[:32]!r} is no name", "use 1 to 256 bytes, no control characters"
            )
        return value

    def integer(self, column: str, *, default: int | None = None, low: int, high: int) -> int:
        """A whole number of low..high; a fraction is rounded up, as an imported demand is."""
        cell = self.text(column)
        if not cell and default is not None:
            return default
        if cell.isascii() and cell.isdigit() and len(cell) <= 19:
            value = int(cell)
        else:
            value = _ceiling(self._decimal(column, cell))
        if not low <= value <= high:
            raise self.bad(column, f"{cell} is out of range", f"give a number of {low} to {high}")
        return value

    def milliseconds(self, column: str) -> int | None:
        """A time in seconds, to the millisecond, rounded up; None where the cell is empty."""
        cell = self.text(column)
        if not cell:
            return None
        value = _ceiling(self._decimal(column, cell) * 1000)
        if not 0 <= value <= MILLISECONDS_MAX:
            raise self.bad(
                column, f"{cell} s is out of range", "give seconds from 0 on, e.g. 12 or 12.345"
            )
        return value

    def _decimal(self, column: str, cell: str) -> Decimal:
        try:
            value = Decimal(cell)
        except InvalidOperation:
            value = Decimal("NaN")
        # The exponent is looked at before anything is computed: 1e999999999 costs nothing.
        if not value.is_finite() or value.adjusted() > 18:
            raise self.bad(column, f"{cell[:32]!r} is no number", "give a decimal number")
        return value


def _ceiling(value: Decimal) -> int:
    whole = int(value)
    return whole + 1 if value > whole else whole


@contextmanager
def reading(
    path: str, *, required: Sequence[str], optional: Sequence[str]
) -> Iterator[Iterator[Row]]:
    """The rows of the file, as they are read; it is open while inside.

    Columns that are in neither list are passed over.

    Raises InvalidRequest for a file that cannot be read, a header without a required column or with
    a column twice, and a row whose cells are not as many as the header's.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield _rows(path, file, required, optional)
    except OSError as error:
        raise InvalidRequest(path, error.strerror or str(error), "check the path") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(path, "is not UTF-8 text", "give a CSV file in UTF-8") from error


def _rows(
    path: str, file: Iterable[str], required: Sequence[str], optional: Sequence[str]
) -> Iterator[Row]:
    reader = csv.reader(file)
    try:
        header = next(reader, [])
        columns = _columns(path, [cell.strip() for cell in header], required, optional)
        for cells in reader:
            line = reader.line_num  # the last of them, where a quoted cell has several
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidRequest(
                    f"{path}, line {line}",
                    f"{len(cells)} cells under a header of {len(header)}",
                    "give every row the columns of the header; quote cells that hold a comma",
                )
            yield Row(path, line, columns, cells)
    except csv.Error as error:
        raise InvalidRequest(
            f"{path}, line {reader.line_num}", f"is no CSV ({error})", "check the quotes"
        ) from error


def _columns(
    path: str, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> dict[str, int]:
    where = f"{path}, line 1"
    missing = [column for column in required if column not in header]
    if missing:
        raise InvalidRequest(
            where,
            f"the header has no column {', '.join(missing)}",
            f"the columns are {', '.join([*required, *optional])} (docs/traces.md)",
        )
    known = [column for column in header if column in required or column in optional]
    for column in known:
        if known.count(column) > 1:
            raise InvalidRequest(where, f"the column {column} stands there twice", "drop one")
    return {column: header.index(column) for column in known}
