"""Requests as they come, answers in their order, a bounded number under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
    from typing import Any

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def ordered(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Coroutine[Any, Any, Answer]],
    under_way_max: int,
) -> AsyncGenerator[Answer, None]:
    """Answer each request by `answer`, at most under_way_max at a time; then reading pauses.

    Work on them begins in their order. An exception comes out where its answer would have, and ends the rest.
    """
    under_way: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    room = asyncio.Semaphore(under_way_max)

    async def read() -> None:
        try:
            async for request in requests:
                await room.acquire()
                under_way.put_nowait(asyncio.create_task(answer(request)))
        finally:
            under_way.put_nowait(None)

    reader = asyncio.create_task(read())
    task: asyncio.Task[Answer] | None = None
    try:
        while (task := await under_way.get()) is not None:
            yield await task
            room.release()
        await reader
    finally:
        await _cancel(reader)
        if task is not None:
            await _cancel(task)
        while not under_way.empty():
            rest = under_way.get_nowait()
            if rest is not None:
                await _cancel(rest)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """End a task, and take what it raised, if nobody has."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
