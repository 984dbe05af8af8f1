from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.client.quantities import amount_of, amounts_of, limits_of, units_of, vector_of
from raftalloc.core.quantities import AMOUNT_MAX, scale_of
from raftalloc.errors import InvalidRequest

KINDS = ("cpu", "memory", "disk.nvme", "network", "gpu", "api_quota.openai")


@pytest.mark.parametrize(
    ("kind", "amount", "units"),
    [
        ("cpu", 4, 4000),
        ("cpu", 0.1, 100),
        ("cpu", "0.001", 1),
        ("cpu", Decimal("2.500"), 2500),
        ("cpu", Fraction(1, 8), 125),
        ("memory", 8, 8192),
        ("memory", 0.5, 512),
        ("memory", 1 / 1024, 1),
        ("disk.nvme", 0.0009765625, 1),
        ("api_quota", 1000, 1_000_000),
        ("cpu", np.int64(3), 3000),
        ("cpu", np.float64(0.25), 250),
    ],
)
def test_an_amount_is_converted_exactly(kind: str, amount: Any, units: int) -> None:
    assert units_of(kind, amount, field="x") == units


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        (Decimal("sNaN"), "not finite"),
        (-1, "too little"),
        (0, "too little"),
        (0.0, "too little"),
        (True, "no number"),
        (None, "no number"),
        ([4], "no number"),
        (1 + 2j, "no number"),
        ("four", "no decimal"),
        ("1_000", "no decimal"),
        ("\u0664", "no decimal"),
        ("inf", "no decimal"),
        ("1" * 100, "no decimal"),
        (0.0001, "no multiple"),
        (Fraction(1, 3), "no multiple"),
        (1e300, "out of all bounds"),
        (Decimal("1e-999999"), "out of all bounds"),
        (Decimal("1e999999"), "out of all bounds"),
        pytest.param(10**5000, "too much", id="huge"),
        (AMOUNT_MAX, "too much"),
    ],
)
def test_what_is_no_exact_positive_amount_is_refused_by_name_and_with_a_remedy(
    amount: Any, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem) as caught:
        vector_of({"cpu": amount})
    assert caught.value.field == "resources.cpu"
    assert caught.value.remedy
    assert len(str(caught.value)) < 300


def test_an_inexact_amount_is_answered_with_its_neighbours() -> None:
    with pytest.raises(InvalidRequest) as caught:
        units_of("memory", 0.1, field="resources.memory")
    assert caught.value.remedy == "nothing is rounded: write 0.099609375 or 0.1005859375"


def test_the_nearest_amount_is_never_one_that_would_be_refused_too():
    with pytest.raises(InvalidRequest) as caught:
        units_of("cpu", 0.0001, field="resources.cpu")
    assert caught.value.remedy == "nothing is rounded: write 0.001"
    with pytest.raises(InvalidRequest) as caught:
        units_of("cpu", 0.0001, field="limits.cpu", zero=True)
    assert caught.value.remedy == "nothing is rounded: write 0 or 0.001"


@pytest.mark.parametrize(
    "kind",
    [
        "cpus",
        "",
        "gpu.a100",
        "disk.",
        "disk.NVME",
        "cpu\n",
        pytest.param("x" * 10_000_000, id="10MB"),
        4,
    ],
)
def test_a_kind_that_cannot_be_is_refused_without_repeating_it_at_length(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="no resource kind") as caught:
        vector_of({kind: 1})
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_a_request_names_between_one_and_eight_kinds() -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        vector_of({})
    with pytest.raises(InvalidRequest, match="100000 kinds"):
        vector_of({f"disk.t{i}": 1 for i in range(100_000)})
    with pytest.raises(InvalidRequest, match="no mapping"):
        vector_of([("cpu", 1)])  # type: ignore[arg-type]  # what the test is about


def test_a_limit_may_be_zero_and_there_may_be_none() -> None:
    assert limits_of({"cpu": 0}) == {"cpu": 0}
    assert limits_of({}) == {}
    with pytest.raises(InvalidRequest, match="too little"):
        limits_of({"cpu": -1})


@given(kind=st.sampled_from(KINDS), units=st.integers(1, AMOUNT_MAX))
def test_every_amount_that_is_given_out_is_taken_back_exactly(kind: str, units: int) -> None:
    assert units_of(kind, amount_of(kind, units), field="x") == units


@given(kind=st.sampled_from(KINDS), amount=st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_is_refused_or_means_the_decimal_it_prints_as(kind: str, amount: float) -> None:
    try:
        units = units_of(kind, amount, field="x")
    except InvalidRequest:
        return
    exact = {Fraction(str(amount)) * scale_of(kind), Fraction(amount) * scale_of(kind)}
    assert units in exact


def test_amounts_read_as_people_write_them_in_the_order_of_the_kinds() -> None:
    shown = amounts_of({"memory": 8192, "cpu": 500, "api_quota.openai": 1_000_000, "disk.a": 1})
    assert list(shown.items()) == [
        ("cpu", 0.5),
        ("memory", 8),
        ("disk.a", 1 / 1024),
        ("api_quota.openai", 1000),
    ]
    assert isinstance(shown["memory"], int)
