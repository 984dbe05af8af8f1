from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from raftalloc.errors import InvalidRequest, Overloaded
from raftalloc.server.interceptors import Gate
from raftalloc.server.rpc import SERVICES, Call, Route, Rpc, table
from raftalloc.system import SystemClock, SystemRng
from raftalloc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.conftest import Run


class Anything:
    """A servicer that has every method."""

    def __getattr__(self, name: str) -> object:
        return name


ANYTHING = {service.name: Anything() for service in SERVICES.values()}
RPCS = table(ANYTHING)
RPC = RPCS["/raftalloc.api.v1.Allocator/Allocate"]


class Scene:
    """A gate for two calls at a time, and what it counts."""

    def __init__(self, call_seconds_max: float = 5.0) -> None:
        self.metrics = Metrics(replica_id="n1", cluster_id="c", version="1")
        self.gate = Gate(
            metrics=self.metrics,
            clock=SystemClock(),
            rng=SystemRng(),
            calls_max=2,
            call_seconds_max=call_seconds_max,
        )

    def count(self, series: str) -> float:
        pattern = rf"^{re.escape(series)} (\S+)$"
        found = re.search(pattern, self.metrics.render().decode(), re.M)
        return float(found[1]) if found else 0.0

    def answered(self, code: str) -> float:
        return self.count(f'raftalloc_rpcs_total{{code="{code}",method="Allocator/Allocate"}}')


async def at_once() -> str:
    return "done"


async def never() -> str:
    await asyncio.Event().wait()
    return "never"


def test_an_answer_passes_and_is_counted(run: Run):
    async def scene() -> None:
        here = Scene()
        assert await here.gate.unary(RPC, Call(), at_once) == "done"
        assert here.answered("OK") == 1
        assert here.count("raftalloc_rpcs_open") == 0

    run(scene())


def test_a_call_that_takes_too_long_is_ended_and_counted(run: Run):
    async def scene() -> None:
        here = Scene(call_seconds_max=0.02)
        for seconds in (None, 60.0):
            with pytest.raises(TimeoutError):
                await here.gate.unary(RPC, Call(seconds=seconds), never)
        assert here.answered("DEADLINE_EXCEEDED") == 2
        assert here.count("raftalloc_rpcs_open") == 0

    run(scene())


def test_the_callers_own_deadline_holds_where_it_is_shorter(run: Run):
    async def scene() -> None:
        with pytest.raises(TimeoutError):
            await Scene().gate.unary(RPC, Call(seconds=0.02), never)

    run(scene())


def test_calls_above_the_limit_are_shed_before_anything_is_done(run: Run):
    async def scene() -> None:
        here = Scene()
        open_calls = [asyncio.create_task(here.gate.unary(RPC, Call(), never)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 calls are under way"):
            await here.gate.unary(RPC, Call(), at_once)
        for each in open_calls:
            each.cancel()
        await asyncio.gather(*open_calls, return_exceptions=True)
        assert here.answered("CANCELLED") == 2
        assert await here.gate.unary(RPC, Call(), at_once) == "done"

    run(scene())


def test_a_refusal_passes_and_a_bug_is_counted_as_internal(run: Run):
    async def malformed() -> str:
        raise InvalidRequest("count", "is bad")

    async def broken() -> str:
        raise KeyError("a bug")

    async def scene() -> None:
        here = Scene()
        with pytest.raises(InvalidRequest):
            await here.gate.unary(RPC, Call(), malformed)
        with pytest.raises(KeyError):
            await here.gate.unary(RPC, Call(), broken)
        assert here.count("raftalloc_invalid_requests_total") == 1
        assert here.answered("INTERNAL") == 1

    run(scene())


def test_calls_are_named_by_the_caller_or_by_us(run: Run):
    async def scene() -> None:
        here = Scene()
        given = Call(metadata={"raftalloc-request-id": "r7"})
        first, second = Call(), Call()
        for call in (given, first, second):
            await here.gate.unary(RPC, call, at_once)
        assert given.request_id == "r7"
        assert first.request_id
        assert first.request_id != second.request_id
        with pytest.raises(InvalidRequest, match="raftalloc-request-id"):
            await here.gate.unary(RPC, Call(metadata={"raftalloc-request-id": "\n"}), at_once)

    run(scene())


def test_a_stream_counts_while_it_is_open_and_is_closed_with_its_reader(run: Run):
    closed: list[bool] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append(True)

    async def scene() -> None:
        here = Scene()
        async with aclosing(here.gate.stream(RPC, Call(), numbers())) as stream:
            assert await anext(stream) == 0
            assert here.count("raftalloc_rpcs_open") == 1
        assert here.count("raftalloc_rpcs_open") == 0
        assert closed == [True]

    run(scene())


def by_route(route: Route) -> set[str]:
    return {rpc.name for rpc in RPCS.values() if rpc.route is route}


def test_what_changes_something_goes_to_the_leader_and_reads_may_be_asked_for_elsewhere():
    assert by_route(Route.READ) == {
        "Allocator/Explain",
        "Allocator/Get",
        "Allocator/List",
        "Events/History",
        "Fleet/ListNodes",
        "Quotas/GetQuotaUsage",
        "Quotas/ListQuotas",
        "Queue/GetQueue",
        "Queue/ListQueue",
        "Reservations/Get",
        "Reservations/List",
        "Simulation/WhatIf",
        "Usage/Utilization",
    }
    assert by_route(Route.LOCAL) == {
        "Admin/ReadState",
        "Admin/Snapshot",
        "Admin/Status",
        "Events/Read",
        "Events/ReadBlocks",
        "Events/Watch",
    }


def test_a_service_without_a_handler_for_each_call_cannot_be_served():
    class Half:
        Watch = Read = ReadBlocks = None

    with pytest.raises(AttributeError, match="History"):
        table({**ANYTHING, "Events": Half()})


def test_rpcs_name_their_messages():
    rpc: Rpc = RPCS["/raftalloc.api.v1.Fleet/Heartbeat"]
    assert rpc.name == "Fleet/Heartbeat"
    assert rpc.request_type.DESCRIPTOR.name == "HeartbeatRequest"
    assert rpc.response_type.DESCRIPTOR.name == "HeartbeatResponse"
