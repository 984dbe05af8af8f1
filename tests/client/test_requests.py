from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.client.requests import (
    Constraint,
    Operator,
    Policy,
    Priority,
    ResourceRequest,
    reserve_message,
)
from raftalloc.client.times import length_ms, moment_ms, moment_of
from raftalloc.errors import InvalidRequest


def test_a_request_becomes_a_message_in_canonical_units() -> None:
    request = ResourceRequest(
        agent_id="policy_analyzer_01",
        workflow_id="compliance_audit_2024",
        priority=Priority.HIGH,
        resources={"cpu": 4, "memory": 8, "disk": 50, "api_quota": 1000},
        duration=3600,
        wait=2.5,
        lease_ttl="30s",
        count=3,
        gang=True,
        policy=Policy.WORST_FIT,
        constraints=[
            Constraint("zone", Operator.IN, ("a", "b")),
            Constraint("n", Operator.GT, [4]),
        ],
        idempotency_key="k",
    )
    assert request.to_message() == allocator_pb2.AllocateRequest(
        agent_id="policy_analyzer_01",
        workflow_id="compliance_audit_2024",
        priority=types_pb2.PRIORITY_HIGH,
        resources={"cpu": 4000, "memory": 8192, "disk": 51200, "api_quota": 1_000_000},
        duration_ms=3_600_000,
        wait_ms=2500,
        lease_ttl_ms=30_000,
        count=3,
        gang=True,
        policy=types_pb2.POLICY_WORST_FIT,
        constraints=[
            types_pb2.Constraint(
                key="zone", operator=types_pb2.Constraint.OPERATOR_IN, values=["a", "b"]
            ),
            types_pb2.Constraint(key="n", operator=types_pb2.Constraint.OPERATOR_GT, values=["4"]),
        ],
        idempotency=types_pb2.Idempotency(key="k"),
    )


def test_what_is_not_said_is_left_out() -> None:
    assert ResourceRequest(agent_id="a", resources={"cpu": 1}).to_message() == (
        allocator_pb2.AllocateRequest(
            agent_id="a", resources={"cpu": 1000}, priority=types_pb2.PRIORITY_MEDIUM, count=1
        )
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", ""),
        ("agent_id", "a\nb"),
        ("agent_id", "x" * 10_000_000),
        ("agent_id", "\udcff"),
        ("agent_id", "\N{EURO SIGN}" * 100),
        ("agent_id", None),
        ("workflow_id", "\x00"),
        ("agent_type", "\x85"),
        ("priority", 9),
        ("priority", "URGENT"),
        ("priority", True),
        ("duration", -1),
        ("duration", float("nan")),
        ("duration", 0.0001),
        ("duration", 1e12),
        ("duration", "soon"),
        ("wait", float("inf")),
        ("lease_ttl", 0.05),
        ("count", 0),
        ("count", 10_001),
        ("count", 2.0),
        ("gang", 1),
        ("policy", "tightest"),
        ("gpu_models", "a100"),
        ("constraints", [Constraint("k", Operator.IN, ["v"])] * 17),
        ("constraints[0]", ["zone=a"]),
        ("constraints[0].values", [Constraint("k", Operator.EXISTS, ["v"])]),
        ("constraints[0].values", [Constraint("k", Operator.IN)]),
        ("constraints[0].values", [Constraint("k", Operator.IN, "ab")]),
        ("constraints[0].operator", [Constraint("k", 99)]),  # type: ignore[arg-type]  # meant
        ("reservation_id", -1),
        ("idempotency_key", "k" * 257),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_malformed_field_is_refused_by_name_before_anything_is_sent(
    field: str, value: Any
) -> None:
    name = field.partition("[")[0]
    given: dict[str, Any] = {"agent_id": "a", "resources": {"cpu": 1}, name: value}
    with pytest.raises(InvalidRequest) as caught:
        ResourceRequest(**given).to_message()
    assert caught.value.field == field
    assert caught.value.remedy
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_gpus_are_a_share_of_one_or_whole() -> None:
    for amount in (0.25, 1, 8):
        ResourceRequest(agent_id="a", resources={"gpu": amount}).to_message()
    with pytest.raises(InvalidRequest, match=r"1\.5 is neither a share"):
        ResourceRequest(agent_id="a", resources={"gpu": 1.5}).to_message()


def test_a_priority_may_be_named() -> None:
    request = ResourceRequest(agent_id="a", resources={"cpu": 1}, priority="critical")  # type: ignore[arg-type]  # meant
    assert request.to_message().priority == types_pb2.PRIORITY_CRITICAL


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (None, 0),
        (0, 0),
        (3600, 3_600_000),
        (0.1, 100),
        (Decimal("1.001"), 1001),
        (timedelta(minutes=2), 120_000),
        ("250ms", 250),
        ("1.5h", 5_400_000),
        ("7d", 604_800_000),
    ],
)
def test_a_length_of_time_is_whole_milliseconds(value: Any, ms: int) -> None:
    assert length_ms(value, field="x") == ms


@pytest.mark.parametrize(
    "value",
    ["24", "1e3s", "-1s", " 1s", True, object(), timedelta(microseconds=1), 10**30, "9" * 50],
)
def test_what_is_no_length_of_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^x: "):
        length_ms(value, field="x")


def test_a_moment_has_a_time_zone() -> None:
    ms = 1_796_115_600_000
    assert moment_ms("2026-12-01T09:00:00Z", field="x") == ms
    assert moment_ms("2026-12-01T10:00:00+01:00", field="x") == ms
    there = datetime(2026, 12, 1, 4, tzinfo=timezone(timedelta(hours=-5)))
    assert moment_ms(there, field="x") == ms
    assert moment_of(ms) == datetime(2026, 12, 1, 9, tzinfo=UTC)
    assert moment_of(0) is None


@pytest.mark.parametrize(
    "value", ["2026-12-01T09:00:00", "tomorrow", 1_796_115_600, "1969-01-01T00:00:00Z"]
)
def test_what_is_no_moment_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^x: "):
        moment_ms(value, field="x")


def test_a_window_has_a_length() -> None:
    given: dict[str, Any] = {
        "workflow_id": "w",
        "start_time": "2026-12-01T09:00:00Z",
        "duration": 7200,
        "resources": {"gpu": 1},
        "priority": Priority.CRITICAL,
        "agent_id": "",
        "agent_type": "",
        "gpu_models": (),
        "constraints": (),
    }
    assert reserve_message(**given).duration_ms == 7_200_000
    with pytest.raises(InvalidRequest, match="duration"):
        reserve_message(**{**given, "duration": 0})
