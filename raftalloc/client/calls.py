"""One call of the API, tried again until it is answered or the caller's deadline is over.

A "no" (InvalidRequest, Rejected, Forbidden ...) is an answer and ends the call. A fault (Unavailable, OutcomeUnknown)
is none: the call goes to the next replica, with the same idempotency, so that it is carried out once however often it
is sent. A replica that fails at it (ReplicaFailed) is left for the next, one round long: that one may know the outcome.
What is raised in the end is true of the call, not of its last attempt: once an attempt may have been carried out, only
an answer to the same attempt can say otherwise.

The first round over the endpoints goes without a pause, then pauses double from PAUSE_S to PAUSE_S_MAX, each shortened
at random so that many clients do not come back at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.client.sessions import WINDOW, Sessions, Stamp
from raftalloc.client.statuses import READ
from raftalloc.errors import (
    Forbidden,
    InvalidRequest,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    RaftallocError,
    Rejected,
    ReplicaFailed,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.client.routing import Router

Answer = TypeVar("Answer", bound=Message)
Request = TypeVar("Request", bound=Message)

PAUSE_S: Final = 0.025
PAUSE_S_MAX: Final = 0.25
KEY_EXPIRED: Final = "KEY_EXPIRED"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Effort:
    """How far one call has come. `maybe_done`: an attempt may have changed something although nobody said so."""

    method: str
    deadline: float
    changes: bool
    attempts: int = 0
    maybe_done: bool = False
    last: RaftallocError | None = None


class Caller:
    """Makes the calls of one client. All times are seconds."""

    def __init__(self, router: Router, *, timeout: float, attempt_timeout: float) -> None:
        """`timeout`: of a call that gives none; `attempt_timeout`: after which a silent replica is left."""
        self._router = router
        self._timeout = check_timeout(timeout)
        self._attempt_timeout = check_timeout(attempt_timeout)
        self.sessions = Sessions(self._open_session, loop_time)
        self._opening: _Effort | None = None
        self.faults = 0
        """Attempts that met a fault, since this was made; each was repeated, or its call raised."""

    @property
    def timeout(self) -> float:
        """Seconds, of a call that gives none."""
        return self._timeout

    @property
    def router(self) -> Router:
        """Which replica is asked."""
        return self._router

    async def read(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> Answer:
        """A call that changes nothing, or nothing more when repeated. `stale`: any replica may answer."""
        effort = self._effort(method, timeout, changes=False)
        metadata = ((READ, "any"),) if stale else ()
        return await self._ask(effort, request, response_type, metadata, stale=stale)

    async def change(
        self,
        method: str,
        request: Request,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
    ) -> Answer:
        """A call that must be carried out once. Idempotency that the caller gave is kept."""
        effort = self._effort(method, timeout, changes=True)
        while True:
            stamped = type(request)()
            stamped.CopyFrom(request)
            stamps = await self._stamp_within(effort, stamped)
            try:
                answer = await self._ask(effort, stamped, response_type)
                if effort.maybe_done or not stamps or not _expired(answer):
                    return answer
            except Rejected as error:
                if effort.maybe_done or not stamps or error.code != KEY_EXPIRED:
                    raise
            except (Forbidden, Unauthenticated, InvalidRequest) as error:
                if effort.maybe_done:
                    raise OutcomeUnknown(
                        f"{method}: refused now ({error}), and an earlier attempt may have been carried out"
                    ) from error
                raise
            finally:
                for stamp in stamps:
                    self.sessions.done(stamp)
            # The only attempt was refused since the group has forgotten our session: nothing was done.
            for stamp in stamps:
                self.sessions.forget(stamp.session)

    async def aimed(
        self,
        address: str,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
    ) -> Answer:
        """One attempt at one replica, whoever leads. An empty address: the first one in turn that can be reached."""
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        others = 0 if address else len(self._router.endpoints) - 1
        while True:
            asked = address or self._router.pick()
            transport = self._router.transport(asked)
            try:
                answer, trailing = await transport.unary(
                    method, request, response_type, timeout=seconds
                )
            except Unavailable as error:
                self.failed(asked, error)
                if not others:
                    raise
                others -= 1
                continue
            self._router.heard(asked, trailing)
            return answer

    async def _stamp_within(self, effort: _Effort, stamped: Message) -> list[Stamp]:
        """Name the attempts; a session may have to be opened for that, which must not outlast the call's deadline."""
        try:
            async with asyncio.timeout_at(effort.deadline):
                return await self.stamp(_unstamped(stamped))
        except TimeoutError as error:
            raise _given_up(self._opening or effort) from error

    async def stamp(self, unstamped: Sequence[types_pb2.Idempotency]) -> list[Stamp]:
        """Name each of these attempts; `sessions.done` must follow for every stamp."""
        stamps: list[Stamp] = []
        for start in range(0, len(unstamped), WINDOW):
            block = unstamped[start : start + WINDOW]
            stamp = await self.sessions.take(len(block))
            stamps.append(stamp)
            for offset, idempotency in enumerate(block):
                idempotency.session = stamp.session
                idempotency.sequence = stamp.first + offset
        return stamps

    async def pause(self, count: int) -> None:
        """Before attempt `count` (from 0) after the first round."""
        full = min(PAUSE_S * (1 << min(count, 10)), PAUSE_S_MAX)
        await asyncio.sleep(full * (0.5 + 0.5 * jitter()))

    def failed(self, address: str, error: RaftallocError) -> None:
        """Count a fault, and take note of what it says about where to go."""
        self.faults += 1
        if isinstance(error, NotLeader) and error.leader and error.leader != address:
            self._router.leader_is(error.leader)
        elif not isinstance(error, Overloaded):
            self._router.failed(address)

    async def _ask(
        self,
        effort: _Effort,
        request: Message,
        response_type: type[Answer],
        metadata: Sequence[tuple[str, str]] = (),
        *,
        stale: bool = False,
    ) -> Answer:
        """Attempt after attempt until there is an answer or no time left."""
        round_size = len(self._router.endpoints)
        while True:
            left = effort.deadline - loop_time()
            if left <= 0:
                raise _given_up(effort)
            address = self._router.any() if stale else self._router.pick()
            effort.attempts += 1
            try:
                answer, trailing = await self._router.transport(address).unary(
                    effort.method,
                    request,
                    response_type,
                    timeout=min(left, self._attempt_timeout),
                    metadata=metadata,
                )
            except (Unavailable, OutcomeUnknown, ReplicaFailed) as error:
                _log.debug("attempt %d of %s: %s", effort.attempts, effort.method, error)
                effort.maybe_done |= effort.changes and not isinstance(error, Unavailable)
                effort.last = error
                self.failed(address, error)
                if isinstance(error, ReplicaFailed) and effort.attempts >= round_size:
                    raise
                if effort.attempts >= round_size or isinstance(error, Overloaded):
                    await self.pause(max(0, effort.attempts - round_size))
                continue
            self._router.heard(address, trailing)
            return answer

    def _effort(self, method: str, timeout: float | None, *, changes: bool) -> _Effort:
        """A fresh one, with its deadline."""
        seconds = self._timeout if timeout is None else check_timeout(timeout)
        return _Effort(method, loop_time() + seconds, changes)

    async def _open_session(self) -> int:
        """A session of the group; a lost answer is asked for again under the same key."""
        request = allocator_pb2.OpenSessionRequest(key=os.urandom(16).hex())
        path = "/raftalloc.api.v1.Allocator/OpenSession"
        effort = self._opening = self._effort(path, None, changes=False)
        answer = await self._ask(effort, request, allocator_pb2.OpenSessionResponse)
        return answer.session


