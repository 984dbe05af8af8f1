"""Allocator: asking for resources, keeping them, giving them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.core import records, rejections, views
from raftalloc.core.commands import Asked, OpenSession
from raftalloc.core.rejections import Rejection
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert, explaining, render
from raftalloc.server.outcomes import allocate_response
from raftalloc.server.servicers.writes import Writer
from raftalloc.server.status import INDEX, rejected

if TYPE_CHECKING:
    from raftalloc.server.past import PastReads
    from raftalloc.server.rpc import Call
    from raftalloc.service.engine import Engine
    from raftalloc.service.query import Queries

EVENTS_MAX: Final = 1 << 30
_STATES: Final = (
    types_pb2.Allocation.STATE_UNSPECIFIED,
    types_pb2.Allocation.STATE_LIVE,
    types_pb2.Allocation.STATE_WAITING,
)


class AllocatorServicer:
    """See protos/raftalloc/api/v1/allocator.proto."""

    def __init__(
        self,
        *,
        engine: Engine,
        writer: Writer,
        queries: Queries,
        default_policy: int,
        past: PastReads | None = None,
    ) -> None:
        """`default_policy`: of core.commands, for requests that name none. Without `past` no decision is explained."""
        self._engine = engine
        self._writer = writer
        self._queries = queries
        self._default_policy = default_policy
        self._past = past

    async def OpenSession(
        self, request: allocator_pb2.OpenSessionRequest, call: Call
    ) -> allocator_pb2.OpenSessionResponse:
        """Open an idempotency session."""
        convert.no_surplus(request)
        origin = convert.keyed_origin(call.principal, "key", request.key)
        answer = await self._writer.submit([Asked(OpenSession(), origin)], call)
        outcome = self._writer.unless_rejected(answer.outcomes[0])
        return allocator_pb2.OpenSessionResponse(session=outcome.subject, index=outcome.index)

    async def Allocate(
        self, request: allocator_pb2.AllocateRequest, call: Call
    ) -> allocator_pb2.AllocateResponse:
        """Grant, queue or reject one request."""
        asked = convert.allocate_asked(request, call.principal, self._default_policy)
        answer = await self._writer.submit([asked], call)
        return allocate_response(self._engine.state, asked, answer, 0)

    async def AllocateBatch(
        self, request: allocator_pb2.AllocateBatchRequest, call: Call
    ) -> allocator_pb2.AllocateBatchResponse:
        """Many requests in one entry of the log."""
        convert.no_surplus(request)
        asked = convert.batch_asked(request.requests, call.principal, self._default_policy)
        answer = await self._writer.submit(asked, call)
        state = self._engine.state
        responses = [allocate_response(state, each, answer, row) for row, each in enumerate(asked)]
        return allocator_pb2.AllocateBatchResponse(responses=responses, index=answer.index)

    async def AllocateStream(self, request: object, call: Call) -> None:
        """Never called: each message of the stream is an Allocate of its own (server/backend.py)."""
        raise AssertionError("a stream of requests is taken apart before it gets here")

    async def Renew(
        self, request: allocator_pb2.RenewRequest, call: Call
    ) -> allocator_pb2.RenewResponse:
        """Extend a lease."""
        asked = self._writer.asked(convert.renew(request), request.idempotency, call)
        answer = await self._writer.submit([asked], call)
        outcome = self._writer.unless_rejected(answer.outcomes[0])
        if answer.granted[0]:
            allocation = render.allocation(answer.granted[0][0])
        else:  # a retry, and it has ended since
            allocation = await self._found(request.allocation_id)
        return allocator_pb2.RenewResponse(allocation=allocation, index=outcome.index)

    async def Resize(
        self, request: allocator_pb2.ResizeRequest, call: Call
    ) -> allocator_pb2.ResizeResponse:
        """Another size for a live allocation."""
        asked = self._writer.asked(convert.resize(request), request.idempotency, call)
        answer = await self._writer.submit([asked], call)
        outcome = self._writer.unless_rejected(answer.outcomes[0])
        if answer.granted[0]:
            allocation = render.allocation(answer.granted[0][0])
        else:  # a retry, and it has ended since
            allocation = await self._found(request.allocation_id)
        return allocator_pb2.ResizeResponse(allocation=allocation, index=outcome.index)

    async def Release(
        self, request: allocator_pb2.ReleaseRequest, call: Call
    ) -> allocator_pb2.ReleaseResponse:
        """Give an allocation back."""
        outcome = await self._writer.done(convert.release(request), request.idempotency, call)
        return allocator_pb2.ReleaseResponse(index=outcome.index)

    async def Cancel(
        self, request: allocator_pb2.CancelRequest, call: Call
    ) -> allocator_pb2.CancelResponse:
        """Withdraw what still waits."""
        outcome = await self._writer.done(convert.cancel(request), request.idempotency, call)
        return allocator_pb2.CancelResponse(index=outcome.index, cancelled_count=outcome.count)

    async def Get(self, request: allocator_pb2.GetRequest, call: Call) -> allocator_pb2.GetResponse:
        """One allocation or waiting request, ended ones included."""
        convert.no_surplus(request)
        number = checks.required_identifier("id", request.id)
        call.trailing[INDEX] = str(self._engine.index)
        return allocator_pb2.GetResponse(allocation=await self._found(number))

    async def List(
        self, request: allocator_pb2.ListRequest, call: Call
    ) -> allocator_pb2.ListResponse:
        """Live and waiting, in order of id, by page."""
        convert.no_surplus(request)
        limit = checks.page_size(request.page_size)
        if request.state not in _STATES:
            problem = f"{request.state} is not LIVE or WAITING"
            raise InvalidRequest("state", problem, "ask Events.History for what has ended")
        rows = self._rows(request, limit + 1)
        page = rows[:limit]
        # A request of which some members started has the id of its first: both rows go on one page.
        while len(page) < len(rows) and rows[len(page)].id == page[-1].id:
            page.append(rows[len(page)])
        return allocator_pb2.ListResponse(
            allocations=page,
            next_page_after=page[-1].id if len(rows) > len(page) else 0,
            index=self._engine.index,
        )

    async def Explain(
        self, request: allocator_pb2.ExplainRequest, call: Call
    ) -> allocator_pb2.ExplainResponse:
        """Why a request waits, was granted or refused, or what would become of one."""
        convert.no_surplus(request)
        given = [request.HasField("request"), bool(request.request_id), bool(request.event_index)]
        if sum(given) != 1:
            problem = "is given beside another" if sum(given) else "is missing"
            raise InvalidRequest("request_id", problem, "give request_id, request or event_index")
        state, index = self._engine.state, self._engine.index
        if given[0]:
            command = convert.allocate(request.request, self._default_policy)
            return explaining.of_request(state, command, call.principal, index)
        if given[1]:
            number = checks.identifier("request_id", request.request_id)
            return explaining.of_waiting(state, number, index) or await self._decision_of(number)
        event_index = checks.identifier("event_index", request.event_index)
        sequence = checks.whole("event_sequence", request.event_sequence, 0, EVENTS_MAX)
        return await self._decision(event_index, sequence)

    async def _decision_of(self, number: int) -> allocator_pb2.ExplainResponse:
        """What decided about a request that does not wait. Raises Rejected NOT_WAITING where nothing is known of it."""
        found = await self._queries.decision_of(number)
        if found is None:
            raise rejected(Rejection(rejections.NOT_WAITING, "request_id", str(number)))
        return await self._decision(*found)

    async def _decision(self, index: int, sequence: int) -> allocator_pb2.ExplainResponse:
        block = await self._queries.block_at(index)
        if block is None or self._past is None:
            problem = f"there is no entry at {index}"
            raise InvalidRequest("event_index", problem, "Events.Read has those there are")
        return await self._past.decision(index, block, sequence)

    def _rows(self, request: allocator_pb2.ListRequest, limit: int) -> list[types_pb2.Allocation]:
        """Up to `limit` rows of each sort behind page_after, by id."""
        state = self._engine.state
        after = checks.identifier("page_after", request.page_after)
        request_id = checks.identifier("request_id", request.request_id)
        agent_id = checks.name("agent_id", request.agent_id)
        agent_type = checks.name("agent_type", request.agent_type)
        workflow_id = checks.name("workflow_id", request.workflow_id)
        node_id = checks.name("node_id", request.node_id)
        rows: list[types_pb2.Allocation] = []
        if request.state != types_pb2.Allocation.STATE_WAITING:
            live = views.allocations(
                state,
                agent_id=agent_id,
                agent_type=agent_type,
                workflow_id=workflow_id,
                node_id=node_id,
                request_id=request_id,
                after=after,
                limit=limit,
            )
            rows += [render.allocation(each) for each in live]
        if request.state != types_pb2.Allocation.STATE_LIVE and not node_id:
            waiting = views.waiting_requests(
                state,
                agent_id=agent_id,
                agent_type=agent_type,
                workflow_id=workflow_id,
                request_id=request_id,
                after=after,
                limit=limit,
            )
            rows += [render.waiting(each) for each in waiting]
        return sorted(rows, key=lambda row: row.id)

    async def _found(self, number: int) -> types_pb2.Allocation:
        """Live, waiting or ended. Raises Rejected UNKNOWN_ALLOCATION."""
        found = await self._queries.find(number)
        if found is None:
            raise rejected(Rejection(rejections.UNKNOWN_ALLOCATION, "id", str(number)))
        if isinstance(found, records.Allocation):
            return render.allocation(found)
        if isinstance(found, records.Waiting):
            return render.waiting(found)
        return render.past(number, found)
