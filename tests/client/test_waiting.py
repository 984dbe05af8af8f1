from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.client.client import Client
from raftalloc.client.waiting import Asking
from raftalloc.errors import Compacted, OutcomeUnknown, RaftallocError, Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.conftest import Run

NO_ROOM = types_pb2.Rejection(code="NO_CAPACITY", message="nothing free", numbers={"free": 0})


def allocation(number: int) -> types_pb2.Allocation:
    return types_pb2.Allocation(id=number, request_id=10, agent_id="a", fencing_token=number)


def event(kind: str, subject: int, index: int, request_id: int = 10) -> events_pb2.Event:
    detail = json.dumps({"request_id": request_id})
    return events_pb2.Event(type=kind, subject=subject, index=index, detail_json=detail)


class Group:
    """A Transport to a group in which request 10 waits, until the events that the test gives."""

    def __init__(self, *told: events_pb2.Event | RaftallocError, waiting: int = 1) -> None:
        queued = allocator_pb2.Queued(request_id=10, waiting_count=waiting, position=1, why=NO_ROOM)
        self.answer = allocator_pb2.AllocateResponse(queued=queued, index=5)
        self.told = list(told)
        self.live: list[types_pb2.Allocation] = []
        self.on_cancel: RaftallocError | None = None
        self.calls: list[str] = []
        self.watched_from: list[int] = []
        self.released: list[int] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.asked = asyncio.Event()
        self.watching = asyncio.Event()

    async def unary(
        self,
        method: str,
        request: Any,
        response_type: type[Any],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Any, dict[str, str | bytes]]:
        name = method.rpartition("/")[2]
        self.calls.append(name)
        return await getattr(self, name)(request), {}

    async def OpenSession(self, request: Any) -> Any:  # noqa: N802 - as the RPC
        return allocator_pb2.OpenSessionResponse(session=1)

    async def Allocate(self, request: Any) -> Any:  # noqa: N802
        self.asked.set()
        await self.slow.wait()
        return self.answer

    async def List(self, request: Any) -> Any:  # noqa: N802
        return allocator_pb2.ListResponse(allocations=self.live)

    async def Get(self, request: Any) -> Any:  # noqa: N802
        raise Rejected("UNKNOWN_ALLOCATION", "never given")

    async def Cancel(self, request: Any) -> Any:  # noqa: N802
        if self.on_cancel is not None:
            raise self.on_cancel
        return allocator_pb2.CancelResponse(index=9, cancelled_count=1)

    async def Release(self, request: Any) -> Any:  # noqa: N802
        self.released.append(request.allocation_id)
        return allocator_pb2.ReleaseResponse()

    async def stream(
        self, method: str, request: Any, response_type: type[Any], **options: Any
    ) -> AsyncIterator[Any]:
        self.watched_from.append(request.from_index)
        self.watching.set()
        while self.told:
            told = self.told.pop(0)
            if isinstance(told, RaftallocError):
                raise told
            yield events_pb2.WatchResponse(events=[told], index=told.index)
        await asyncio.sleep(60)

    def duplex(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is open."""


def request(wait_ms: int = 5000, count: int = 1) -> allocator_pb2.AllocateRequest:
    return allocator_pb2.AllocateRequest(agent_id="a", wait_ms=wait_ms, count=count)


def decide(run: Run, group: Group, asked: allocator_pb2.AllocateRequest) -> Any:
    async def scene() -> Any:
        return await Asking(Client(transport=group)).decide(asked)

    return run(scene())


@pytest.mark.parametrize("index", [5, 8])
def test_a_grant_ends_the_wait_even_in_the_entry_that_queued_it(run: Run, index: int) -> None:
    group = Group(event("Granted", 10, index))
    group.live = [allocation(10)]
    decision = decide(run, group, request())
    assert [each.id for each in decision.allocations] == [10]
    assert decision.refusal is None
    assert "Cancel" not in group.calls
    assert group.watched_from == [5]


def test_grants_of_the_agents_other_requests_do_not_end_the_wait(run: Run) -> None:
    group = Group(event("Granted", 99, 6, request_id=99), event("Withdrawn", 99, 7, request_id=99))
    decision = decide(run, group, request(wait_ms=100))
    assert not decision.allocations
    assert "Cancel" in group.calls


def test_when_it_is_withdrawn_the_answer_is_what_stood_in_the_way(run: Run) -> None:
    decision = decide(run, Group(event("Withdrawn", 10, 7)), request())
    assert decision.refusal.code == "NO_CAPACITY"
    assert decision.refusal.numbers == {"free": 0}
    assert "from position 1: nothing free" in decision.refusal.message


def test_an_array_waits_for_all_its_members_and_counts_each_once(run: Run) -> None:
    again = event("Granted", 11, 7)
    group = Group(event("Granted", 10, 5), event("Granted", 11, 6), again, waiting=2)
    group.answer = allocator_pb2.AllocateResponse(
        granted=allocator_pb2.Granted(allocations=[allocation(10)], queued=group.answer.queued),
        index=5,
    )
    group.live = [allocation(10), allocation(11)]
    decision = decide(run, group, request(wait_ms=200, count=3))
    assert "Cancel" in group.calls  # the third never came
    assert [each.id for each in decision.allocations] == [10, 11]
    assert decision.refusal.message.startswith("2 of 3 granted")


def test_a_grant_that_overtakes_the_end_of_the_wait_is_a_grant(run: Run) -> None:
    group = Group()
    group.on_cancel = Rejected("NOT_WAITING", "nothing waits")
    group.live = [allocation(10)]
    assert decide(run, group, request(wait_ms=50)).refusal is None


@pytest.mark.parametrize("fault", [Compacted(5, 40), OutcomeUnknown("broken")])
def test_a_watch_that_cannot_go_on_is_begun_again(run: Run, fault: RaftallocError) -> None:
    group = Group(fault, event("Granted", 10, 41))
    group.live = [allocation(10)]
    assert decide(run, group, request()).refusal is None
    assert group.watched_from == [5, 40 if isinstance(fault, Compacted) else 5]


def test_who_is_cancelled_before_the_answer_gives_back_what_it_brings(run: Run) -> None:
    async def scene() -> None:
        group = Group()
        group.answer = allocator_pb2.AllocateResponse(
            granted=allocator_pb2.Granted(allocations=[allocation(10), allocation(11)])
        )
        group.slow.clear()
        task = asyncio.create_task(Asking(Client(transport=group)).decide(request()))
        await group.asked.wait()
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        group.slow.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert group.released == [10, 11]

    run(scene())


def test_who_is_cancelled_while_it_waits_withdraws_and_gives_back(run: Run) -> None:
    async def scene() -> None:
        group = Group()
        group.live = [allocation(10)]
        task = asyncio.create_task(Asking(Client(transport=group)).decide(request()))
        await group.watching.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert group.calls.index("Cancel") < group.calls.index("Release")
        assert group.released == [10]

    run(scene())


def test_what_cannot_be_taken_back_is_said_and_does_not_hold_the_caller(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raftalloc.client.waiting.ABANDON_S", 0.05)

    async def scene() -> None:
        group = Group()
        group.slow.clear()
        task = asyncio.create_task(Asking(Client(transport=group)).decide(request()))
        await group.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "could not be taken back" in caplog.text

    run(scene())
