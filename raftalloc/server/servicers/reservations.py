"""Reservations: capacity held for a window in the future."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import reservations_pb2
from raftalloc.core import rejections, views
from raftalloc.core.commands import CancelReservation
from raftalloc.core.rejections import Rejection
from raftalloc.server import checks, convert, render
from raftalloc.server.status import rejected

if TYPE_CHECKING:
    from raftalloc.server.rpc import Call
    from raftalloc.server.servicers.writes import Writer
    from raftalloc.service.engine import Engine


class ReservationsServicer:
    """See protos/raftalloc/api/v1/reservations.proto."""

    def __init__(self, *, engine: Engine, writer: Writer) -> None:
        """Reads the state, writes through `writer`."""
        self._engine = engine
        self._writer = writer

    async def Reserve(
        self, request: reservations_pb2.ReserveRequest, call: Call
    ) -> reservations_pb2.ReserveResponse:
        """Book one window."""
        outcome = await self._writer.done(convert.reserve(request), request.idempotency, call)
        found = views.reservation(self._engine.state, outcome.subject)
        if found is not None:
            return reservations_pb2.ReserveResponse(reservation=render.reservation(found))
        # A retry, and it has ended since.
        ended = reservations_pb2.Reservation(
            id=outcome.subject,
            state=reservations_pb2.Reservation.STATE_ENDED,
            workflow_id=request.workflow_id,
            agent_id=request.agent_id,
            resources=request.resources,
            start_ms=request.start_ms,
            end_ms=request.start_ms + request.duration_ms,
            index=outcome.index,
        )
        return reservations_pb2.ReserveResponse(reservation=ended)

    async def Get(
        self, request: reservations_pb2.GetReservationRequest, call: Call
    ) -> reservations_pb2.GetReservationResponse:
        """One that is booked or open."""
        convert.no_surplus(request)
        number = checks.required_identifier("id", request.id)
        found = views.reservation(self._engine.state, number)
        if found is None:
            raise rejected(Rejection(rejections.UNKNOWN_RESERVATION, "id", str(number)))
        return reservations_pb2.GetReservationResponse(reservation=render.reservation(found))

    async def List(
        self, request: reservations_pb2.ListReservationsRequest, call: Call
    ) -> reservations_pb2.ListReservationsResponse:
        """All that are booked or open."""
        convert.no_surplus(request)
        workflow_id = checks.name("workflow_id", request.workflow_id)
        found = views.reservations(self._engine.state, workflow_id=workflow_id)
        return reservations_pb2.ListReservationsResponse(
            reservations=[render.reservation(each) for each in found], index=self._engine.index
        )

    async def Cancel(
        self, request: reservations_pb2.CancelReservationRequest, call: Call
    ) -> reservations_pb2.CancelReservationResponse:
        """End one, and what was drawn from it."""
        convert.no_surplus(request)
        command = CancelReservation(checks.required_identifier("id", request.id))
        outcome = await self._writer.done(command, request.idempotency, call)
        return reservations_pb2.CancelReservationResponse(index=outcome.index)
