"""Waiting in the queue: granted, refused in the end, given up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc import (
    ResourceRequest,
)
from tests.manager.fleet import asks, furnish, until_waiting, waiting

if TYPE_CHECKING:
    from tests.conftest import Run
    from tests.manager.conftest import Make


def test_a_request_waits_for_its_grant(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            first = await manager.allocate_resources(
                ResourceRequest(agent_id="w_1", resources={"gpu": 4})
            )
            waits = asyncio.create_task(manager.allocate_resources(asks("w_2", wait=20)))
            await until_waiting(manager, "w_2")
            await first.release()
            second = await waits
            assert second.success, second.reason
            assert second.waited > 0
            assert second.node_id == "gpu-1"
            await second.release()

    run(scene())


def test_after_the_wait_the_answer_is_no_and_nothing_waits(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(
                ResourceRequest(agent_id="n_1", resources={"gpu": 4})
            ):
                late = await manager.allocate_resources(asks("n_2", wait=0.3))
                assert not late.success
                assert late.refusal is not None
                assert late.refusal.code == "NO_CAPACITY"
                assert "waited" in late.reason
                assert await waiting(manager, "n_2") == []

    run(scene())


def test_who_is_cancelled_while_waiting_leaves_nothing_behind(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            async with await manager.allocate_resources(
                ResourceRequest(agent_id="c_1", resources={"gpu": 4})
            ):
                task = asyncio.create_task(manager.allocate_resources(asks("c_2", wait=60)))
                await until_waiting(manager, "c_2")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await waiting(manager, "c_2") == []

    run(scene())


def test_who_is_cancelled_before_the_answer_gives_the_grant_back(run: Run, make: Make) -> None:
    async def scene() -> None:
        async with make() as manager:
            await furnish(manager)
            task = asyncio.create_task(manager.allocate_resources(asks("hasty")))
            await asyncio.sleep(0)  # it has been sent, or is about to be
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await waiting(manager, "hasty") == []

    run(scene())
