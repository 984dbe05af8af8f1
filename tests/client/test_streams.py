from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.client.client import Client
from raftalloc.client.streams import UNDER_WAY_MAX
from raftalloc.errors import Compacted, Overloaded, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.conftest import Run

WATCH = "Events/Watch"
STREAM = "Allocator/AllocateStream"


def addresses(group: list[Any]) -> list[str]:
    return [replica.address for replica in group]


def event(index: int, sequence: int) -> events_pb2.Event:
    return events_pb2.Event(index=index, sequence=sequence, type="Granted")


async def first(count: int, client: Client, request: events_pb2.WatchRequest) -> list[Any]:
    """(index, sequence) of the first `count` events."""
    seen: list[Any] = []
    async with contextlib.aclosing(client.events.watch(request)) as stream:
        async for response in stream:
            seen += [(each.index, each.sequence) for each in response.events]
            if len(seen) >= count:
                return seen
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("error", [Unavailable("gone"), Overloaded("too slow")])
def test_a_watch_goes_on_at_another_replica_behind_what_it_has_handed_out(
    run: Run, replicas: Any, fail: Callable[..., Any], error: Exception
) -> None:
    async def scene() -> None:
        async def breaks_within_an_entry(request: Any, context: Any) -> AsyncIterator[Any]:
            yield events_pb2.WatchResponse(events=[event(4, 0)], index=4)
            yield events_pb2.WatchResponse(events=[event(5, 0), event(5, 1)], index=4)
            await fail(context, error)

        async def goes_on(request: Any, context: Any) -> AsyncIterator[Any]:
            events = [event(5, each) for each in range(3)]
            yield events_pb2.WatchResponse(events=events, index=5)
            await asyncio.sleep(60)

        async with replicas(2) as group, Client(addresses(group)) as client:
            group[0].answers[WATCH] = breaks_within_an_entry
            group[1].answers[WATCH] = goes_on
            if isinstance(error, Overloaded):  # the same replica is asked again
                group[0].answers[WATCH] = _one_after_the_other(breaks_within_an_entry, goes_on)
            seen = await first(4, client, events_pb2.WatchRequest(from_index=3))
            assert seen == [(4, 0), (5, 0), (5, 1), (5, 2)]
            asked = group[0].requests(WATCH) + group[1].requests(WATCH)
            assert [request.from_index for request in asked] == [3, 5]

    run(scene())


def _one_after_the_other(*answers: Any) -> Any:
    left = list(answers)

    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        async for each in left.pop(0)(request, context):
            yield each

    return answer


def test_a_watch_of_what_is_no_longer_kept_says_what_is(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        async def compacted(request: Any, context: Any) -> AsyncIterator[Any]:
            await fail(context, Compacted(1, 40))
            yield

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[WATCH] = compacted
            with pytest.raises(Compacted) as caught:
                await first(1, client, events_pb2.WatchRequest(from_index=1))
            assert caught.value.lowest_index == 40

    run(scene())


async def echo(requests: Any, context: Any) -> AsyncIterator[Any]:
    """Grants each request an allocation with the number in its agent's name."""
    async for request in requests:
        number = int(request.agent_id)
        granted = allocator_pb2.Granted(allocations=[types_pb2.Allocation(id=number)])
        yield allocator_pb2.AllocateResponse(granted=granted)


async def numbered(count: int) -> AsyncIterator[allocator_pb2.AllocateRequest]:
    for number in range(1, count + 1):
        yield allocator_pb2.AllocateRequest(agent_id=str(number))


def test_a_stream_of_requests_is_answered_in_order(run: Run, replicas: Any) -> None:
    async def scene() -> None:
        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[STREAM] = echo
            count = 2 * UNDER_WAY_MAX
            stream = client.allocator.allocate_stream(numbered(count))
            ids = [answer.granted.allocations[0].id async for answer in stream]
            assert ids == list(range(1, count + 1))

    run(scene())


def test_a_stream_that_breaks_sends_the_unanswered_again_under_the_same_idempotency(
    run: Run, replicas: Any, fail: Callable[..., Any]
) -> None:
    async def scene() -> None:
        taken: list[list[Any]] = [[], []]

        async def breaks(requests: Any, context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                taken[0].append(request)
                if len(taken[0]) == 5:
                    await fail(context, Unavailable("gone"))
                if len(taken[0]) <= 3:
                    yield await anext(echo(_each(request), context))

        async def goes_on(requests: Any, context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                taken[1].append(request)
                yield await anext(echo(_each(request), context))

        async with replicas(2) as group, Client(addresses(group)) as client:
            group[0].answers[STREAM] = breaks
            group[1].answers[STREAM] = goes_on
            stream = client.allocator.allocate_stream(numbered(8))
            ids = [answer.granted.allocations[0].id async for answer in stream]
            assert ids == list(range(1, 9))
            assert taken[1][:2] == taken[0][3:5]
            assert len(taken[1]) == 5

    run(scene())


async def _each(request: Any) -> AsyncIterator[Any]:
    yield request


def test_what_the_requests_raise_is_raised_after_the_answers_to_those_before(
    run: Run, replicas: Any
) -> None:
    async def scene() -> None:
        async def three_then_error() -> AsyncIterator[allocator_pb2.AllocateRequest]:
            async for request in numbered(3):
                yield request
            raise RuntimeError("out of work")

        async with replicas(1) as group, Client(addresses(group)) as client:
            group[0].answers[STREAM] = echo
            stream = client.allocator.allocate_stream(three_then_error())
            for number in (1, 2, 3):
                assert (await anext(stream)).granted.allocations[0].id == number
            with pytest.raises(RuntimeError, match="out of work"):
                await anext(stream)

    run(scene())
