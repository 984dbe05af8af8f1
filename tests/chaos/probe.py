"""How long writes are not taken: small writes of their own, one every few milliseconds, until one is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVERY_SECONDS: Final = 0.01
GIVE_UP_SECONDS: Final = 60.0


async def until_written(
    write: Callable[[int], Awaitable[bool]], since: float, *, seconds: float = GIVE_UP_SECONDS
) -> float | None:
    """Seconds from `since` (the loop's clock) to the first write asked from now on that answers True.

    Writes do not wait for each other: what is stuck in one says nothing of the next. Those still under way then go on
    to their end. None where none was taken in time.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[float] = loop.create_future()

    async def one(number: int) -> None:
        if await write(number) and not answered.done():
            answered.set_result(loop.time())

    give_up = loop.time() + seconds
    probes: list[asyncio.Task[None]] = []
    try:
        while not answered.done() and loop.time() < give_up:
            probes.append(asyncio.create_task(one(len(probes))))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(answered), EVERY_SECONDS)
        await asyncio.gather(*probes)
    finally:
        for probe in probes:
            probe.cancel()
    return answered.result() - since if answered.done() else None
