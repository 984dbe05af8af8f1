"""Kinds, scales, and amounts as text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.core.quantities import (
    AMOUNT_MAX,
    BASE_KINDS,
    NODE,
    PROVIDER,
    base_of,
    is_kind,
    scale_of,
    scope_of,
    text_of,
    unit_of,
)


@given(st.sampled_from(BASE_KINDS), st.integers(-(1 << 63), 1 << 63))
def test_an_amount_as_text_is_exact(kind, amount):
    assert Fraction(text_of(kind, amount)) * scale_of(kind) == amount


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        ("memory", 1536, "1.5"),
        ("memory", 1, "0.0009765625"),
        ("cpu", 1, "0.001"),
        ("cpu", -1500, "-1.5"),
        ("disk.nvme", 1024, "1"),
        ("api_quota.openai", 0, "0"),
        ("gpu", AMOUNT_MAX, "1125899906842.624"),
    ],
)
def test_amounts_read_as_people_write_them(kind, amount, text):
    assert text_of(kind, amount) == text


@pytest.mark.parametrize(
    "kind", [*BASE_KINDS, "disk.nvme", "api_quota.gpt-4_o", "cache." + "x" * 64]
)
def test_kinds(kind):
    assert is_kind(kind)
    assert unit_of(kind)
    assert base_of(kind) in BASE_KINDS


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "CPU",
        "cpu.",
        ".cpu",
        "disk.NVMe",
        "disk.a.b",
        "gpu.a100",
        "cache." + "x" * 65,
        "disk.é",
        "cpu ",
    ],
)
def test_what_is_no_kind(kind):
    assert not is_kind(kind)


def test_a_dotted_type_lives_where_its_base_does():
    assert [scope_of(kind) for kind in BASE_KINDS] == [NODE] * 6 + [PROVIDER] * 3
    assert scope_of("api_quota.openai") == PROVIDER
    assert scope_of("disk.nvme") == NODE
    assert scale_of("disk.nvme") == 1024
