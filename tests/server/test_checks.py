"""Checks of single fields, where they guard more than the field."""

from __future__ import annotations

from raftalloc.server import checks


def test_of_kinds_that_are_far_too_long_nothing_is_remembered():
    checks._remembered_kind.cache_clear()
    assert not checks.known_kind("disk." + "x" * 4_000_000)
    assert checks._remembered_kind.cache_info().currsize == 0
    assert checks.known_kind("disk." + "x" * 64)
    assert checks._remembered_kind.cache_info().currsize == 1
