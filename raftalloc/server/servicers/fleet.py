"""Fleet: the machines and the cluster-wide providers that resources come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import fleet_pb2
from raftalloc.core import rejections, views
from raftalloc.core.commands import Cordon, RemoveNode, Uncordon
from raftalloc.core.rejections import Rejection
from raftalloc.server import checks, convert, render
from raftalloc.server.status import rejected

if TYPE_CHECKING:
    from raftalloc.api.v1 import types_pb2
    from raftalloc.core.commands import Command
    from raftalloc.server.rpc import Call
    from raftalloc.server.servicers.writes import Writer
    from raftalloc.service.engine import Engine
    from raftalloc.service.ticker import Ticker


class FleetServicer:
    """See protos/raftalloc/api/v1/fleet.proto."""

    def __init__(
        self, *, engine: Engine, writer: Writer, ticker: Ticker, heartbeat_timeout_ms: int
    ) -> None:
        """Heartbeats go to `ticker`, which lives on the leader only."""
        self._engine = engine
        self._writer = writer
        self._ticker = ticker
        self._heartbeat_timeout_ms = heartbeat_timeout_ms

    async def RegisterNode(
        self, request: fleet_pb2.RegisterNodeRequest, call: Call
    ) -> fleet_pb2.RegisterNodeResponse:
        """Add a node or provider, or bring one up to date."""
        command = convert.register_node(request)
        outcome = await self._writer.done(command, request.idempotency, call)
        node = views.node(self._engine.state, command.node_id)
        return fleet_pb2.RegisterNodeResponse(
            node=render.node(node) if node else None,
            index=outcome.index,
            heartbeat_timeout_ms=self._heartbeat_timeout_ms,
        )

    async def Heartbeat(
        self, request: fleet_pb2.HeartbeatRequest, call: Call
    ) -> fleet_pb2.HeartbeatResponse:
        """Say that nodes live."""
        convert.no_surplus(request)
        unknown = self._ticker.heartbeat(convert.node_ids(request.node_ids))
        return fleet_pb2.HeartbeatResponse(unknown_node_ids=unknown)

    async def Cordon(
        self, request: fleet_pb2.CordonRequest, call: Call
    ) -> fleet_pb2.NodeChangeResponse:
        """No new grants on the node."""
        convert.no_surplus(request)
        command = Cordon(checks.required_name("node_id", request.node_id))
        return await self._changed(command, request.idempotency, call)

    async def Uncordon(
        self, request: fleet_pb2.UncordonRequest, call: Call
    ) -> fleet_pb2.NodeChangeResponse:
        """Grants again."""
        convert.no_surplus(request)
        command = Uncordon(checks.required_name("node_id", request.node_id))
        return await self._changed(command, request.idempotency, call)

    async def Drain(
        self, request: fleet_pb2.DrainRequest, call: Call
    ) -> fleet_pb2.NodeChangeResponse:
        """Cordon, and end what is left at the deadline."""
        return await self._changed(convert.drain(request), request.idempotency, call)

    async def RemoveNode(
        self, request: fleet_pb2.RemoveNodeRequest, call: Call
    ) -> fleet_pb2.NodeChangeResponse:
        """Forget a node."""
        convert.no_surplus(request)
        node_id = checks.required_name("node_id", request.node_id)
        return await self._changed(RemoveNode(node_id, request.force), request.idempotency, call)

    async def ListNodes(
        self, request: fleet_pb2.ListNodesRequest, call: Call
    ) -> fleet_pb2.ListNodesResponse:
        """Nodes and providers by page, or one of them."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        node_id = checks.name("node_id", request.node_id)
        after = checks.name("page_after", request.page_after)
        state, index = self._engine.state, self._engine.index
        if node_id:
            node = views.node(state, node_id)
            if node is None:
                raise rejected(Rejection(rejections.UNKNOWN_NODE, "node_id", node_id))
            return fleet_pb2.ListNodesResponse(nodes=[render.node(node)], index=index)
        found = views.nodes(
            state, after=after, limit=limit + 1, providers_only=request.providers_only
        )
        page = found[:limit]
        return fleet_pb2.ListNodesResponse(
            nodes=[render.node(each) for each in page],
            next_page_after=page[-1].node_id if len(found) > limit else "",
            index=index,
        )

    async def _changed(
        self, command: Command, attempt: types_pb2.Idempotency, call: Call
    ) -> fleet_pb2.NodeChangeResponse:
        outcome = await self._writer.done(command, attempt, call)
        return fleet_pb2.NodeChangeResponse(index=outcome.index)
