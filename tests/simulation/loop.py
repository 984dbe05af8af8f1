"""An event loop on which time passes only when there is nothing left to do at a moment.

Everything of asyncio runs on it as it is: tasks, futures, timeouts. It opens no file, and never waits. What is
due at one moment is called in the order in which it was scheduled, so a run is a function of its seed.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

START_SECONDS = 1_000.0
STILL_TURNS_MAX = 100_000


class TimeStandsStill(Exception):
    """Something keeps itself busy without waiting for anything."""


class _Timer:
    """A handle that is called at its time; ties end at the order of scheduling."""

    __slots__ = ("handle", "is_cancelled", "order", "when")

    def __init__(self, when: float, order: int, handle: asyncio.Handle) -> None:
        self.when, self.order, self.handle = when, order, handle

    def __lt__(self, other: _Timer) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one simulated run."""

    def __init__(self) -> None:
        self.now = START_SECONDS
        self._still = 0
        self.on_task: Callable[[asyncio.Task[Any], contextvars.Context], None] = lambda *_: None
        self.faults: list[dict[str, Any]] = []
        """What asyncio would have logged: exceptions that nobody took."""
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[_Timer] = []
        self._order = 0
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run until it has ended; answers its result."""
        asyncio.events._set_running_loop(self)
        try:
            task = self.create_task(coroutine)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            asyncio.events._set_running_loop(None)

    def _turn(self) -> None:
        self._still += 1
        if self._still > STILL_TURNS_MAX:
            raise TimeStandsStill(f"{STILL_TURNS_MAX} turns at {self.now:.6f} s")
        if not self._ready:
            assert self._timers, "everybody waits for somebody else, for ever"
            if self._timers[0].when > self.now:
                self.now, self._still = self._timers[0].when, 0
            while self._timers and self._timers[0].when <= self.now:
                self._ready.append(heapq.heappop(self._timers).handle)
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]  # any arguments
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]  # any arguments
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        handle = asyncio.Handle(callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, _Timer(when, self._order, handle))
        return handle

    def call_later(  # type: ignore[override]  # any arguments
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        return self.call_at(self.now + max(0.0, delay), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coroutine: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=self, name=name, context=context)
        self.on_task(task, contextvars.copy_context() if context is None else context)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()


def new_loop() -> VirtualLoop:
    """One at the start of its time."""
    return VirtualLoop()  # type: ignore[abstract]  # sockets, signals and processes are not there
