"""How the queue is served: the service, and what callers of ResourceManager say and see in names and seconds."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import queue_pb2
from raftalloc.client.service import Service
from raftalloc.client.times import Length, length_ms
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from typing import Self

    from raftalloc.client.quantities import Amount

_ORDERS: Final = {
    "fifo": queue_pb2.QueueSettings.ORDER_FIFO,
    "priority": queue_pb2.QueueSettings.ORDER_PRIORITY,
    "fair_share": queue_pb2.QueueSettings.ORDER_FAIR_SHARE,
    "priority_with_fairshare": queue_pb2.QueueSettings.ORDER_PRIORITY_WITH_FAIRSHARE,
}
_ORDER_NAMES: Final = {number: name for name, number in _ORDERS.items()}
WEIGHT_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How requests that wait are served. ageing: seconds for which a request rises by one class; 0: never."""

    order: str
    ageing: float

    @classmethod
    def of(cls, message: queue_pb2.QueueSettings) -> Self:
        """From the message."""
        return cls(order=_ORDER_NAMES.get(message.order, ""), ageing=message.ageing_ms / 1000)


def queue_message(*, order: str, ageing: Length | None) -> queue_pb2.SetQueueRequest:
    """What is to change; the rest stays. Raises InvalidRequest."""
    request = queue_pb2.SetQueueRequest()
    if order:
        if order not in _ORDERS:
            raise InvalidRequest(
                "order", f"{order!r:.40} is not known", f"one of {', '.join(_ORDERS)}"
            )
        request.order = _ORDERS[order]
    if ageing is not None:
        request.ageing_ms = length_ms(ageing, field="ageing")
    return request


def weight_of(weight: Amount) -> int:
    """A weight in thousandths; 0 leaves it as it is. Raises InvalidRequest."""
    remedy = "write a number above 0 with at most three decimals, such as 2 or 0.5"
    try:
        thousandths = Decimal(str(weight)) * 1000
    except ArithmeticError:
        raise InvalidRequest("weight", f"{weight!r:.40} is no number", remedy) from None
    if not thousandths.is_finite() or not 0 <= thousandths <= WEIGHT_MAX * 1000:
        raise InvalidRequest("weight", f"{weight!r:.40} is out of range", remedy)
    if thousandths != int(thousandths):
        raise InvalidRequest("weight", f"{weight!r:.40} is too fine", remedy)
    return int(thousandths)


class QueueService(Service):
    """How requests that wait are served, and who waits."""

    path = "Queue"

    async def set_queue(
        self, request: queue_pb2.SetQueueRequest, *, timeout: float | None = None
    ) -> queue_pb2.SetQueueResponse:
        """Serve the queue otherwise; absent fields stay as they are."""
        return await self._caller.change(
            self._method("SetQueue"), request, queue_pb2.SetQueueResponse, timeout=timeout
        )

    async def get_queue(
        self, *, timeout: float | None = None, stale: bool = False
    ) -> queue_pb2.GetQueueResponse:
        """The settings, and how many wait."""
        return await self._caller.read(
            self._method("GetQueue"),
            queue_pb2.GetQueueRequest(),
            queue_pb2.GetQueueResponse,
            timeout=timeout,
            stale=stale,
        )

    async def list_queue(
        self,
        request: queue_pb2.ListQueueRequest | None = None,
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> queue_pb2.ListQueueResponse:
        """A page of who waits, next first."""
        return await self._read(
            "ListQueue",
            request or queue_pb2.ListQueueRequest(),
            queue_pb2.ListQueueResponse,
            timeout=timeout,
            stale=stale,
        )
