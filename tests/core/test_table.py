"""Rows that come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.core.table import Table

WIDTHS = {"id": 1, "kinds": 3}


@given(st.lists(st.integers(-40, 200), max_size=120))
def test_a_table_holds_what_was_put_into_it(steps):
    table = Table(WIDTHS)
    rows: dict[int, int] = {}
    for step in steps:
        if step < 0 and rows:
            row = sorted(rows)[step % len(rows)]
            table.remove(row)
            del rows[row]
        else:
            row = table.add()
            assert row not in rows
            assert table.columns["id"][row] == 0
            assert table.columns["kinds"][row].tolist() == [0, 0, 0]
            table.columns["id"][row] = step
            table.columns["kinds"][row] = [step, 1, 2]
            rows[row] = step
    assert table.count() == len(rows)
    again = Table(WIDTHS)
    again.restore(*table.parts())
    assert again.parts() == table.parts()
    for row, value in rows.items():
        assert again.columns["kinds"][row].tolist() == [value, 1, 2]


def test_a_table_grows_beyond_its_first_rows():
    table = Table(WIDTHS)
    for number in range(1000):
        row = table.add()  # before the column is looked up: it may be another one afterwards
        table.columns["id"][row] = number
    assert table.columns["id"][:1000].tolist() == list(range(1000))
    assert table.rows_allocated() == 1024


def test_a_row_is_used_again_the_latest_freed_first():
    table = Table(WIDTHS)
    rows = [table.add() for _ in range(3)]
    table.remove(rows[0])
    table.remove(rows[2])
    assert [table.add(), table.add(), table.add()] == [2, 0, 3]


def test_a_column_that_older_bytes_lack_stays_zero():
    table = Table(WIDTHS)
    table.columns["id"][table.add()] = 7
    high, free, columns = table.parts()
    del columns["kinds"]
    again = Table(WIDTHS)
    again.restore(high, free, columns)
    assert again.columns["kinds"][0].tolist() == [0, 0, 0]
    assert again.columns["id"][0] == 7


@pytest.mark.parametrize(
    "columns", [{}, {"id": bytes(8)}, {"id": bytes(24)}, {"id": bytes(16), "kinds": bytes(16)}]
)
def test_columns_of_another_length_are_refused_before_room_is_made(columns):
    with pytest.raises(ValueError, match="columns that are no"):
        Table(WIDTHS).restore(2, [], columns)
    with pytest.raises(ValueError, match="columns that are no"):
        Table(WIDTHS).restore(1 << 60, [], columns)
