"""What a call raises is true of the whole call, and streams have patience for as long as they were told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.client.client import Client
from raftalloc.client.statuses import error_of
from raftalloc.errors import (
    Forbidden,
    NoLeader,
    OutcomeUnknown,
    Rejected,
    ReplicaFailed,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import Run

ALLOCATE = "Allocator/Allocate"
STREAM = "Allocator/AllocateStream"
WATCH = "Events/Watch"
REQUEST = allocator_pb2.AllocateRequest(agent_id="a", resources={"cpu": 1000})
GRANTED = allocator_pb2.AllocateResponse(
    granted=allocator_pb2.Granted(allocations=[types_pb2.Allocation(id=5)]), index=9
)


async def granted(request: Any, context: Any) -> Any:
    return GRANTED


def addresses(group: list[Any]) -> list[str]:
    return [replica.address for replica in group]


def in_turn(fail: Callable[..., Any], *errors: Exception) -> Any:
    """One error after the other, and then the grant."""
    left = list(errors)

    async def answer(request: Any, context: Any) -> Any:
        if left:
            await fail(context, left.pop(0))
        return GRANTED

    return answer


def test_a_replica_that_failed_at_a_call_is_left_for_one_that_may_know_its_outcome(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = in_turn(fail, *[ReplicaFailed("bug")] * 9)
            group[1].answers[ALLOCATE] = granted
            assert await client.allocator.allocate(REQUEST) == GRANTED
            assert group[0].requests(ALLOCATE) == group[1].requests(ALLOCATE), "the same attempt"
            assert client.faults == 1

    run(scene())


def test_what_every_replica_fails_at_is_said_at_once(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(2) as group, Client(addresses(group), timeout=20.0) as client:
            for replica in group:
                replica.answers[ALLOCATE] = in_turn(fail, *[ReplicaFailed("bug")] * 9)
            with pytest.raises(ReplicaFailed, match="bug"):
                await client.allocator.allocate(REQUEST)
            assert client.faults == 2

    run(scene())


def test_a_no_after_a_lost_answer_is_not_taken_for_not_done(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[ALLOCATE] = in_turn(fail, OutcomeUnknown("lost"), Forbidden("now"))
            with pytest.raises(OutcomeUnknown, match="earlier attempt may have been carried out"):
                await client.allocator.allocate(REQUEST)
            group[0].answers[ALLOCATE] = in_turn(fail, NoLeader("none"), Forbidden("now"))
            with pytest.raises(Forbidden):
                await client.allocator.allocate(REQUEST)

    run(scene())


def test_a_forgotten_attempt_after_a_lost_answer_is_not_repeated_under_another_name(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:
            expired = Rejected("KEY_EXPIRED", "no longer kept")
            group[0].answers[ALLOCATE] = in_turn(fail, OutcomeUnknown("lost"), expired)
            with pytest.raises(Rejected, match="no longer kept"):
                await client.allocator.allocate(REQUEST)
            sent = group[0].requests(ALLOCATE)
            assert len(sent) == 2
            assert sent[0] == sent[1]

    run(scene())


def test_opening_a_session_does_not_outlast_the_calls_deadline(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group), timeout=20.0) as client:

            async def silent(request: Any, context: Any) -> Any:
                await asyncio.sleep(30)

            group[0].answers["Allocator/OpenSession"] = silent
            with pytest.raises(Unavailable):
                await client.allocator.allocate(REQUEST, timeout=0.3)

    run(scene())


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", OutcomeUnknown),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 4)",
            OutcomeUnknown,
        ),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", OutcomeUnknown),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", Unavailable),
    ],
)
def test_what_grpc_says_itself_is_unknown_unless_nothing_was_sent(
    code: grpc.StatusCode, text: str, expected: type[Exception]
) -> None:
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(code, nothing, nothing, details=text)
    assert type(error_of(error, "here")) is expected


def test_a_watch_outlasts_any_number_of_breaks_within_its_timeout(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        left = 60

        async def breaks(request: Any, context: Any) -> AsyncIterator[Any]:
            nonlocal left
            left -= 1
            if left:
                await fail(context, Unavailable("gone"))
            yield events_pb2.WatchResponse(index=4)
            await asyncio.sleep(60)

        async with replicas(1) as group, Client(addresses(group)) as client:
            client._caller.pause = no_pause  # type: ignore[method-assign]
            group[0].answers[WATCH] = breaks
            async with contextlib.aclosing(client.events.watch(timeout=20.0)) as stream:
                assert (await anext(stream)).index == 4
            assert client.faults == 59

    run(scene())


def test_a_watch_gives_up_when_its_timeout_is_over(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async def breaks(request: Any, context: Any) -> AsyncIterator[Any]:
            await fail(context, Unavailable("gone"))
            yield

        async with replicas(1) as group, Client(addresses(group), timeout=60.0) as client:
            group[0].answers[WATCH] = breaks
            with pytest.raises(Unavailable):
                async with (
                    asyncio.timeout(5),
                    contextlib.aclosing(client.events.watch(timeout=0.4)) as stream,
                ):
                    await anext(stream)

    run(scene())


def test_a_stream_that_gives_up_says_unknown_if_something_was_sent_before(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        errors: list[Exception] = [OutcomeUnknown("lost")]

        async def breaks(requests: Any, context: Any) -> AsyncIterator[Any]:
            async for _ in requests:
                await fail(context, errors.pop() if errors else NoLeader("none"))
            yield

        async def requests() -> AsyncIterator[allocator_pb2.AllocateRequest]:
            yield REQUEST

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[STREAM] = breaks
            with pytest.raises(OutcomeUnknown, match="may have been carried out"):
                async for _ in client.allocator.allocate_stream(requests(), timeout=0.5):
                    pass
            with pytest.raises(NoLeader):
                async for _ in client.allocator.allocate_stream(requests(), timeout=0.5):
                    pass

    run(scene())


async def no_pause(count: int) -> None:
    await asyncio.sleep(0)
