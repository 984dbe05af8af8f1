"""What every call passes: a limit on how many there are, a name for the logs, a deadline, a count.

A bug in a servicer is logged here, once, and answered with INTERNAL; it does not stop the replica, since what a
servicer does changes no state. (A bug in `apply` does: see raft/member.py.)
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from raftalloc.errors import InvalidRequest, Overloaded, RaftallocError
from raftalloc.server.checks import name
from raftalloc.server.rpc import REQUEST_ID
from raftalloc.server.status import PassedOn, code_of
from raftalloc.service.past import SECONDS_MAX as PAST_SECONDS_MAX
from raftalloc.telemetry.logs import bind_request, get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from raftalloc.ports import Clock, Rng
    from raftalloc.server.rpc import Call, Rpc
    from raftalloc.telemetry.metrics import Metrics

Answer = TypeVar("Answer")

_REQUEST_ID_MAX: Final = 64
_EXPECTED: Final = (RaftallocError, PassedOn, TimeoutError)
log = get_logger(__name__)


class Gate:
    """Where calls come in. Belongs to one event loop."""

    def __init__(
        self, *, metrics: Metrics, clock: Clock, rng: Rng, calls_max: int, call_seconds_max: float
    ) -> None:
        """`calls_max`: at a time; what comes on top is Overloaded. `call_seconds_max`: of one that is no stream."""
        self._metrics = metrics
        self._clock = clock
        self._calls_max = calls_max
        self._call_seconds_max = call_seconds_max
        self._open = 0
        self._count = 0
        self._prefix = rng.token(4).hex()

    async def unary(self, rpc: Rpc, call: Call, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do `work`, for as long as the call may take."""
        started = self._admit(call)
        longest = self._call_seconds_max
        if rpc.is_dated:  # a past state may have to be made first
            longest = max(longest, PAST_SECONDS_MAX)
        if call.seconds is None or call.seconds > longest:
            call.seconds = longest
        code = "CANCELLED"
        try:
            async with asyncio.timeout(call.seconds):
                answer = await work()
            code = "OK"
            return answer
        except Exception as error:
            code = self._failed(rpc, error)
            raise
        finally:
            self._done(rpc, code, started)

    async def stream(
        self, rpc: Rpc, call: Call, work: AsyncGenerator[Answer, None]
    ) -> AsyncGenerator[Answer, None]:
        """Give on what `work` gives; it takes as long as it takes."""
        started = self._admit(call)
        code = "CANCELLED"
        try:
            async with aclosing(work):
                async for answer in work:
                    yield answer
            code = "OK"
        except Exception as error:
            code = self._failed(rpc, error)
            raise
        finally:
            self._done(rpc, code, started)

    def forwarded(self, rpc: Rpc) -> None:
        """A call goes on to the leader."""
        self._metrics.rpc_forwarded(rpc.name)

    def _admit(self, call: Call) -> float:
        """Count the call in, and name it. Answers when that was."""
        if self._open >= self._calls_max:
            raise Overloaded(f"{self._calls_max} calls are under way on this replica; try again")
        given = call.metadata.get(REQUEST_ID, "")
        self._count += 1
        if isinstance(given, str) and given:
            call.request_id = name(REQUEST_ID, given)[:_REQUEST_ID_MAX]
        else:
            call.request_id = f"{self._prefix}-{self._count}"
        bind_request(request_id=call.request_id, principal=call.principal)
        self._open += 1
        self._metrics.rpc_started()
        return self._clock.monotonic()

    def _failed(self, rpc: Rpc, error: Exception) -> str:
        """Log what did not go well. Answers the status code's name."""
        code = error.status.code if isinstance(error, PassedOn) else code_of(error)
        if isinstance(error, InvalidRequest):
            self._metrics.invalid_request()
        if isinstance(error, _EXPECTED):
            log.debug("call refused", method=rpc.name, code=code.name, why=str(error))
        else:
            log.exception("call failed", method=rpc.name)
        return code.name

    def _done(self, rpc: Rpc, code: str, started: float) -> None:
        self._open -= 1
        seconds = self._clock.monotonic() - started
        self._metrics.rpc_done(rpc.name, code, seconds)
        log.debug("call", method=rpc.name, code=code, milliseconds=round(seconds * 1000, 3))
