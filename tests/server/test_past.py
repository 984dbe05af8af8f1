"""Reads of the past over the API: the answer is the one that was given then, from a process beside the replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.errors import Compacted, InvalidRequest, Rejected, ReplicaFailed
from raftalloc.server.rpc import SERVICES, dated_table
from raftalloc.server.still import error_of, refusal_of
from tests.server.asking import allocate_request, ask, opened, register

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.server.embedded import LocalTransport
    from tests.conftest import Run

WAITING = types_pb2.Allocation.STATE_WAITING
READS: tuple[tuple[str, Any], ...] = (
    ("Allocator/List", allocator_pb2.ListRequest()),
    ("Allocator/List", allocator_pb2.ListRequest(state=WAITING, page_size=1)),
    ("Allocator/Explain", allocator_pb2.ExplainRequest(request=allocate_request(count=9))),
    ("Fleet/ListNodes", fleet_pb2.ListNodesRequest()),
    ("Quotas/ListQuotas", quotas_pb2.ListQuotasRequest(with_implicit=True)),
    ("Queue/ListQueue", queue_pb2.ListQueueRequest()),
    ("Queue/GetQueue", queue_pb2.GetQueueRequest()),
    ("Reservations/List", reservations_pb2.ListReservationsRequest()),
)


async def busy(transport: LocalTransport) -> list[tuple[int, list[Any]]]:
    """A node, grants, waiting requests, a quota, a snapshot; and the answer to every read at every step."""
    await register(transport, cpu=3_000)
    steps: list[tuple[str, Any]] = [
        ("Allocator/Allocate", allocate_request()),
        ("Allocator/Allocate", allocate_request(agent_id="b_1", resources={"cpu": 2_000})),
        ("Allocator/Allocate", allocate_request(agent_id="b_2", wait_ms=600_000)),
        ("Quotas/SetQuota", quotas_pb2.SetQuotaRequest(agent_type="a", limits={"cpu": 1_000})),
        ("Admin/Snapshot", admin_pb2.SnapshotRequest()),
        ("Allocator/Allocate", allocate_request(agent_id="b_3", wait_ms=600_000)),
        ("Fleet/Cordon", fleet_pb2.CordonRequest(node_id="n1")),
    ]
    seen = []
    for name, request in steps:
        index = (await ask(transport, name, request)).index
        seen.append((index, [await ask(transport, read, question) for read, question in READS]))
    return seen


def test_every_read_of_the_past_answers_what_it_answered_then(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            seen = await busy(transport)
            before = await ask(transport, "Allocator/List", allocator_pb2.ListRequest())
            for index, answers in seen[::-1]:
                for (name, request), answer in zip(READS, answers, strict=True):
                    dated = type(request)()
                    dated.CopyFrom(request)
                    dated.at_index = index
                    assert await ask(transport, name, dated) == answer, (name, index)
            after = await ask(transport, "Allocator/List", allocator_pb2.ListRequest())
            assert after.allocations == before.allocations
            status = await ask(transport, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            assert status.invariants == "ok"

    run(story())


def test_a_time_is_the_last_index_that_is_not_later(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            seen = await busy(transport)
            usage = usage_pb2.UtilizationRequest(at_index=seen[1][0])
            then = await ask(transport, "Usage/Utilization", usage)
            assert (then.active_allocations, then.waiting_requests) == (2, 0)
            found = await ask(
                transport, "Allocator/List", allocator_pb2.ListRequest(at_time_ms=then.at_ms)
            )
            assert found.index >= seen[1][0]
            early = allocator_pb2.ListRequest(at_time_ms=1)
            assert not (await ask(transport, "Allocator/List", early)).allocations

    run(story())


def test_bad_moments_and_refusals_of_the_past_are_clear_errors(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            index = (await busy(transport))[0][0]
            bad: list[tuple[dict[str, Any], str]] = [
                ({"at_index": 10**9}, "at_index"),
                ({"at_index": -1}, "at_index"),
                ({"at_time_ms": -1}, "at_time_ms"),
                ({"at_time_ms": 1 << 45}, "at_time_ms"),
                ({"at_index": 1, "at_time_ms": 1}, "at_time_ms"),
                ({"at_index": index, "page_size": -1}, "page_size"),
            ]
            for fields, field in bad:
                with pytest.raises(InvalidRequest) as refused:
                    await ask(transport, "Allocator/List", allocator_pb2.ListRequest(**fields))
                assert refused.value.field == field
                assert refused.value.remedy
            unknown = quotas_pb2.GetQuotaUsageRequest(agent_type="nobody", at_index=index)
            with pytest.raises(Rejected) as no:
                await ask(transport, "Quotas/GetQuotaUsage", unknown)
            assert (no.value.code, no.value.field) == ("UNKNOWN_QUOTA", "agent_type")

    run(story())


def test_every_list_may_name_a_moment():
    class Anything:
        def __getattr__(self, name: str) -> object:
            return name

    names = [service.name for service in SERVICES.values()]
    found = {rpc.name for rpc in dated_table(dict.fromkeys(names, Anything())).values()}
    assert found == {
        "Admin/ReadState",
        "Allocator/List",
        "Allocator/Explain",
        "Usage/Utilization",
        "Reservations/List",
        "Fleet/ListNodes",
        "Quotas/ListQuotas",
        "Quotas/GetQuotaUsage",
        "Queue/GetQueue",
        "Queue/ListQueue",
        "Simulation/WhatIf",
    }


@pytest.mark.parametrize(
    "error",
    [
        Rejected("UNKNOWN_NODE", "no such node", field="node_id", remedy="look", numbers={"a": 1}),
        InvalidRequest("page_size", "is wrong", "give another"),
        AssertionError("a bug"),
        MemoryError(),
    ],
)
def test_what_a_reader_refuses_is_the_same_exception_again(error: Exception):
    again = error_of(*refusal_of(error))
    if isinstance(error, Rejected | InvalidRequest):
        assert type(again) is type(error)
        assert vars(again) == vars(error)
    else:
        assert isinstance(again, ReplicaFailed)
        assert not isinstance(again, Compacted)
