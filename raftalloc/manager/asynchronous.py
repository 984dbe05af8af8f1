"""ResourceManager: one object for all that an agent, or its operator, asks of the service.

    async with ResourceManager() as manager:                   # embedded, durable in ./raftalloc-data
        await manager.start_resource_tracking()                # this machine becomes a node
        async with await manager.allocate_resources(ResourceRequest(
            agent_id="policy_analyzer_01", resources={"cpu": 1, "memory": 2})) as allocation:
            ...

A "no" is an answer (`success` False, `reason` with numbers); a malformed request raises InvalidRequest, a fault raises
Unavailable or OutcomeUnknown. What has no method here is reached by `manager.client`, under the names of gRPC.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from raftalloc.agent.node import NodeAgent
from raftalloc.api.v1 import (
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    quotas_pb2,
    simulation_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.client.allocation import Allocation
from raftalloc.client.client import TIMEOUT_S, Client
from raftalloc.client.keepalive import KeepAlive
from raftalloc.client.names import check_name
from raftalloc.client.quantities import Amount, limits_of
from raftalloc.client.queueing import QueueSettings, queue_message, weight_of
from raftalloc.client.requests import Constraint, Priority, ResourceRequest, reserve_message
from raftalloc.client.reservation import Reservation
from raftalloc.client.results import HistoryRecord, QuotaUsage, Refusal, UtilizationMetrics
from raftalloc.client.times import Length, Moment, index_or_ms, length_ms, moment_ms
from raftalloc.client.waiting import Asking
from raftalloc.config import load_config, tls_of_client
from raftalloc.errors import InvalidRequest, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from raftalloc.manager.synchronous import SyncResourceManager
    from raftalloc.security.files import TlsFiles
    from raftalloc.server.embedded import EmbeddedReplica

DATA_DIR: Final = "./raftalloc-data"
HISTORY_MAX: Final = 1000


class ResourceManager:
    """Belongs to the event loop that initialized it; any number of tasks may share it."""

    def __init__(
        self,
        config_path: str | None = None,
        *,
        endpoints: Sequence[str] | None = None,
        data_dir: str | None = None,
        tls: TlsFiles | str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Nothing is opened before `initialize`.

        config_path: a cluster.toml, whose replicas are asked. endpoints: their addresses, host:port. Neither: one
        replica in this process, durable in `data_dir` (default ./raftalloc-data). tls: the certificates to show to a
        group, or the directory that has them; else those of the configuration, of RAFTALLOC_TLS_*, or of the group that
        runs in ./local. timeout: seconds for one call, retries and all.
        """
        if sum(each is not None for each in (config_path, endpoints, data_dir)) > 1:
            raise InvalidRequest(
                "ResourceManager", "has two places to go", "give config_path, endpoints or data_dir"
            )
        self._config_path = config_path
        self._endpoints = endpoints
        self._data_dir = DATA_DIR if data_dir is None else data_dir
        self._tls = tls
        self._timeout = timeout
        self._replica: EmbeddedReplica | None = None
        self._client: Client | None = None
        self._asking: Asking | None = None
        self._keep_alive: KeepAlive | None = None
        self._agent: NodeAgent | None = None
        self._sync: SyncResourceManager | None = None
        self._starting = asyncio.Lock()

    async def initialize(self) -> None:
        """Open the replica of this process, or reach the group. Once; again does nothing.

        Raises ConfigError, DataDirectoryError ("in use by pid N"), or Unavailable where nobody answers.
        """
        async with self._starting:
            if self._client is not None:
                return
            client = await self._connect()
            try:
                await client.usage.utilization()
            except BaseException:
                await self._disconnect(client)
                raise
            self._asking = Asking(client)
            self._keep_alive = KeepAlive(
                lambda request, timeout: client.allocator.renew(request, timeout=timeout)
            )
            self._client = client

    async def close(self) -> None:
        """Stop what runs in the background. What was granted stays granted until released, or its time is over."""
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent.stop()
        keep_alive, self._keep_alive = self._keep_alive, None
        if keep_alive is not None:
            await keep_alive.close()
        client, self._client = self._client, None
        if client is not None:
            await self._disconnect(client)

    @property
    def client(self) -> Client:
        """The API itself: `manager.client.fleet.drain(...)`."""
        if self._client is None:
            raise InvalidRequest(
                "manager", "is not initialized", "await manager.initialize(), or `async with`"
            )
        return self._client

    @property
    def sync(self) -> SyncResourceManager:
        """The same for code without an event loop, on a loop of its own; where no other loop initialized it."""
        from raftalloc.manager.synchronous import SyncResourceManager  # it is made of this class

        if self._sync is None:
            if self._client is not None:
                raise InvalidRequest(
                    "sync", "the manager is in use by an event loop", "make a SyncResourceManager"
                )
            self._sync = SyncResourceManager(self)
        return self._sync

    async def start_resource_tracking(
        self, *, node_id: str = "", attributes: Mapping[str, str] | None = None
    ) -> str:
        """Make this machine a node with the resources it really has, and send heartbeats; answers the node's id.

        node_id: default the host's name. Again does nothing.
        """
        if self._agent is None:
            agent = NodeAgent(self.client, node_id=node_id, attributes=attributes)
            await agent.start()
            self._agent = agent
        return self._agent.node_id

    async def stop_resource_tracking(self) -> None:
        """Send no more heartbeats; the node will be lost after its timeout."""
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent.stop()

    async def allocate_resources(self, request: ResourceRequest) -> Allocation:
        """Ask, and wait in the queue for up to `request.wait`. A lease is kept alive until release.

        Cancelled while it waits, the request is withdrawn, and what was granted meanwhile given back. Raises
        InvalidRequest, Unavailable (not done), OutcomeUnknown (perhaps: ask again under the same idempotency_key).
        """
        message = request.to_message()
        client, keep_alive, asking = self._parts()
        decision = await asking.decide(message)
        allocation = Allocation(
            client,
            keep_alive,
            decision.allocations,
            refusal=decision.refusal,
            waited=decision.waited,
        )
        allocation.keep()
        return allocation

    async def allocations_of(self, agent_id: str, *, keep_alive: bool = True) -> list[Allocation]:
        """What an agent holds, in order of id: a restarted agent takes its grants up again.

        keep_alive: renew their leases from now on; False only looks.
        """
        client, keeper, _ = self._parts()
        request = allocator_pb2.ListRequest(
            agent_id=check_name(agent_id, field="agent_id"), state=types_pb2.Allocation.STATE_LIVE
        )
        held = [
            Allocation(client, keeper, [each]) async for each in client.allocator.list_all(request)
        ]
        if keep_alive:
            for allocation in held:
                allocation.keep()
        return held

    async def set_quota(
        self,
        agent_type: str,
        resources: Mapping[str, Amount],
        *,
        parent: str = "",
        weight: Amount = 0,
    ) -> QuotaUsage:
        """Replace the limits of an agent type; an absent kind is not limited, 0 forbids it. parent: default root.

        weight: of its share in the queue, such as 2 or 0.5; 0 leaves it as it is.
        Raises Rejected (UNKNOWN_QUOTA for an unknown parent, QUOTA_CYCLE).
        """
        request = quotas_pb2.SetQuotaRequest(
            agent_type=check_name(agent_type, field="agent_type"),
            parent=check_name(parent, field="parent", optional=True),
            limits=limits_of(resources),
            weight=weight_of(weight),
        )
        return QuotaUsage((await self.client.quotas.set_quota(request)).quota)

    async def get_quota_usage(
        self, agent_type: str, *, at: int | Moment | None = None
    ) -> QuotaUsage:
        """What an agent type may hold, and holds; at: then, an index of the log or a time.

        Raises Rejected (UNKNOWN_QUOTA) where it was never seen, Compacted for what is no longer kept.
        """
        at_index, at_time_ms = index_or_ms(at, field="at")
        request = quotas_pb2.GetQuotaUsageRequest(
            agent_type=check_name(agent_type, field="agent_type"),
            at_index=at_index,
            at_time_ms=at_time_ms,
        )
        return QuotaUsage((await self.client.quotas.get_quota_usage(request)).quota)

    async def set_queue(self, **settings: Any) -> QueueSettings:
        """Change how the queue is served, for all; what is left out stays (docs/queue.md).

        order: fifo, priority, fair_share, priority_with_fairshare. ageing: a length of time. backfill: greedy, easy,
        conservative; backfill_depth. preemption: none, lower_priority; grace, min_run: lengths of time;
        preemptions_per_hour.
        """
        request = queue_message(**settings)
        return QueueSettings.of((await self.client.queue.set_queue(request)).settings)

    async def get_queue(self) -> QueueSettings:
        """How the queue is served."""
        return QueueSettings.of((await self.client.queue.get_queue()).settings)

    async def reserve_resources(
        self,
        workflow_id: str,
        start_time: Moment,
        duration: Length,
        resources: Mapping[str, Amount],
        priority: Priority = Priority.MEDIUM,
        *,
        agent_id: str = "",
        agent_type: str = "",
        gpu_models: Sequence[str] = (),
        constraints: Sequence[Constraint] = (),
    ) -> Reservation:
        """Book capacity for a window in the future; `ResourceRequest.reservation_id` draws from it while it is open."""
        message = reserve_message(
            workflow_id=workflow_id,
            start_time=start_time,
            duration=duration,
            resources=resources,
            priority=priority,
            agent_id=agent_id,
            agent_type=agent_type,
            gpu_models=gpu_models,
            constraints=constraints,
        )
        try:
            answer = await self.client.reservations.reserve(message)
        except Rejected as error:
            return Reservation(self.client, None, Refusal.of_error(error))
        return Reservation(self.client, answer.reservation)

    async def get_utilization_metrics(
        self, *, at: int | Moment | None = None
    ) -> UtilizationMetrics:
        """The whole fleet, per kind; at: as it was then, an index of the log or a time. Raises Compacted."""
        at_index, at_time_ms = index_or_ms(at, field="at")
        request = usage_pb2.UtilizationRequest(at_index=at_index, at_time_ms=at_time_ms)
        return UtilizationMetrics(await self.client.usage.utilization(request))

    async def what_if(
        self,
        *steps: ResourceRequest | simulation_pb2.WhatIfStep,
        at: int | Moment | None = None,
    ) -> simulation_pb2.WhatIfResponse:
        """What would come of these steps, on a copy of the state as it is, or was `at` an index or time.

        A ResourceRequest is asked; every other step is a WhatIfStep: `WhatIfStep(lose_node="n1")`,
        `WhatIfStep(advance_ms=3_600_000)`. Changes nothing. Raises InvalidRequest, Compacted.
        """
        at_index, at_time_ms = index_or_ms(at, field="at")
        request = simulation_pb2.WhatIfRequest(at_index=at_index, at_time_ms=at_time_ms)
        for step in steps:
            if isinstance(step, ResourceRequest):
                request.steps.add(allocate=step.to_message())
            else:
                request.steps.append(step)
        return await self.client.simulation.what_if(request)

    async def get_allocation_history(
        self,
        time_range: Length | tuple[Moment, Moment] = "24h",
        *,
        agent_id: str = "",
        workflow_id: str = "",
        limit: int = HISTORY_MAX,
    ) -> list[HistoryRecord]:
        """Allocations of an agent or workflow, newest first, at most `limit`.

        time_range: a length of time until now ("24h", 3600, a timedelta), or (from, to).
        """
        if not (agent_id or workflow_id):
            raise InvalidRequest("agent_id", "is missing", "name an agent_id or a workflow_id")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InvalidRequest("limit", "is no whole number above 0", f"e.g. {HISTORY_MAX}")
        from_ms, to_ms = await self._range_ms(time_range)
        request = events_pb2.HistoryRequest(
            agent_id=check_name(agent_id, field="agent_id", optional=True),
            workflow_id=check_name(workflow_id, field="workflow_id", optional=True),
            from_ms=from_ms,
            to_ms=to_ms,
            page_size=min(limit, HISTORY_MAX),
        )
        records: list[HistoryRecord] = []
        async for row in self.client.events.history_all(request):
            if len(records) >= limit:
                break
            records.append(HistoryRecord.of(row))
        return records

    async def register_node(
        self,
        node_id: str,
        resources: Mapping[str, Amount],
        *,
        provider: bool = False,
        devices: Sequence[str] = (),
        attributes: Mapping[str, str] | None = None,
        static: bool = True,
    ) -> None:
        """Add a node, or a cluster-wide provider of api_quota, db_connections or query_capacity, or change what it has.

        devices: a model name per GPU. static: it never sends heartbeats. Raises Rejected (WRONG_SCOPE).
        """
        request = fleet_pb2.RegisterNodeRequest(
            node_id=check_name(node_id, field="node_id"),
            provider=provider,
            capacity=limits_of(resources),
            devices=[check_name(model, field="devices") for model in devices],
            attributes=dict(attributes or {}),
            static=static,
        )
        await self.client.fleet.register_node(request)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _connect(self) -> Client:
        """A client of the group, or of the replica that is opened here."""
        if self._config_path is not None:
            config = load_config(self._config_path)
            tls = self._tls or config.tls_files("client")
            return Client(config.endpoints(), tls=tls, timeout=self._timeout)
        if self._endpoints is not None:
            tls = self._tls or tls_of_client(self._endpoints)
            return Client(self._endpoints, tls=tls, timeout=self._timeout)
        # Only now: who asks a group needs neither the store nor Raft in this process.
        from raftalloc.server.embedded import open_embedded

        self._replica = await open_embedded(self._data_dir)
        return Client(transport=self._replica.transport, timeout=self._timeout)

    async def _disconnect(self, client: Client) -> None:
        """Close the client, then the replica."""
        replica, self._replica = self._replica, None
        try:
            await client.close()
        finally:
            if replica is not None:
                await replica.close()

    def _parts(self) -> tuple[Client, KeepAlive, Asking]:
        """What `initialize` made."""
        client = self.client
        assert self._keep_alive is not None
        assert self._asking is not None
        return client, self._keep_alive, self._asking

    async def _range_ms(self, time_range: Length | tuple[Moment, Moment]) -> tuple[int, int]:
        """From and to, in the group's clock; a `to` of 0 is now."""
        if isinstance(time_range, tuple):
            if len(time_range) != 2:
                raise InvalidRequest("time_range", "is no pair", 'write "24h" or (from, to)')
            return (
                moment_ms(time_range[0], field="time_range[0]"),
                moment_ms(time_range[1], field="time_range[1]"),
            )
        length = length_ms(time_range, field="time_range")
        now_ms = (await self.client.usage.utilization(usage_pb2.UtilizationRequest())).at_ms
        return max(0, now_ms - length), 0
