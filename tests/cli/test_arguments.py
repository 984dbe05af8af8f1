"""What people type becomes what the API takes, or an error that says how to write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.api.v1 import types_pb2
from raftalloc.cli import arguments
from raftalloc.core.quantities import scale_of, text_of
from raftalloc.errors import InvalidRequest


def test_resources_become_canonical_units():
    words = ["cpu=4", "memory=1.5", "disk.nvme=10", "gpu=0.25"]
    assert arguments.resources(words) == {
        "cpu": 4000,
        "memory": 1536,
        "disk.nvme": 10240,
        "gpu": 250,
    }


@given(kind=st.sampled_from(["cpu", "memory", "gpu", "api_quota"]), units=st.integers(0, 1 << 50))
def test_what_is_shown_can_be_typed_again(kind, units):
    shown = text_of(kind, units)
    assert arguments.resources([f"{kind}={shown}"], zero=True) == {kind: units}
    assert scale_of(kind) > 0


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "resources"),
        (["cpu"], "resources"),
        (["water=3"], "resources.water"),
        (["cpu=four"], "resources.cpu"),
        (["cpu=-1"], "resources.cpu"),
        (["cpu=nan"], "resources.cpu"),
        (["cpu=inf"], "resources.cpu"),
        (["cpu=1e30"], "resources.cpu"),
        (["cpu=0.0001"], "resources.cpu"),
        (["memory=0.3"], "resources.memory"),
        (["cpu=1", "cpu=2"], "resources.cpu"),
        (["gpu.a100=1"], "resources.gpu.a100"),
    ],
)
def test_resources_that_mean_nothing_are_refused_by_name(words, field):
    with pytest.raises(InvalidRequest) as refused:
        arguments.resources(words)
    assert refused.value.field == field
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("text", "length_ms"),
    [("90", 90_000), ("1.5", 1500), ("250ms", 250), ("1h30m", 5_400_000), ("2d", 172_800_000)],
)
def test_durations_are_read(text, length_ms):
    assert arguments.duration(text, field="lease") == length_ms


def test_no_duration_is_zero():
    assert arguments.duration(None, field="lease") == 0


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1s", "1h 30m", "0.0001s", "20000d", "h"])
def test_durations_that_mean_nothing_are_refused(text):
    with pytest.raises(InvalidRequest) as refused:
        arguments.duration(text, field="lease")
    assert refused.value.field == "lease"


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-12-01T09:00:00Z", 1_796_115_600_000),
        ("2026-12-01T10:00:00+01:00", 1_796_115_600_000),
        ("2026-12-01 09:00", 1_796_115_600_000),
        ("+10m", 1_000_600_000),
    ],
)
def test_moments_are_read(text, at_ms):
    assert arguments.moment(text, field="start", now_ms=1_000_000_000) == at_ms


def test_a_moment_that_means_nothing_is_refused():
    with pytest.raises(InvalidRequest, match="start: 'tomorrow' is no time"):
        arguments.moment("tomorrow", field="start", now_ms=0)


@pytest.mark.parametrize(
    ("word", "key", "operator", "values"),
    [
        ("zone=a,b", "zone", "IN", ["a", "b"]),
        ("zone!=a", "zone", "NOT_IN", ["a"]),
        ("generation>3", "generation", "GT", ["3"]),
        ("generation<-1", "generation", "LT", ["-1"]),
        ("nvme", "nvme", "EXISTS", []),
        ("note=a=b", "note", "IN", ["a=b"]),
    ],
)
def test_constraints_are_read(word, key, operator, values):
    (constraint,) = arguments.constraints([word])
    assert constraint == types_pb2.Constraint(
        key=key,
        operator=types_pb2.Constraint.Operator.Value(f"OPERATOR_{operator}"),
        values=values,
    )


@pytest.mark.parametrize("word", ["zone=", "=a", "generation>x", "generation<1,2", "zone=a,,b", ""])
def test_constraints_that_mean_nothing_are_refused(word):
    with pytest.raises(InvalidRequest) as refused:
        arguments.constraints(["nvme", word])
    assert refused.value.field == "constraints[1]"


def test_devices_are_counted_out():
    assert arguments.devices(["A100:2", "T4"]) == ["A100", "A100", "T4"]


@pytest.mark.parametrize("word", ["A100:0", "A100:x", ":3", "A100:65", ""])
def test_devices_that_mean_nothing_are_refused(word):
    with pytest.raises(InvalidRequest):
        arguments.devices([word])


def test_attributes_are_read():
    assert arguments.attributes(["zone=a", "note=x=y"]) == {"zone": "a", "note": "x=y"}


@pytest.mark.parametrize("words", [["zone"], ["=a"], ["zone=a", "zone=b"]])
def test_attributes_that_mean_nothing_are_refused(words):
    with pytest.raises(InvalidRequest):
        arguments.attributes(words)
