"""A replica's own idea of time: it drifts, its wall clock jumps, and while the process is stopped nothing of it runs.

Whose time it is, is known by the context: everything that a replica does, its tasks and timers too, runs in the context
that it was started in, and the time that pysyncobj reads is that context's.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.loop import VirtualLoop

WALL_START_MS = 1_800_000_000_000
LOOK_SECONDS = 1e-6
CURRENT: contextvars.ContextVar[ReplicaClock] = contextvars.ContextVar("CURRENT")


def current_monotonic() -> float:
    """The time of the replica that runs."""
    return CURRENT.get().monotonic()


class ReplicaTimer:
    """Runs on its replica's time, and not while that is stopped."""

    __slots__ = ("_callback", "_clock", "_is_cancelled")

    def __init__(self, clock: ReplicaClock, callback: Callable[[], None]) -> None:
        self._clock, self._callback, self._is_cancelled = clock, callback, False

    def cancel(self) -> None:
        self._is_cancelled = True

    def run(self) -> None:
        if self._is_cancelled or self._clock.is_dead:
            return
        if self._clock.is_paused:
            self._clock.held.append(self)
            return
        self._callback()


class ReplicaClock:
    """A `ports.Clock` of one life of one replica."""

    def __init__(self, loop: VirtualLoop, *, drift: float, wall_offset_ms: int) -> None:
        """`drift`: seconds that pass here while one passes in the world."""
        self._loop = loop
        self._drift = drift
        self.wall_offset_ms = wall_offset_ms
        self._looks = 0
        self.is_paused = False
        self.is_dead = False
        self.resumed_at = 0.0
        self.held: list[ReplicaTimer] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.context = contextvars.copy_context()
        self.context.run(CURRENT.set, self)

    def monotonic(self) -> float:
        # Looking costs a little: pysyncobj has loops that end only when time passes.
        self._looks += 1
        return self._loop.now * self._drift + self._looks * LOOK_SECONDS

    def wall_ms(self) -> int:
        return WALL_START_MS + self.wall_offset_ms + int(self._loop.now * 1000)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        self.call_later(seconds, wake)
        await woken

    def call_later(self, seconds: float, callback: Callable[[], None]) -> ReplicaTimer:
        timer = ReplicaTimer(self, callback)
        self._loop.call_later(seconds / self._drift, timer.run, context=self.context)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> ReplicaTimer:
        timer = ReplicaTimer(self, callback)
        self._loop.call_soon(timer.run, context=self.context)
        return timer

    def die(self) -> None:
        """As SIGKILL: nothing of it runs any more."""
        self.is_dead = True
        self.held.clear()
        for task in sorted(self.tasks, key=lambda task: task.get_name()):
            task.cancel()

    def pause(self) -> None:
        """As SIGSTOP: nothing runs until `resume`."""
        self.is_paused = True

    def resume(self) -> None:
        """As SIGCONT: what came meanwhile runs now, in its order."""
        self.is_paused = False
        self.resumed_at = self._loop.now
        held, self.held = self.held, []
        for timer in held:
            self._loop.call_soon(timer.run, context=self.context)

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        """A task of this replica."""
        return self._loop.create_task(coroutine, name=name, context=self.context)
