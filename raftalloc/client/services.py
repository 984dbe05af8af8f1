"""The API by service: one class per gRPC service, one method per RPC, named as there; messages in, messages out.

Every method takes `timeout` (seconds over all attempts; the client's own where absent) and raises exceptions of
`raftalloc.errors`. Calls that change something are given an idempotency unless the message brings one. `stale=True`
lets any replica answer from what it has applied, which may be a little behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    fleet_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.client.replicas import ReplicasCalls
from raftalloc.client.service import PAGE_SIZE, Service
from raftalloc.client.streams import allocate_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable


class AllocatorService(Service):
    """Asking for resources, keeping them, giving them back."""

    path = "Allocator"

    async def open_session(
        self,
        request: allocator_pb2.OpenSessionRequest | None = None,
        *,
        timeout: float | None = None,
    ) -> allocator_pb2.OpenSessionResponse:
        """An idempotency session; the client opens its own, this is for other uses."""
        return await self._caller.read(
            self._method("OpenSession"),
            request or allocator_pb2.OpenSessionRequest(),
            allocator_pb2.OpenSessionResponse,
            timeout=timeout,
        )

    async def allocate(
        self, request: allocator_pb2.AllocateRequest, *, timeout: float | None = None
    ) -> allocator_pb2.AllocateResponse:
        """Grant, queue or reject one request; a Rejection is in the answer."""
        return await self._caller.change(
            self._method("Allocate"), request, allocator_pb2.AllocateResponse, timeout=timeout
        )

    async def allocate_batch(
        self, request: allocator_pb2.AllocateBatchRequest, *, timeout: float | None = None
    ) -> allocator_pb2.AllocateBatchResponse:
        """Many requests in one entry of the log, each with its own outcome."""
        return await self._caller.change(
            self._method("AllocateBatch"),
            request,
            allocator_pb2.AllocateBatchResponse,
            timeout=timeout,
        )

    async def renew(
        self, request: allocator_pb2.RenewRequest, *, timeout: float | None = None
    ) -> allocator_pb2.RenewResponse:
        """Extend a lease. Raises Rejected."""
        return await self._caller.change(
            self._method("Renew"), request, allocator_pb2.RenewResponse, timeout=timeout
        )

    async def resize(
        self, request: allocator_pb2.ResizeRequest, *, timeout: float | None = None
    ) -> allocator_pb2.ResizeResponse:
        """Another size, where it is. Raises Rejected."""
        return await self._caller.change(
            self._method("Resize"), request, allocator_pb2.ResizeResponse, timeout=timeout
        )

    async def release(
        self, request: allocator_pb2.ReleaseRequest, *, timeout: float | None = None
    ) -> allocator_pb2.ReleaseResponse:
        """Give an allocation back. Raises Rejected."""
        return await self._caller.change(
            self._method("Release"), request, allocator_pb2.ReleaseResponse, timeout=timeout
        )

    async def cancel(
        self, request: allocator_pb2.CancelRequest, *, timeout: float | None = None
    ) -> allocator_pb2.CancelResponse:
        """Withdraw what still waits of a request. Raises Rejected."""
        return await self._caller.change(
            self._method("Cancel"), request, allocator_pb2.CancelResponse, timeout=timeout
        )

    async def get(
        self,
        request: allocator_pb2.GetRequest,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> allocator_pb2.GetResponse:
        """One allocation or waiting request by id. Raises Rejected (UNKNOWN_ALLOCATION)."""
        return await self._caller.read(
            self._method("Get"), request, allocator_pb2.GetResponse, timeout=timeout, stale=stale
        )

    async def list(
        self,
        request: allocator_pb2.ListRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> allocator_pb2.ListResponse:
        """A page of live allocations and waiting requests, in order of id."""
        return await self._read(
            "List",
            request or allocator_pb2.ListRequest(),
            allocator_pb2.ListResponse,
            timeout=timeout,
            stale=stale,
        )

    async def explain(
        self, request: allocator_pb2.ExplainRequest, *, timeout: float | None = None
    ) -> allocator_pb2.ExplainResponse:
        """Why a request waits, or what would become of one. Changes nothing."""
        return await self._read("Explain", request, allocator_pb2.ExplainResponse, timeout=timeout)

    def allocate_stream(
        self,
        requests: AsyncIterable[allocator_pb2.AllocateRequest],
        *,
        timeout: float | None = None,
    ) -> AsyncGenerator[allocator_pb2.AllocateResponse, None]:
        """Requests as they come, answers in their order; goes on with another replica where one is lost.

        `timeout`: seconds without any answer after which it gives up and raises.
        """
        method = self._method("AllocateStream")
        return allocate_stream(self._caller, method, requests, timeout=timeout)

    async def list_all(
        self, request: allocator_pb2.ListRequest, *, stale: bool = False
    ) -> AsyncGenerator[types_pb2.Allocation, None]:
        """Every page of `list`, from `request.page_after` on. Pages are read one after the other, not at one index."""
        page = allocator_pb2.ListRequest()
        page.CopyFrom(request)
        page.page_size = request.page_size or PAGE_SIZE
        while True:
            answer = await self.list(page, stale=stale)
            for allocation in answer.allocations:
                yield allocation
            if not answer.next_page_after:
                return
            page.page_after = answer.next_page_after
            if page.at_time_ms:  # the other pages are of the same moment
                page.at_index = answer.index
                page.ClearField("at_time_ms")


class UsageService(Service):
    """What is used, of what, by whom."""

    path = "Usage"

    async def utilization(
        self,
        request: usage_pb2.UtilizationRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> usage_pb2.UtilizationResponse:
        """The whole fleet, per kind."""
        return await self._read(
            "Utilization",
            request or usage_pb2.UtilizationRequest(),
            usage_pb2.UtilizationResponse,
            timeout=timeout,
            stale=stale,
        )


class ReservationsService(Service):
    """Capacity held for a window in the future."""

    path = "Reservations"

    async def reserve(
        self, request: reservations_pb2.ReserveRequest, *, timeout: float | None = None
    ) -> reservations_pb2.ReserveResponse:
        """Book one window. Raises Rejected with the numbers of the fullest moment."""
        return await self._caller.change(
            self._method("Reserve"), request, reservations_pb2.ReserveResponse, timeout=timeout
        )

    async def get(
        self,
        request: reservations_pb2.GetReservationRequest,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> reservations_pb2.GetReservationResponse:
        """One reservation. Raises Rejected (UNKNOWN_RESERVATION)."""
        return await self._caller.read(
            self._method("Get"),
            request,
            reservations_pb2.GetReservationResponse,
            timeout=timeout,
            stale=stale,
        )

    async def list(
        self,
        request: reservations_pb2.ListReservationsRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> reservations_pb2.ListReservationsResponse:
        """Booked and open reservations, in order of id."""
        return await self._read(
            "List",
            request or reservations_pb2.ListReservationsRequest(),
            reservations_pb2.ListReservationsResponse,
            timeout=timeout,
            stale=stale,
        )

    async def cancel(
        self, request: reservations_pb2.CancelReservationRequest, *, timeout: float | None = None
    ) -> reservations_pb2.CancelReservationResponse:
        """End a reservation, and what was drawn from it."""
        return await self._caller.change(
            self._method("Cancel"),
            request,
            reservations_pb2.CancelReservationResponse,
            timeout=timeout,
        )


class FleetService(Service):
    """The machines and providers that resources come from."""

    path = "Fleet"

    async def register_node(
        self, request: fleet_pb2.RegisterNodeRequest, *, timeout: float | None = None
    ) -> fleet_pb2.RegisterNodeResponse:
        """Add a node or provider, or bring one up to date."""
        return await self._caller.change(
            self._method("RegisterNode"), request, fleet_pb2.RegisterNodeResponse, timeout=timeout
        )

    async def heartbeat(
        self, request: fleet_pb2.HeartbeatRequest, *, timeout: float | None = None
    ) -> fleet_pb2.HeartbeatResponse:
        """Say that nodes live; the answer names those to register again."""
        return await self._caller.read(
            self._method("Heartbeat"), request, fleet_pb2.HeartbeatResponse, timeout=timeout
        )

    async def cordon(
        self, request: fleet_pb2.CordonRequest, *, timeout: float | None = None
    ) -> fleet_pb2.NodeChangeResponse:
        """No new grants on the node."""
        return await self._caller.change(
            self._method("Cordon"), request, fleet_pb2.NodeChangeResponse, timeout=timeout
        )

    async def uncordon(
        self, request: fleet_pb2.UncordonRequest, *, timeout: float | None = None
    ) -> fleet_pb2.NodeChangeResponse:
        """Grants again."""
        return await self._caller.change(
            self._method("Uncordon"), request, fleet_pb2.NodeChangeResponse, timeout=timeout
        )

    async def drain(
        self, request: fleet_pb2.DrainRequest, *, timeout: float | None = None
    ) -> fleet_pb2.NodeChangeResponse:
        """Cordon, and at the deadline end what is left there."""
        return await self._caller.change(
            self._method("Drain"), request, fleet_pb2.NodeChangeResponse, timeout=timeout
        )

    async def remove_node(
        self, request: fleet_pb2.RemoveNodeRequest, *, timeout: float | None = None
    ) -> fleet_pb2.NodeChangeResponse:
        """Forget a node. Raises Rejected (NODE_IN_USE) unless forced."""
        return await self._caller.change(
            self._method("RemoveNode"), request, fleet_pb2.NodeChangeResponse, timeout=timeout
        )

    async def list_nodes(
        self,
        request: fleet_pb2.ListNodesRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> fleet_pb2.ListNodesResponse:
        """A page of nodes and providers, in order of registration."""
        return await self._read(
            "ListNodes",
            request or fleet_pb2.ListNodesRequest(),
            fleet_pb2.ListNodesResponse,
            timeout=timeout,
            stale=stale,
        )

    async def list_all_nodes(
        self, request: fleet_pb2.ListNodesRequest | None = None, *, stale: bool = False
    ) -> AsyncGenerator[fleet_pb2.Node, None]:
        """Every page of `list_nodes`, from `request.page_after` on."""
        page = fleet_pb2.ListNodesRequest()
        if request is not None:
            page.CopyFrom(request)
        page.page_size = page.page_size or PAGE_SIZE
        while True:
            answer = await self.list_nodes(page, stale=stale)
            for node in answer.nodes:
                yield node
            if not answer.next_page_after:
                return
            page.page_after = answer.next_page_after
            if page.at_time_ms:  # the other pages are of the same moment
                page.at_index = answer.index
                page.ClearField("at_time_ms")


class QuotasService(Service):
    """Limits on what an agent type may hold at once."""

    path = "Quotas"

    async def set_quota(
        self, request: quotas_pb2.SetQuotaRequest, *, timeout: float | None = None
    ) -> quotas_pb2.SetQuotaResponse:
        """Replace the limits of one quota node."""
        return await self._caller.change(
            self._method("SetQuota"), request, quotas_pb2.SetQuotaResponse, timeout=timeout
        )

    async def get_quota_usage(
        self,
        request: quotas_pb2.GetQuotaUsageRequest,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> quotas_pb2.GetQuotaUsageResponse:
        """What is used and allowed. Raises Rejected (UNKNOWN_QUOTA)."""
        return await self._read(
            "GetQuotaUsage",
            request,
            quotas_pb2.GetQuotaUsageResponse,
            timeout=timeout,
            stale=stale,
        )

    async def list_quotas(
        self,
        request: quotas_pb2.ListQuotasRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> quotas_pb2.ListQuotasResponse:
        """Every quota node."""
        return await self._read(
            "ListQuotas",
            request or quotas_pb2.ListQuotasRequest(),
            quotas_pb2.ListQuotasResponse,
            timeout=timeout,
            stale=stale,
        )

    async def delete_quota(
        self, request: quotas_pb2.DeleteQuotaRequest, *, timeout: float | None = None
    ) -> quotas_pb2.DeleteQuotaResponse:
        """Forget a quota node. Raises Rejected (QUOTA_IN_USE)."""
        return await self._caller.change(
            self._method("DeleteQuota"), request, quotas_pb2.DeleteQuotaResponse, timeout=timeout
        )


class AdminService(ReplicasCalls):
    """The replicas themselves: a call goes to one replica, `endpoint` (empty: the leader if known, else any)."""

    path = "Admin"

    async def status(
        self,
        request: admin_pb2.StatusRequest | None = None,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.StatusResponse:
        """How this replica is, whoever leads."""
        return await self._caller.aimed(
            endpoint,
            self._method("Status"),
            request or admin_pb2.StatusRequest(),
            admin_pb2.StatusResponse,
            timeout=timeout,
        )

    async def transfer_leadership(
        self,
        request: admin_pb2.TransferLeadershipRequest | None = None,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.TransferLeadershipResponse:
        """Ask the leader to stand back."""
        return await self._caller.aimed(
            endpoint,
            self._method("TransferLeadership"),
            request or admin_pb2.TransferLeadershipRequest(),
            admin_pb2.TransferLeadershipResponse,
            timeout=timeout,
        )

    async def read_state(
        self, request: admin_pb2.ReadStateRequest, *, timeout: float | None = None
    ) -> admin_pb2.ReadStateResponse:
        """A part of the state at a moment, as bytes. Raises Compacted."""
        return await self._read("ReadState", request, admin_pb2.ReadStateResponse, timeout=timeout)

    async def snapshot(
        self,
        request: admin_pb2.SnapshotRequest | None = None,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.SnapshotResponse:
        """Write a state snapshot on this replica now."""
        return await self._caller.aimed(
            endpoint,
            self._method("Snapshot"),
            request or admin_pb2.SnapshotRequest(),
            admin_pb2.SnapshotResponse,
            timeout=timeout,
        )

    async def raise_rules(
        self, request: admin_pb2.RaiseRulesRequest, *, timeout: float | None = None
    ) -> admin_pb2.RaiseRulesResponse:
        """Have the group decide by newer rules; Rejected until every replica knows them. May be repeated."""
        return await self._caller.read(
            self._method("RaiseRules"), request, admin_pb2.RaiseRulesResponse, timeout=timeout
        )
