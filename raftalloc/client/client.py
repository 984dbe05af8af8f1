"""Client: everything the service can do, from one object.

    async with Client(["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]) as client:
        answer = await client.allocator.allocate(AllocateRequest(agent_id="a", resources={"cpu": 4000}))
        nodes = [node async for node in client.fleet.list_all_nodes()]

It speaks in messages of raftalloc.api.v1 with canonical units; ResourceManager is the face with whole units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.client.calls import Caller, loop_time
from raftalloc.client.events import EventsService
from raftalloc.client.queueing import QueueService
from raftalloc.client.routing import Router, check_endpoint
from raftalloc.client.services import (
    AdminService,
    AllocatorService,
    FleetService,
    QuotasService,
    ReservationsService,
    UsageService,
)
from raftalloc.client.simulation import SimulationService
from raftalloc.client.transport import GrpcTransport, Transport
from raftalloc.client.vigil import Vigil
from raftalloc.errors import InvalidRequest
from raftalloc.security.files import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

TIMEOUT_S: Final = 10.0
ATTEMPT_TIMEOUT_S: Final = 5.0


class Client:
    """A client of one group. Belongs to the event loop of its first call; any number of tasks may share it."""

    def __init__(
        self,
        endpoints: Sequence[str] = (),
        *,
        transport: Transport | None = None,
        tls: TlsFiles | str | None = None,
        timeout: float = TIMEOUT_S,
        attempt_timeout: float = ATTEMPT_TIMEOUT_S,
    ) -> None:
        """Either `endpoints`, host:port of each replica or some, or a `transport` to the only one.

        `timeout`: seconds for a call, over all its attempts, where the call gives none. `attempt_timeout`: seconds
        after which a replica that does not answer is left for the next. `tls`: the CA, and this client's certificate
        and key, or the directory that has them as ca.pem, client.pem and client-key.pem; without, the group must have
        TLS off. Nothing is opened yet.
        """
        if isinstance(endpoints, str) or bool(endpoints) == (transport is not None):
            raise InvalidRequest(
                "endpoints",
                "give a sequence of addresses, or a transport, and not both",
                '["127.0.0.1:7001"]',
            )
        if transport is not None:
            only = transport
            router = Router(["in-process"], lambda _: only, loop_time)
        else:
            addresses = [check_endpoint(endpoint) for endpoint in endpoints]
            files = TlsFiles.of_client(tls) if isinstance(tls, str) else tls
            vigil = Vigil(lambda address: GrpcTransport(address, files), loop_time)
            router = Router(addresses, vigil.connect, loop_time)
            vigil.attach(router)
        caller = Caller(router, timeout=timeout, attempt_timeout=attempt_timeout)
        self._router = router
        self._caller = caller
        self.allocator = AllocatorService(caller)
        self.usage = UsageService(caller)
        self.reservations = ReservationsService(caller)
        self.fleet = FleetService(caller)
        self.quotas = QuotasService(caller)
        self.queue = QueueService(caller)
        self.events = EventsService(caller)
        self.admin = AdminService(caller)
        self.simulation = SimulationService(caller)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that were given; `("in-process",)` over a transport."""
        return self._router.endpoints

    @property
    def leader(self) -> str:
        """The address of the leader as of the last answer, or empty."""
        return self._router.leader

    @property
    def faults(self) -> int:
        """Attempts that met a fault since this was made (no answer, no leader, shed): each was repeated, or raised."""
        return self._caller.faults

    async def close(self) -> None:
        """Close the connections; calls under way end."""
        await self._router.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
