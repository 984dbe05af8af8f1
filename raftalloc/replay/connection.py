"""The client of a replayed group: it counts the attempts that met a fault, and reads the log aside.

A replay is made to go on through faults; how many there were is part of what it reports. The log is
followed on a replica that does not lead, where there is one: showing a million grants is work that
would be taken from the deciding of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Self, TypeVar

from google.protobuf.message import Message

from raftalloc.client.calls import Caller, loop_time
from raftalloc.client.routing import Router
from raftalloc.client.services import AllocatorService, EventsService, FleetService
from raftalloc.client.transport import GrpcTransport, Transport
from raftalloc.errors import OutcomeUnknown, Unavailable

Answer = TypeVar("Answer", bound=Message)

ATTEMPT_TIMEOUT_S: Final = 5.0


class Connection:
    """The services that a replay needs, over one router. `async with` closes it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float,
        connect: Callable[[str], Transport] = GrpcTransport,
    ) -> None:
        """`timeout`: seconds for a call over all its attempts. `connect` makes a transport."""
        self.faults = 0
        self._connect = connect
        self._timeout = timeout
        self._router = Router(endpoints, self._counted, loop_time)
        self._routers = [self._router]
        caller = self._caller(self._router)
        self.allocator = AllocatorService(caller)
        self.fleet = FleetService(caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for router in self._routers:
            await router.close()

    def events_aside(self) -> EventsService:
        """The event log, for stale reads of replicas that do not lead now, in turns."""
        aside = [each for each in self._router.endpoints if each != self._router.leader]
        router = Router(aside or self._router.endpoints, self._counted, loop_time)
        self._routers.append(router)
        return EventsService(self._caller(router))

    def _caller(self, router: Router) -> Caller:
        return Caller(router, timeout=self._timeout, attempt_timeout=ATTEMPT_TIMEOUT_S)

    def _counted(self, address: str) -> Transport:
        return _CountedTransport(self._connect(address), self)


class _CountedTransport:
    """A transport whose calls are looked at as they fail."""

    def __init__(self, transport: Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Mapping[str, str | bytes]]:
        """See Transport."""
        try:
            return await self._transport.unary(
                method, request, response_type, timeout=timeout, metadata=metadata
            )
        except (Unavailable, OutcomeUnknown):
            self._connection.faults += 1
            raise

    def stream(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """See Transport; a broken stream shows in the next call."""
        return self._transport.stream(
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
        return self._transport.duplex(
            method, requests, response_type, timeout=timeout, metadata=metadata
        )

    async def close(self) -> None:
        """See Transport."""
        await self._transport.close()
