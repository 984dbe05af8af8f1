"""How the queue is served: the service, and what callers of ResourceManager say and see in names and seconds."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from raftalloc.api.v1 import queue_pb2
from raftalloc.client.service import Service
from raftalloc.client.times import Length, length_ms
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from raftalloc.client.quantities import Amount

_ORDERS: Final = {
    "fifo": queue_pb2.QueueSettings.ORDER_FIFO,
    "priority": queue_pb2.QueueSettings.ORDER_PRIORITY,
    "fair_share": queue_pb2.QueueSettings.ORDER_FAIR_SHARE,
    "priority_with_fairshare": queue_pb2.QueueSettings.ORDER_PRIORITY_WITH_FAIRSHARE,
}
_BACKFILLS: Final = {
    "greedy": queue_pb2.QueueSettings.BACKFILL_GREEDY,
    "easy": queue_pb2.QueueSettings.BACKFILL_EASY,
    "conservative": queue_pb2.QueueSettings.BACKFILL_CONSERVATIVE,
}
_PREEMPTIONS: Final = {
    "none": queue_pb2.QueueSettings.PREEMPTION_NONE,
    "lower_priority": queue_pb2.QueueSettings.PREEMPTION_LOWER_PRIORITY,
}
WEIGHT_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How requests that wait are served (docs/queue.md). Lengths of time in seconds; ageing 0: never."""

    order: str
    ageing: float
    backfill: str
    backfill_depth: int
    preemption: str
    grace: float
    min_run: float
    preemptions_per_hour: int

    @classmethod
    def of(cls, message: queue_pb2.QueueSettings) -> Self:
        """From the message."""
        return cls(
            order=_named(_ORDERS, message.order),
            ageing=message.ageing_ms / 1000,
            backfill=_named(_BACKFILLS, message.backfill),
            backfill_depth=message.backfill_depth,
            preemption=_named(_PREEMPTIONS, message.preemption),
            grace=message.grace_ms / 1000,
            min_run=message.min_run_ms / 1000,
            preemptions_per_hour=message.preemptions_per_hour,
        )


def queue_message(
    *,
    order: str = "",
    ageing: Length | None = None,
    backfill: str = "",
    backfill_depth: int | None = None,
    preemption: str = "",
    grace: Length | None = None,
    min_run: Length | None = None,
    preemptions_per_hour: int | None = None,
) -> queue_pb2.SetQueueRequest:
    """What is to change; the rest stays. Raises InvalidRequest."""
    request = queue_pb2.SetQueueRequest(
        order=_number("order", order, _ORDERS),
        backfill=_number("backfill", backfill, _BACKFILLS),
        preemption=_number("preemption", preemption, _PREEMPTIONS),
        backfill_depth=backfill_depth,
        preemptions_per_hour=preemptions_per_hour,
    )
    if ageing is not None:
        request.ageing_ms = length_ms(ageing, field="ageing")
    if grace is not None:
        request.grace_ms = length_ms(grace, field="grace")
    if min_run is not None:
        request.min_run_ms = length_ms(min_run, field="min_run")
    return request


def _number(field: str, name: str, numbers: Mapping[str, Any]) -> Any:
    """The enum's value of a name; None where nothing is named."""
    if not name:
        return None
    if name not in numbers:
        raise InvalidRequest(field, f"{name!r:.40} is not known", f"one of {', '.join(numbers)}")
    return numbers[name]


def _named(numbers: Mapping[str, int], value: int) -> str:
    return next((name for name, number in numbers.items() if number == value), "")


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
