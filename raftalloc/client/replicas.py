"""The part of the Admin service about members of the group; see services.py."""

from __future__ import annotations

from raftalloc.api.v1 import admin_pb2
from raftalloc.client.service import Service


class ReplicasCalls(Service):
    """Who is in the group, and changing it."""

    async def list_replicas(
        self,
        request: admin_pb2.ListReplicasRequest | None = None,
        *,
        timeout: float | None = None,
    ) -> admin_pb2.ListReplicasResponse:
        """The members of the group, and how far each is."""
        return await self._caller.read(
            self._method("ListReplicas"),
            request or admin_pb2.ListReplicasRequest(),
            admin_pb2.ListReplicasResponse,
            timeout=timeout,
        )

    async def add_replica(
        self,
        request: admin_pb2.AddReplicaRequest,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.AddReplicaResponse:
        """Take a replica into the group; it learns first. Never repeated by itself: look at `list_replicas`."""
        return await self._caller.aimed(
            endpoint,
            self._method("AddReplica"),
            request,
            admin_pb2.AddReplicaResponse,
            timeout=timeout,
        )

    async def remove_replica(
        self,
        request: admin_pb2.RemoveReplicaRequest,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.RemoveReplicaResponse:
        """Let a replica go. As `add_replica`."""
        return await self._caller.aimed(
            endpoint,
            self._method("RemoveReplica"),
            request,
            admin_pb2.RemoveReplicaResponse,
            timeout=timeout,
        )

    async def replace_replica(
        self,
        request: admin_pb2.ReplaceReplicaRequest,
        *,
        endpoint: str = "",
        timeout: float | None = None,
    ) -> admin_pb2.ReplaceReplicaResponse:
        """Give a replica's seat to the empty data directory it comes back with. As `add_replica`."""
        return await self._caller.aimed(
            endpoint,
            self._method("ReplaceReplica"),
            request,
            admin_pb2.ReplaceReplicaResponse,
            timeout=timeout,
        )
