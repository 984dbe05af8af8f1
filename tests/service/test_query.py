"""Allocations that are over, and who had what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.core.commands import Cancel, Release, Tick
from raftalloc.core.records import Allocation, Waiting
from raftalloc.errors import InvalidRequest
from raftalloc.service.query import HistoryRow, Past, Queries
from tests.service.fakes import Replica, ask, node

if TYPE_CHECKING:
    from tests.conftest import Run


async def opened() -> tuple[Replica, Queries]:
    replica = await Replica().open()
    await replica.submit(node(cpu=4))
    return replica, Queries(engine=replica.engine, store=replica.store)


async def granted(
    replica: Replica, agent_id: str, *, workflow_id: str = "w1", duration_ms: int = 0
) -> Allocation:
    answer = await replica.submit(ask(agent_id, workflow_id=workflow_id, duration_ms=duration_ms))
    return answer.granted[0][0]


async def release(replica: Replica, allocation: Allocation) -> None:
    command = Release(allocation.allocation_id, allocation.token, allocation.agent_id)
    await replica.submit(command)


def test_an_id_is_found_while_it_lives_waits_and_after_its_end(run: Run):
    async def story() -> None:
        replica, queries = await opened()
        live = await granted(replica, "live")
        over = await granted(replica, "over")
        await replica.clock.advance(2.0, step=1.0)
        await release(replica, over)
        waiting = await replica.submit(ask("late", cpu=4, wait_ms=60_000))
        withdrawn = await replica.submit(ask("never", cpu=4, wait_ms=60_000))
        await replica.submit(Cancel(withdrawn.outcomes[0].subject, "never"))
        assert isinstance(await queries.find(live.allocation_id), Allocation)
        assert isinstance(await queries.find(waiting.outcomes[0].subject), Waiting)
        past = await queries.find(over.allocation_id)
        assert isinstance(past, Past)
        assert past.granted is not None
        assert (past.granted.agent_id, past.reason) == ("over", "RELEASED")
        assert past.ended_ms - past.granted_ms == 2_000
        gone = await queries.find(withdrawn.outcomes[0].subject)
        assert isinstance(gone, Past)
        assert gone.queued is not None
        assert gone.reason == "CANCELLED"
        for unknown in (999, 0, -1):
            assert await queries.find(unknown) is None
        await replica.close()

    run(story())


def test_history_is_newest_first_with_ends_where_there_are_any(run: Run):
    async def story() -> None:
        replica, queries = await opened()
        first = await granted(replica, "a", duration_ms=1_000)
        await granted(replica, "b")
        second = await granted(replica, "a")
        await replica.clock.advance(1.5, step=0.5)
        await replica.submit(Tick())
        page = await queries.history(agent_id="a")
        assert [row.granted.allocation_id for row in page.rows] == [
            second.allocation_id,
            first.allocation_id,
        ]
        assert [row.reason for row in page.rows] == ["", "DURATION_ENDED"]
        assert page.rows[0].ended_ms == 0
        assert page.rows[1].ended_ms >= first.ends_ms
        assert page.next_before == 0
        await replica.close()

    run(story())


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_pages_of_history_add_up_and_know_ends_that_are_newer_than_they_are(run: Run, limit: int):
    async def story() -> None:
        replica, queries = await opened()
        ids = []
        for _ in range(9):
            one = await granted(replica, "a")
            ids.append(one.allocation_id)
            await release(replica, one)
        replica.engine.state.leases.ended.clear()  # as after many others have ended
        rows: list[HistoryRow] = []
        before = 0
        while True:
            page = await queries.history(agent_id="a", limit=limit, before=before)
            rows += page.rows
            before = page.next_before
            if not before:
                break
        assert [row.granted.allocation_id for row in rows] == ids[::-1]
        assert {row.reason for row in rows} == {"RELEASED"}
        await replica.close()

    run(story())


def test_history_keeps_to_its_time_range_and_to_both_names(run: Run):
    async def story() -> None:
        replica, queries = await opened()
        times = []
        for number in range(4):
            one = await granted(replica, "a", workflow_id="odd" if number % 2 else "even")
            times.append(one.granted_ms)
            await replica.clock.advance(1.0, step=0.5)
        middle = await queries.history(agent_id="a", from_ms=times[1], to_ms=times[2])
        assert [row.granted_ms for row in middle.rows] == [times[2], times[1]]
        odd = await queries.history(workflow_id="odd")
        assert [row.granted_ms for row in odd.rows] == [times[3], times[1]]
        both = await queries.history(agent_id="a", workflow_id="even", from_ms=times[1])
        assert [row.granted_ms for row in both.rows] == [times[2]]
        assert (await queries.history(agent_id="nobody")).rows == ()
        await replica.close()

    run(story())


def test_history_of_nobody_in_particular_is_malformed(run: Run):
    async def story() -> None:
        replica, queries = await opened()
        with pytest.raises(InvalidRequest) as refusal:
            await queries.history()
        assert refusal.value.field == "agent_id"
        await replica.close()

    run(story())
