"""What ResourceManager gives to a caller that booked a window: a Reservation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import reservations_pb2
from raftalloc.client.quantities import amounts_of
from raftalloc.client.requests import Priority
from raftalloc.client.times import moment_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from raftalloc.client.client import Client
    from raftalloc.client.results import Refusal


class Reservation:
    """The answer to a booking: `success`, and the window; or `reason`, with numbers, and `refusal`."""

    def __init__(
        self,
        client: Client,
        message: reservations_pb2.Reservation | None,
        refusal: Refusal | None = None,
    ) -> None:
        """Made by ResourceManager."""
        self._client = client
        self._message = message or reservations_pb2.Reservation()
        self.success = message is not None
        self.refusal = refusal
        self.reason = "" if refusal is None else str(refusal)

    @property
    def id(self) -> int:
        """What ResourceRequest.reservation_id takes; 0 where nothing was booked."""
        return self._message.id

    @property
    def state(self) -> str:
        """BOOKED, OPEN, ENDED or BROKEN, as of the answer; empty where nothing was booked."""
        name = reservations_pb2.Reservation.State.Name(self._message.state)
        return name.removeprefix("STATE_") if self.success else ""

    @property
    def workflow_id(self) -> str:
        """What it is for."""
        return self._message.workflow_id

    @property
    def priority(self) -> Priority:
        """As asked."""
        return Priority(self._message.priority or Priority.MEDIUM)

    @property
    def resources(self) -> dict[str, int | float]:
        """Whole units by kind."""
        return amounts_of(self._message.resources)

    @property
    def node_id(self) -> str:
        """The node of the window; empty where only providers serve it."""
        return self._message.node_id

    @property
    def suppliers(self) -> Mapping[str, str]:
        """By kind the node or provider that will give it."""
        return dict(self._message.suppliers)

    @property
    def start_time(self) -> datetime | None:
        """When the window opens."""
        return moment_of(self._message.start_ms)

    @property
    def end_time(self) -> datetime | None:
        """When it closes, and what was drawn from it ends."""
        return moment_of(self._message.end_ms)

    def __repr__(self) -> str:
        if not self.success:
            return f"Reservation(success=False, reason={self.reason!r})"
        return f"Reservation(id={self.id}, {self.start_time} .. {self.end_time}, {self.resources})"

    async def cancel(self) -> None:
        """End it, and what was drawn from it. Nothing to do where nothing was booked. Raises Rejected."""
        if self.success:
            request = reservations_pb2.CancelReservationRequest(id=self.id)
            await self._client.reservations.cancel(request)
