from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import admin_pb2, allocator_pb2, fleet_pb2, types_pb2, usage_pb2
from raftalloc.client.client import Client
from raftalloc.client.sessions import WINDOW
from raftalloc.errors import (
    Compacted,
    Forbidden,
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Rejected,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Run

ALLOCATE = "Allocator/Allocate"
REQUEST = allocator_pb2.AllocateRequest(agent_id="a", resources={"cpu": 1000})
GRANTED = allocator_pb2.AllocateResponse(
    granted=allocator_pb2.Granted(allocations=[types_pb2.Allocation(id=5)]), index=9
)


async def granted(request: Any, context: Any) -> Any:
    return GRANTED


def addresses(group: list[Any]) -> list[str]:
    return [replica.address for replica in group]


def test_a_call_is_answered_and_stamped_while_the_callers_message_stays_as_it_is(
    run: Run, replicas: Any
) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = granted
            assert await client.allocator.allocate(REQUEST) == GRANTED
            await client.allocator.allocate(REQUEST)
            stamps = [
                (each.idempotency.session, each.idempotency.sequence)
                for each in group[0].requests(ALLOCATE)
            ]
            assert stamps == [(7, 1), (7, 2)]
            assert not REQUEST.HasField("idempotency")

    run(scene())


def test_the_callers_own_idempotency_is_kept(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = granted
            own = allocator_pb2.AllocateRequest(
                agent_id="a", idempotency=types_pb2.Idempotency(key="mine")
            )
            await client.allocator.allocate(own)
            assert group[0].requests(ALLOCATE) == [own]

    run(scene())


def test_a_client_that_heard_of_the_leader_goes_there_directly(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(3) as group, Client(addresses(group)) as client:
            for replica in group:
                replica.answers[ALLOCATE] = granted
                replica.leader = group[2].address
            await client.allocator.allocate(REQUEST)
            await client.allocator.allocate(REQUEST)
            assert client.leader == group[2].address
            assert not group[0].requests(ALLOCATE)  # only the session was opened there
            assert len(group[2].requests(ALLOCATE)) == 2

    run(scene())


@pytest.mark.parametrize("error", [NoLeader("none"), OutcomeUnknown("lost"), NotLeader("")])
def test_a_fault_is_tried_again_elsewhere_with_the_same_idempotency(
    run: Run, replicas: Any, fail: Callable[..., Any], error: Exception
) -> None:
    async def scene() -> None:
        async def broken(request: Any, context: Any) -> None:
            await fail(context, error)

        async with replicas(2) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = broken
            group[1].answers[ALLOCATE] = granted
            assert await client.allocator.allocate(REQUEST) == GRANTED
            first, second = group[0].requests(ALLOCATE)[0], group[1].requests(ALLOCATE)[0]
            assert first == second
            assert first.idempotency.session == 7

    run(scene())


def test_a_replica_that_names_the_leader_sends_the_call_there(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(3) as group, Client(addresses(group)) as client:

            async def elsewhere(request: Any, context: Any) -> None:
                await fail(context, NotLeader(group[2].address), leader=group[2].address)

            group[0].answers[ALLOCATE] = elsewhere
            group[2].answers[ALLOCATE] = granted
            await client.allocator.allocate(REQUEST)
            assert len(group[0].requests(ALLOCATE)) == 1
            assert not group[1].requests(ALLOCATE)

    run(scene())


def test_a_dead_replica_is_left_for_the_next(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group)) as client:
            for replica in group:
                replica.answers[ALLOCATE] = granted
            await client.allocator.allocate(REQUEST)
            await group[0].stop()
            await client.allocator.allocate(REQUEST)
            assert len(group[1].requests(ALLOCATE)) == 1

    run(scene())


def test_a_silent_replica_is_left_after_the_attempt_timeout(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async def silent(request: Any, context: Any) -> None:
            await asyncio.sleep(60)

        async with (
            replicas(2) as group,
            Client(addresses(group), attempt_timeout=0.2) as client,
        ):
            group[0].answers[ALLOCATE] = silent
            group[1].answers[ALLOCATE] = granted
            assert await client.allocator.allocate(REQUEST) == GRANTED

    run(scene())


def test_without_an_answer_in_time_the_error_says_whether_it_may_have_been_done(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        errors: list[Exception] = [NoLeader("none")]

        async def broken(request: Any, context: Any) -> None:
            await fail(context, errors[0])

        async with replicas(1) as group, Client(addresses(group), timeout=0.3) as client:
            group[0].answers[ALLOCATE] = broken
            group[0].answers["Usage/Utilization"] = broken
            with pytest.raises(Unavailable, match=r"after .* attempts; the last: .*none"):
                await client.allocator.allocate(REQUEST)
            errors[0] = OutcomeUnknown("lost")
            with pytest.raises(OutcomeUnknown, match="may have been carried out"):
                await client.allocator.allocate(REQUEST)
            with pytest.raises(Unavailable):  # a read does nothing, so nothing is unknown
                await client.usage.utilization(usage_pb2.UtilizationRequest())

    run(scene())


def test_where_nobody_listens_the_call_was_surely_not_done(
    run: Run, free_ports: Callable[[int], list[int]]
) -> None:
    async def scene() -> None:
        async with Client([f"127.0.0.1:{port}" for port in free_ports(2)], timeout=0.4) as client:
            with pytest.raises(Unavailable):
                await client.allocator.allocate(REQUEST)

    run(scene())


def test_an_overloaded_replica_is_asked_again_and_not_left(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group)) as client:

            async def first_overloaded(request: Any, context: Any) -> Any:
                if len(group[0].requests(ALLOCATE)) < 3:
                    await fail(context, Overloaded("full"))
                return GRANTED

            group[0].answers[ALLOCATE] = first_overloaded
            await client.allocator.allocate(REQUEST)
            assert len(group[0].requests(ALLOCATE)) == 3
            assert not group[1].requests(ALLOCATE)

    run(scene())


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("resources.cpu", "is too much", "ask for less"),
        Rejected("QUOTA_EXCEEDED", "no", field="resources", remedy="wait", numbers={"limit": 3}),
        Forbidden("no"),
        Compacted(3, 40),
    ],
)
def test_an_answer_is_final_and_arrives_as_the_exception_it_was(
    run: Run, replicas: Any, fail: Callable[..., Any], error: Exception
) -> None:
    async def scene() -> None:
        async def no(request: Any, context: Any) -> None:
            await fail(context, error)

        async with replicas(2) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = no
            with pytest.raises(type(error)) as caught:
                await client.allocator.allocate(REQUEST)
            said = {key: value for key, value in vars(error).items() if key != "args"}
            assert {key: getattr(caught.value, key) for key in said} == said
            assert str(error) in str(caught.value)
            assert len(group[0].requests(ALLOCATE)) == 1
            assert not group[1].asked

    run(scene())


def test_a_session_that_the_group_forgot_is_replaced_where_nothing_can_have_been_done(
    run: Run, replicas: Any
) -> None:
    async def scene() -> None:
        sessions = iter((7, 8))

        async def open_session(request: Any, context: Any) -> Any:
            return allocator_pb2.OpenSessionResponse(session=next(sessions))

        async def only_the_new(request: Any, context: Any) -> Any:
            if request.idempotency.session == 7:
                gone = types_pb2.Rejection(code="KEY_EXPIRED")
                return allocator_pb2.AllocateResponse(rejected=gone)
            return GRANTED

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers["Allocator/OpenSession"] = open_session
            group[0].answers[ALLOCATE] = only_the_new
            assert await client.allocator.allocate(REQUEST) == GRANTED

    run(scene())


def test_an_expired_key_after_a_lost_answer_is_no_second_attempt(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:

            async def lost_then_gone(request: Any, context: Any) -> Any:
                if len(group[0].requests(ALLOCATE)) == 1:
                    await fail(context, OutcomeUnknown("lost"))
                gone = types_pb2.Rejection(code="KEY_EXPIRED")
                return allocator_pb2.AllocateResponse(rejected=gone)

            group[0].answers[ALLOCATE] = lost_then_gone
            answer = await client.allocator.allocate(REQUEST)
            assert answer.rejected.code == "KEY_EXPIRED"
            assert len(group[0].requests(ALLOCATE)) == 2

    run(scene())


def test_each_request_of_a_batch_has_a_sequence_of_its_own_over_as_many_sessions_as_it_takes(
    run: Run, replicas: Any
) -> None:
    async def scene() -> None:
        opened = iter(range(1, 100))

        async def open_session(request: Any, context: Any) -> Any:
            return allocator_pb2.OpenSessionResponse(session=next(opened))

        async def all_granted(request: Any, context: Any) -> Any:
            return allocator_pb2.AllocateBatchResponse(responses=[GRANTED] * len(request.requests))

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers["Allocator/OpenSession"] = open_session
            group[0].answers["Allocator/AllocateBatch"] = all_granted
            batch = allocator_pb2.AllocateBatchRequest(requests=[REQUEST] * 10_000)
            await client.allocator.allocate_batch(batch)
            (sent,) = group[0].requests("Allocator/AllocateBatch")
            stamps = {(r.idempotency.session, r.idempotency.sequence) for r in sent.requests}
            assert len(stamps) == 10_000
            assert max(sequence for _, sequence in stamps) <= WINDOW

    run(scene())


def test_a_stale_read_says_so_and_goes_round(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async def utilization(request: Any, context: Any) -> Any:
            return usage_pb2.UtilizationResponse(index=3)

        async with replicas(2) as group, Client(addresses(group)) as client:
            for replica in group:
                replica.answers["Usage/Utilization"] = utilization
                replica.leader = group[0].address
            for _ in range(4):
                await client.usage.utilization(stale=True)
            assert [len(replica.asked) for replica in group] == [2, 2]
            assert group[1].metadata[0]["raftalloc-read"] == "any"

    run(scene())


def test_status_is_asked_of_the_replica_that_is_named(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group)) as client:
            for number, replica in enumerate(group):

                async def status(request: Any, context: Any, number: int = number) -> Any:
                    return admin_pb2.StatusResponse(replica_id=f"r{number}")

                replica.answers["Admin/Status"] = status
            answer = await client.admin.status(endpoint=group[1].address)
            assert answer.replica_id == "r1"

    run(scene())


def test_pages_are_followed_to_the_end(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async def list_nodes(request: Any, context: Any) -> Any:
            page = int(request.page_after or 0)
            return fleet_pb2.ListNodesResponse(
                nodes=[fleet_pb2.Node(node_id=f"n{page}")],
                next_page_after=str(page + 1) if page < 2 else "",
            )

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers["Fleet/ListNodes"] = list_nodes
            found = [node.node_id async for node in client.fleet.list_all_nodes()]
            assert found == ["n0", "n1", "n2"]

    run(scene())


@pytest.mark.parametrize(
    "endpoints", [[], ["nowhere"], ["h:0"], ["h:99999"], [":1"], "127.0.0.1:1"]
)
def test_an_endpoint_that_is_no_address_is_refused(endpoints: Any) -> None:
    with pytest.raises(InvalidRequest, match="endpoints"):
        Client(endpoints)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True, "1"])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        Client(["127.0.0.1:1"], timeout=timeout)


def test_a_call_to_any_replica_passes_over_those_that_cannot_be_reached(
    run: Run, replicas: Any
) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group)) as client:
            status = admin_pb2.StatusResponse(replica_id="n2")

            async def answer(request: Any, context: Any) -> Any:
                return status

            group[1].answers["Admin/Status"] = answer
            await group[0].stop()
            assert await client.admin.status() == status
            with pytest.raises(Unavailable):
                await client.admin.status(endpoint=group[0].address)
            await group[1].stop()
            with pytest.raises(Unavailable):
                await client.admin.status()

    run(scene())
