"""Calls to a replica that says nothing: whether to go on waiting is asked of the others.

A process that was stopped, or a machine that was cut off, keeps its connections and answers nobody; a call would wait
there for its whole attempt while another replica leads. So while calls are under way and nothing at all has been heard
of their replica for SILENT_S, the other replicas are asked who leads. Where they name another, the calls are given up
and made there again, with the same idempotency. Where they name the silent one, or nobody, the calls go on waiting:
it may only be busy, and asking twice would make it busier.

Costs a few microseconds a call, and a look every LOOK_S while calls are under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message

from raftalloc.api.v1 import admin_pb2
from raftalloc.errors import OutcomeUnknown, RaftallocError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from raftalloc.client.routing import Router
    from raftalloc.client.transport import Transport

Answer = TypeVar("Answer", bound=Message)

LOOK_S: Final = 0.1
SILENT_S: Final = 0.3
ASK_S: Final = 0.5
_STATUS: Final = "/raftalloc.api.v1.Admin/Status"


class Vigil:
    """Makes transports that are watched over. Belongs to one event loop."""

    def __init__(self, connect: Callable[[str], Transport], now: Callable[[], float]) -> None:
        """`connect` makes the transports beneath; `now`: monotonic seconds."""
        self._connect = connect
        self._now = now
        self._router: Router | None = None
        self._beneath: dict[str, Transport] = {}
        self._under_way: dict[str, dict[asyncio.Timeout, float]] = {}
        self._heard_at: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, router: Router) -> None:
        """Whose endpoints are asked, and who is told what they say."""
        self._router = router

    def connect(self, address: str) -> Transport:
        """A transport to this replica."""
        beneath = self._beneath[address] = self._connect(address)
        return _Watched(self, address, beneath)

    def began(self, address: str, scope: asyncio.Timeout) -> None:
        """A call; where `scope` is made to expire, it is given up."""
        self._under_way.setdefault(address, {})[scope] = self._now()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def ended(self, address: str, scope: asyncio.Timeout) -> None:
        """However it ended."""
        del self._under_way[address][scope]
        if not scope.expired():
            self._heard_at[address] = self._now()

    def close(self) -> None:
        """Ask nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._asking.values():
            task.cancel()

    def _look(self) -> None:
        """At the oldest call of each replica."""
        self._timer = None
        now = self._now()
        for address, calls in self._under_way.items():
            began = next(iter(calls.values()), now)
            silent = now - max(began, self._heard_at.get(address, 0.0))
            if silent > SILENT_S and address not in self._asking:
                task = asyncio.create_task(self._ask_others(address), name=f"vigil-{address}")
                self._asking[address] = task
                task.add_done_callback(lambda _, done=address: self._asking.pop(done))  # type: ignore[misc]
        if any(self._under_way.values()):
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    async def _ask_others(self, silent: str) -> None:
        """Who leads, if it is not the one that is silent."""
        assert self._router is not None
        others = [address for address in self._router.endpoints if address != silent]
        asking = [asyncio.create_task(self._leader_by(address)) for address in others]
        try:
            for answered in asyncio.as_completed(asking):
                leader = await answered
                if leader not in ("", silent):
                    self._router.failed(silent)
                    self._router.leader_is(leader)
                    self._give_up(silent)
                    return
        finally:
            for task in asking:
                task.cancel()

    async def _leader_by(self, address: str) -> str:
        """The leader's address as this replica has it; empty where it knows none, or does not say."""
        assert self._router is not None
        if address not in self._beneath:
            self._router.transport(address)
        request = admin_pb2.StatusRequest()
        try:
            status, _ = await self._beneath[address].unary(
                _STATUS, request, admin_pb2.StatusResponse, timeout=ASK_S
            )
        except RaftallocError:
            return ""
        return status.leader_address

    def _give_up(self, address: str) -> None:
        now = asyncio.get_running_loop().time()
        for scope in list(self._under_way.get(address, ())):
            scope.reschedule(now)


class _Watched:
    """A Transport. Streams are not watched: silence is nothing unusual in them."""

    def __init__(self, vigil: Vigil, address: str, beneath: Transport) -> None:
        self._vigil = vigil
        self._address = address
        self._beneath = beneath

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Mapping[str, str | bytes]]:
        """See Transport. Raises OutcomeUnknown where it was given up."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._vigil.began(self._address, scope)
                try:
                    return await self._beneath.unary(
                        method, request, response_type, timeout=timeout, metadata=metadata
                    )
                finally:
                    self._vigil.ended(self._address, scope)
        except TimeoutError as error:
            raise OutcomeUnknown(
                f"{self._address} is silent, and another replica leads by now"
            ) from error

    def stream(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """See Transport."""
        return self._beneath.stream(
            method, request, response_type, timeout=timeout, metadata=metadata
        )

    def duplex(
        self,
        method: str,
        requests: AsyncIterator[Message],
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """See Transport."""
        return self._beneath.duplex(
            method, requests, response_type, timeout=timeout, metadata=metadata
        )

    async def close(self) -> None:
        """See Transport."""
        self._vigil.close()
        await self._beneath.close()
