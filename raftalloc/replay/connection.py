"""The client of a replayed group: it counts the attempts that met a fault, and reads the log aside.

A replay is made to go on through faults; how many there were is part of what it reports. The log is
followed on a replica that does not lead, where there is one: showing a million grants is work that
would be taken from the deciding of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Self

from raftalloc.client.calls import Caller, loop_time
from raftalloc.client.events import EventsService
from raftalloc.client.routing import Router
from raftalloc.client.services import AllocatorService, FleetService
from raftalloc.client.transport import GrpcTransport, Transport
from raftalloc.security.files import TlsFiles

ATTEMPT_TIMEOUT_S: Final = 5.0


class Connection:
    """The services that a replay needs, over one router. `async with` closes it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float,
        tls: TlsFiles | None = None,
        connect: Callable[[str], Transport] | None = None,
    ) -> None:
        """`timeout`: seconds for a call over all its attempts. `tls`: see Client. `connect` makes a transport."""
        self._connect = connect or (lambda address: GrpcTransport(address, tls))
        self._callers: list[Caller] = []
        self._timeout = timeout
        self._router = Router(endpoints, self._connect, loop_time)
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
        router = Router(aside or self._router.endpoints, self._connect, loop_time)
        self._routers.append(router)
        return EventsService(self._caller(router))

    @property
    def faults(self) -> int:
        """Attempts that met a fault so far."""
        return sum(caller.faults for caller in self._callers)

    def _caller(self, router: Router) -> Caller:
        caller = Caller(router, timeout=self._timeout, attempt_timeout=ATTEMPT_TIMEOUT_S)
        self._callers.append(caller)
        return caller
