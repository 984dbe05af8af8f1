"""Quotas: limits on what an agent type, and the groups it belongs to, may hold at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import quotas_pb2
from raftalloc.core import rejections, views
from raftalloc.core.commands import DeleteQuota
from raftalloc.core.rejections import Rejection
from raftalloc.server import checks, convert, render
from raftalloc.server.status import rejected

if TYPE_CHECKING:
    from raftalloc.server.rpc import Call
    from raftalloc.server.servicers.writes import Writer
    from raftalloc.service.engine import Engine


class QuotasServicer:
    """See protos/raftalloc/api/v1/quotas.proto."""

    def __init__(self, *, engine: Engine, writer: Writer) -> None:
        """Reads the state, writes through `writer`."""
        self._engine = engine
        self._writer = writer

    async def SetQuota(
        self, request: quotas_pb2.SetQuotaRequest, call: Call
    ) -> quotas_pb2.SetQuotaResponse:
        """Set the limits of one quota node."""
        command = convert.set_quota(request)
        outcome = await self._writer.done(command, request.idempotency, call)
        quota = views.quota(self._engine.state, command.name)
        return quotas_pb2.SetQuotaResponse(
            quota=render.quota(quota) if quota else None, index=outcome.index
        )

    async def GetQuotaUsage(
        self, request: quotas_pb2.GetQuotaUsageRequest, call: Call
    ) -> quotas_pb2.GetQuotaUsageResponse:
        """Limits and use of one."""
        convert.no_surplus(request)
        name = checks.required_name("agent_type", request.agent_type)
        quota = views.quota(self._engine.state, name)
        if quota is None:
            raise rejected(Rejection(rejections.UNKNOWN_QUOTA, "agent_type", name))
        return quotas_pb2.GetQuotaUsageResponse(quota=render.quota(quota), index=self._engine.index)

    async def ListQuotas(
        self, request: quotas_pb2.ListQuotasRequest, call: Call
    ) -> quotas_pb2.ListQuotasResponse:
        """All that were set; with those seen in requests only, if asked."""
        convert.no_surplus(request)
        found = views.quotas(self._engine.state, with_implicit=request.with_implicit)
        return quotas_pb2.ListQuotasResponse(
            quotas=[render.quota(each) for each in found], index=self._engine.index
        )

    async def DeleteQuota(
        self, request: quotas_pb2.DeleteQuotaRequest, call: Call
    ) -> quotas_pb2.DeleteQuotaResponse:
        """Forget one that nothing is charged to."""
        convert.no_surplus(request)
        command = DeleteQuota(checks.required_name("agent_type", request.agent_type))
        outcome = await self._writer.done(command, request.idempotency, call)
        return quotas_pb2.DeleteQuotaResponse(index=outcome.index)