def loop_time() -> float:
    """Monotonic seconds of the running event loop."""
    return asyncio.get_running_loop().time()


def jitter() -> float:
    """In [0, 1), different in every client."""
    return int.from_bytes(os.urandom(4)) / (1 << 32)


def check_timeout(seconds: float) -> float:
    """The timeout, if it is one. Raises InvalidRequest."""
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < float("inf"):
        raise InvalidRequest("timeout", f"{seconds!r} is no number of seconds above 0", "e.g. 10.0")
    return float(seconds)


def _unstamped(message: Message) -> list[types_pb2.Idempotency]:
    """The Idempotency of the message, or of each request of a batch, where the caller gave none."""
    if isinstance(message, allocator_pb2.AllocateBatchRequest):
        found = [request.idempotency for request in message.requests]
    else:
        found = [message.idempotency] if "idempotency" in message.DESCRIPTOR.fields_by_name else []  # type: ignore[attr-defined]  # checked by the descriptor
    return [each for each in found if not (each.session or each.key)]


def _expired(answer: Message) -> bool:
    """Whether the group says, for the whole of it, that it does not know our session."""
    if isinstance(answer, allocator_pb2.AllocateBatchResponse):
        return bool(answer.responses) and all(_expired(each) for each in answer.responses)
    if isinstance(answer, allocator_pb2.AllocateResponse):
        return answer.rejected.code == KEY_EXPIRED
    return False


def _given_up(effort: _Effort) -> RaftallocError:
    """What to raise when the time is over."""
    tried = f"{effort.method}: no answer in time after {effort.attempts} attempts"
    last = f"; the last: {effort.last}" if effort.last is not None else ""
    if effort.maybe_done:
        return OutcomeUnknown(f"{tried}, one of which may have been carried out{last}")
    return Unavailable(tried + last)
