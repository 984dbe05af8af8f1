"""Every call of the API against a real replica of this process, on a real directory."""

from __future__ import annotations

import json
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
    usage_pb2,
)
from raftalloc.errors import DataDirectoryError, InvalidRequest
from raftalloc.server.embedded import EmbeddedReplica, open_embedded
from tests.server.asking import allocate_request, ask, ask_all, opened, register, rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from google.protobuf.message import Message

    from tests.conftest import Run

Allocation = types_pb2.Allocation


def attempt(session: int, sequence: int) -> types_pb2.Idempotency:
    return types_pb2.Idempotency(session=session, sequence=sequence)


def test_an_allocation_lives_from_grant_to_release(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            request = allocate_request(
                resources={"cpu": 1000, "api_quota": 5}, lease_ttl_ms=60_000, duration_ms=90_000
            )
            answer, trailing = await ask_all(to, "Allocator/Allocate", request)
            (held,) = answer.granted.allocations
            assert trailing["raftalloc-index"] == str(answer.index)
            assert (held.node_id, dict(held.suppliers)) == ("n1", {"cpu": "n1", "api_quota": "api"})
            assert held.expires_ms == held.granted_ms + 60_000
            assert (held.agent_type, held.principal) == ("a", "local")
            got = await ask(to, "Allocator/Get", allocator_pb2.GetRequest(id=held.id))
            assert got.allocation == held
            renewed = await ask(
                to,
                "Allocator/Renew",
                allocator_pb2.RenewRequest(
                    allocation_id=held.id, fencing_token=held.fencing_token, agent_id="a_1"
                ),
            )
            assert renewed.allocation.expires_ms >= held.expires_ms
            await ask(
                to,
                "Allocator/Release",
                allocator_pb2.ReleaseRequest(
                    allocation_id=held.id, fencing_token=held.fencing_token, agent_id="a_1"
                ),
            )
            ended = await ask(to, "Allocator/Get", allocator_pb2.GetRequest(id=held.id))
            assert ended.allocation.state == Allocation.STATE_ENDED
            assert ended.allocation.end_reason == "RELEASED"
            assert ended.allocation.resources == held.resources

    run(scene())


def test_a_retry_is_answered_and_not_repeated_also_when_all_has_ended(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            session = (
                await ask(to, "Allocator/OpenSession", allocator_pb2.OpenSessionRequest())
            ).session
            request = allocate_request(count=2, idempotency=attempt(session, 1))
            first = await ask(to, "Allocator/Allocate", request)
            again = await ask(to, "Allocator/Allocate", request)
            assert (first.replayed, again.replayed) == (False, True)
            assert again.granted == first.granted
            assert again.index == first.index
            gone = first.granted.allocations[0]
            release = allocator_pb2.ReleaseRequest(
                allocation_id=gone.id, fencing_token=gone.fencing_token, agent_id="a_1"
            )
            await ask(to, "Allocator/Release", release)
            later = await ask(to, "Allocator/Allocate", request)
            states = [each.state for each in later.granted.allocations]
            assert states == [Allocation.STATE_ENDED, Allocation.STATE_LIVE]
            assert later.granted.allocations[0].id == gone.id
            assert later.granted.allocations[0].end_reason == "RELEASED"
            assert later.granted.allocations[0].resources == gone.resources
            tokens = [each.fencing_token for each in later.granted.allocations]
            assert tokens == [each.fencing_token for each in first.granted.allocations]

    run(scene())


def test_what_does_not_fit_waits_is_explained_and_can_be_cancelled(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            await ask(to, "Allocator/Allocate", allocate_request(resources={"cpu": 8_000}))
            request = allocate_request(wait_ms=60_000, count=3)
            answer = await ask(to, "Allocator/Allocate", request)
            assert answer.queued.position == 1
            assert answer.queued.waiting_count == 3
            assert answer.queued.why.code == "NO_CAPACITY"
            number = answer.queued.request_id
            why = await ask(
                to, "Allocator/Explain", allocator_pb2.ExplainRequest(request_id=number)
            )
            assert why.verdict == allocator_pb2.ExplainResponse.VERDICT_MUST_WAIT
            assert "1 of cpu asked, 0 cores available" in why.blockers[0].message
            listed = await ask(
                to, "Allocator/List", allocator_pb2.ListRequest(state=Allocation.STATE_WAITING)
            )
            assert [each.id for each in listed.allocations] == [number]
            cancel = allocator_pb2.CancelRequest(request_id=number, agent_id="a_1")
            assert (await ask(to, "Allocator/Cancel", cancel)).cancelled_count == 3
            past = await ask(
                to, "Allocator/Explain", allocator_pb2.ExplainRequest(request_id=number)
            )
            assert past.decision.event == "Queued", "what was decided about it stays explained"
            assert past.decision.subject == number

    run(scene())


def test_an_array_that_fits_in_part_is_granted_in_part_and_listed_whole(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to, cpu=2_000)
            answer = await ask(to, "Allocator/Allocate", allocate_request(count=3, wait_ms=60_000))
            assert len(answer.granted.allocations) == 2
            assert answer.granted.queued.waiting_count == 1
            rows, after, pages = [], 0, 0
            while True:
                page = await ask(
                    to, "Allocator/List", allocator_pb2.ListRequest(page_size=1, page_after=after)
                )
                rows += [(each.id, each.state) for each in page.allocations]
                after, pages = page.next_page_after, pages + 1
                if not after:
                    break
            first = answer.granted.allocations[0].id
            assert rows == [
                (first, Allocation.STATE_LIVE),
                (first, Allocation.STATE_WAITING),
                (first + 1, Allocation.STATE_LIVE),
            ]
            assert pages == 2

    run(scene())


def test_a_batch_is_one_entry_with_an_outcome_each(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            requests = [allocate_request(), allocate_request(resources={"cpu": 99_000})]
            answer = await ask(
                to, "Allocator/AllocateBatch", allocator_pb2.AllocateBatchRequest(requests=requests)
            )
            outcomes = [each.WhichOneof("outcome") for each in answer.responses]
            assert outcomes == ["granted", "rejected"]
            assert {each.index for each in answer.responses} == {answer.index}

    run(scene())


def test_a_stream_answers_in_order_and_ends_at_what_is_malformed(tmp_path: Path, run: Run):
    async def requests() -> AsyncIterator[Message]:
        for cpu in (1_000, 99_000, 2_000, 0, 3_000):
            yield allocate_request(resources={"cpu": cpu})

    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            answers = to.duplex(
                "/raftalloc.api.v1.Allocator/AllocateStream",
                requests(),
                allocator_pb2.AllocateResponse,
            )
            outcomes = [(await anext(answers)).WhichOneof("outcome") for _ in range(3)]
            assert outcomes == ["granted", "rejected", "granted"]
            with pytest.raises(InvalidRequest, match=r"resources\.cpu"):
                await anext(answers)

    run(scene())


def test_nodes_come_change_and_go(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            request = fleet_pb2.RegisterNodeRequest(
                node_id="g1", capacity={"cpu": 4_000}, devices=["T4"], attributes={"zone": "a"}
            )
            registered = await ask(to, "Fleet/RegisterNode", request)
            assert registered.heartbeat_timeout_ms == 10_000
            assert dict(registered.node.capacity) == {"cpu": 4_000, "gpu": 1_000}
            beat = await ask(
                to, "Fleet/Heartbeat", fleet_pb2.HeartbeatRequest(node_ids=["g1", "g9"])
            )
            assert list(beat.unknown_node_ids) == ["g9"]

            async def state() -> int:
                listed = await ask(to, "Fleet/ListNodes", fleet_pb2.ListNodesRequest(node_id="g1"))
                return int(listed.nodes[0].state)

            await ask(to, "Fleet/Cordon", fleet_pb2.CordonRequest(node_id="g1"))
            assert await state() == fleet_pb2.Node.STATE_CORDONED
            await ask(to, "Fleet/Uncordon", fleet_pb2.UncordonRequest(node_id="g1"))
            assert await state() == fleet_pb2.Node.STATE_READY
            await ask(to, "Fleet/Drain", fleet_pb2.DrainRequest(node_id="g1"))
            assert await state() == fleet_pb2.Node.STATE_DRAINING
            await ask(to, "Fleet/RemoveNode", fleet_pb2.RemoveNodeRequest(node_id="g1"))
            error = await rejected(to, "Fleet/ListNodes", fleet_pb2.ListNodesRequest(node_id="g1"))
            assert error.code == "UNKNOWN_NODE"

    run(scene())


def test_nodes_are_listed_by_page(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            first = await ask(to, "Fleet/ListNodes", fleet_pb2.ListNodesRequest(page_size=1))
            assert [each.node_id for each in first.nodes] == ["n1"]
            rest = await ask(
                to, "Fleet/ListNodes", fleet_pb2.ListNodesRequest(page_after=first.next_page_after)
            )
            assert [each.node_id for each in rest.nodes] == ["api"]
            assert rest.next_page_after == ""
            only = await ask(to, "Fleet/ListNodes", fleet_pb2.ListNodesRequest(providers_only=True))
            assert [each.node_id for each in only.nodes] == ["api"]

    run(scene())


def test_quotas_are_set_charged_listed_and_deleted(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            request = quotas_pb2.SetQuotaRequest(agent_type="a", limits={"cpu": 1_500})
            assert (await ask(to, "Quotas/SetQuota", request)).quota.parent == "root"
            await ask(to, "Allocator/Allocate", allocate_request())
            answer = await ask(to, "Allocator/Allocate", allocate_request())
            assert answer.rejected.code == "QUOTA_EXCEEDED"
            usage = await ask(
                to, "Quotas/GetQuotaUsage", quotas_pb2.GetQuotaUsageRequest(agent_type="a")
            )
            (cpu,) = usage.quota.kinds
            assert (cpu.kind, cpu.used, cpu.limited, cpu.limit, cpu.scale) == (
                "cpu",
                1_000,
                True,
                1_500,
                1_000,
            )
            listed = await ask(to, "Quotas/ListQuotas", quotas_pb2.ListQuotasRequest())
            assert "a" in [each.agent_type for each in listed.quotas]
            delete = quotas_pb2.DeleteQuotaRequest(agent_type="a")
            assert (await rejected(to, "Quotas/DeleteQuota", delete)).code == "QUOTA_IN_USE"
            unknown = quotas_pb2.GetQuotaUsageRequest(agent_type="b")
            assert (await rejected(to, "Quotas/GetQuotaUsage", unknown)).code == "UNKNOWN_QUOTA"

    run(scene())


def test_a_window_is_booked_listed_and_cancelled(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            status = await ask(to, "Admin/Status", admin_pb2.StatusRequest())
            start_ms = status.clock_ms + 3_600_000
            request = reservations_pb2.ReserveRequest(
                workflow_id="w", resources={"cpu": 8_000}, start_ms=start_ms, duration_ms=1_000
            )
            booked = (await ask(to, "Reservations/Reserve", request)).reservation
            assert booked.state == reservations_pb2.Reservation.STATE_BOOKED
            assert (booked.start_ms, booked.end_ms) == (start_ms, start_ms + 1_000)
            assert booked.agent_type == "default"
            found = await ask(
                to, "Reservations/Get", reservations_pb2.GetReservationRequest(id=booked.id)
            )
            assert found.reservation == booked
            listed = await ask(
                to, "Reservations/List", reservations_pb2.ListReservationsRequest(workflow_id="w")
            )
            assert [each.id for each in listed.reservations] == [booked.id]
            cancel = reservations_pb2.CancelReservationRequest(id=booked.id)
            await ask(to, "Reservations/Cancel", cancel)
            error = await rejected(
                to, "Reservations/Get", reservations_pb2.GetReservationRequest(id=booked.id)
            )
            assert error.code == "UNKNOWN_RESERVATION"
            past = reservations_pb2.ReserveRequest(
                workflow_id="w", resources={"cpu": 1}, start_ms=1, duration_ms=1_000
            )
            assert (await rejected(to, "Reservations/Reserve", past)).code == "WINDOW_PAST"

    run(scene())


def test_utilization_is_the_whole_fleet(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            await ask(to, "Allocator/Allocate", allocate_request())
            usage = await ask(to, "Usage/Utilization", usage_pb2.UtilizationRequest())
            cpu = next(each for each in usage.kinds if each.kind == "cpu")
            assert (cpu.capacity, cpu.used, cpu.available) == (8_000, 1_000, 7_000)
            assert (usage.active_allocations, usage.nodes_total, usage.providers_total) == (1, 1, 1)

    run(scene())


def test_events_are_read_watched_and_told_as_history(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            answer = await ask(to, "Allocator/Allocate", allocate_request())
            wanted = events_pb2.EventFilter(types=["Granted"])
            page = await ask(to, "Events/Read", events_pb2.ReadRequest(filter=wanted))
            (granted,) = page.events
            assert (granted.type, granted.index) == ("Granted", answer.index)
            assert granted.subject == answer.granted.allocations[0].id
            assert json.loads(granted.detail_json)["demand"] == {"cpu": 1_000}
            assert page.next_index == page.head_index + 1
            stream = to.stream(
                "/raftalloc.api.v1.Events/Watch",
                events_pb2.WatchRequest(from_index=1, filter=wanted),
                events_pb2.WatchResponse,
            )
            seen: list[events_pb2.Event] = []
            async for message in stream:
                seen += message.events
                if not message.events:  # all that was stored has been given
                    await ask(to, "Allocator/Allocate", allocate_request())
                if len(seen) == 2:
                    break
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
            assert seen[0] == granted
            assert seen[1].index > granted.index
            history = await ask(to, "Events/History", events_pb2.HistoryRequest(agent_id="a_1"))
            assert [row.index for row in history.rows] == [seen[1].index, granted.index]

    run(scene())


def test_the_replica_says_how_it_is_and_proves_its_laws(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            await ask(to, "Allocator/Allocate", allocate_request())
            status = await ask(to, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            assert (status.role, status.leader_id, status.invariants) == ("leader", "local", "ok")
            assert len(status.chain_digest) == 64
            assert status.content_digest
            assert status.digest_index == status.applied_index
            assert (status.allocations_live, status.grants_total, status.nodes_total) == (1, 1, 1)
            snapshot = await ask(to, "Admin/Snapshot", admin_pb2.SnapshotRequest())
            assert snapshot.index == status.digest_index
            assert str(tmp_path) in snapshot.path
            error = await rejected(
                to, "Admin/TransferLeadership", admin_pb2.TransferLeadershipRequest()
            )
            assert error.code == "NO_OTHER_REPLICA"

    run(scene())


def test_all_that_was_granted_is_there_again_after_a_restart(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path) as to:
            await register(to)
            held = (await ask(to, "Allocator/Allocate", allocate_request())).granted.allocations[0]
            before = await ask(to, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
        async with opened(tmp_path) as to:
            got = await ask(to, "Allocator/Get", allocator_pb2.GetRequest(id=held.id))
            assert got.allocation == held
            page = await ask(to, "Events/Read", events_pb2.ReadRequest())
            granted = [event for event in page.events if event.type == "Granted"]
            assert [event.index for event in granted] == [held.index]
            after = await ask(to, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            assert after.digest_index >= before.digest_index
            assert after.invariants == "ok"

    run(scene())


def test_a_directory_is_used_once_at_a_time(tmp_path: Path, run: Run):
    async def scene() -> None:
        async with opened(tmp_path):
            with pytest.raises(DataDirectoryError, match="in use by pid"):
                await open_embedded(tmp_path / "data")
        replica: EmbeddedReplica = await open_embedded(tmp_path / "data")
        await replica.close()
        await replica.close()

    run(scene())
