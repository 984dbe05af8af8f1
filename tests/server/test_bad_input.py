"""Bad input, on every call: one error that names field and remedy; nothing changes; it costs little."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
)
from raftalloc.errors import InvalidRequest
from tests.server.asking import allocate_request, ask, opened, register, rejected

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

Allocation = types_pb2.Allocation
HOSTILE_SECONDS_MAX = 0.5

BAD = [
    ("Allocator/Allocate", allocate_request(resources={"cpus": 1}), "resources.cpus"),
    ("Allocator/Get", allocator_pb2.GetRequest(), "id"),
    ("Allocator/Get", allocator_pb2.GetRequest(id=-1), "id"),
    ("Allocator/List", allocator_pb2.ListRequest(page_size=1001), "page_size"),
    ("Allocator/List", allocator_pb2.ListRequest(page_size=-1), "page_size"),
    ("Allocator/List", allocator_pb2.ListRequest(state=Allocation.STATE_ENDED), "state"),
    ("Allocator/List", allocator_pb2.ListRequest(node_id="\x00"), "node_id"),
    ("Allocator/Explain", allocator_pb2.ExplainRequest(), "request_id"),
    (
        "Allocator/Explain",
        allocator_pb2.ExplainRequest(request_id=1, request=allocate_request()),
        "request_id",
    ),
    ("Allocator/OpenSession", allocator_pb2.OpenSessionRequest(key="k" * 257), "key"),
    ("Fleet/Cordon", fleet_pb2.CordonRequest(), "node_id"),
    ("Fleet/Uncordon", fleet_pb2.UncordonRequest(node_id="x" * 257), "node_id"),
    ("Fleet/RemoveNode", fleet_pb2.RemoveNodeRequest(), "node_id"),
    ("Fleet/Heartbeat", fleet_pb2.HeartbeatRequest(), "node_ids"),
    ("Fleet/ListNodes", fleet_pb2.ListNodesRequest(page_after="\n"), "page_after"),
    ("Quotas/GetQuotaUsage", quotas_pb2.GetQuotaUsageRequest(), "agent_type"),
    ("Quotas/DeleteQuota", quotas_pb2.DeleteQuotaRequest(), "agent_type"),
    ("Reservations/Get", reservations_pb2.GetReservationRequest(), "id"),
    ("Reservations/Cancel", reservations_pb2.CancelReservationRequest(id=-4), "id"),
    ("Events/History", events_pb2.HistoryRequest(), "agent_id"),
    ("Events/History", events_pb2.HistoryRequest(agent_id="a", from_ms=-1), "from_ms"),
    ("Events/Read", events_pb2.ReadRequest(from_index=-1), "from_index"),
    (
        "Events/Read",
        events_pb2.ReadRequest(filter=events_pb2.EventFilter(types=["Grantd"])),
        "filter.types",
    ),
]


def test_bad_input_names_its_field_and_changes_nothing(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            before = await ask(to, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            for name, request, field in BAD:
                with pytest.raises(InvalidRequest) as caught:
                    await ask(to, name, request)
                assert caught.value.field == field, name
                assert caught.value.remedy, name
            after = await ask(to, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            assert after.digest_index == before.digest_index
            assert after.content_digest == before.content_digest

    run(scene())


def test_what_the_state_refuses_names_its_reason(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            held = (await ask(to, "Allocator/Allocate", allocate_request())).granted.allocations[0]
            release = allocator_pb2.ReleaseRequest
            token = held.fencing_token
            for request, code in (
                (release(allocation_id=999, fencing_token=1, agent_id="a_1"), "UNKNOWN_ALLOCATION"),
                (
                    release(allocation_id=held.id, fencing_token=token + 1, agent_id="a_1"),
                    "STALE_TOKEN",
                ),
                (
                    release(allocation_id=held.id, fencing_token=token, agent_id="b_1"),
                    "WRONG_OWNER",
                ),
            ):
                assert (await rejected(to, "Allocator/Release", request)).code == code
            renew = allocator_pb2.RenewRequest(
                allocation_id=held.id, fencing_token=token, agent_id="a_1"
            )
            assert (await rejected(to, "Allocator/Renew", renew)).code == "NO_LEASE"

    run(scene())


def test_hostile_sizes_are_refused_at_little_cost(tmp_path: Path, run: Run):
    kinds = {f"cpu.t{number}": 1 for number in range(100_000)}
    devices = ["x" * 200] * 10_000
    hostile = [
        ("Allocator/Allocate", allocate_request(resources=kinds), "resources"),
        ("Allocator/Allocate", allocate_request(agent_id="x" * (3 << 20)), "agent_id"),
        ("Allocator/Allocate", allocate_request(gpu_models=devices), "gpu_models"),
        (
            "Allocator/AllocateBatch",
            allocator_pb2.AllocateBatchRequest(requests=[allocate_request()] * 10_001),
            "requests",
        ),
        (
            "Fleet/RegisterNode",
            fleet_pb2.RegisterNodeRequest(node_id="n", capacity=kinds),
            "capacity",
        ),
        (
            "Fleet/RegisterNode",
            fleet_pb2.RegisterNodeRequest(node_id="n", capacity={"cpu": 1}, devices=devices),
            "devices",
        ),
        ("Quotas/SetQuota", quotas_pb2.SetQuotaRequest(agent_type="t", limits=kinds), "limits"),
        ("Fleet/Heartbeat", fleet_pb2.HeartbeatRequest(node_ids=devices), "node_ids"),
        (
            "Events/Read",
            events_pb2.ReadRequest(filter=events_pb2.EventFilter(types=devices)),
            "filter.types",
        ),
    ]

    async def scene() -> None:
        async with opened(tmp_path) as to:
            for name, request, field in hostile:
                started = time.perf_counter()
                with pytest.raises(InvalidRequest) as caught:
                    await ask(to, name, request)
                assert time.perf_counter() - started < HOSTILE_SECONDS_MAX, name
                assert caught.value.field == field
                assert len(str(caught.value)) < 500
            page = await ask(to, "Events/Read", events_pb2.ReadRequest())
            assert {event.type for event in page.events} == {"LeaderTook"}

    run(scene())
