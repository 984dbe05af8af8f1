"""What ResourceManager answers, in whole units and datetimes.

Figures by kind are reached by attribute (`usage.cpu.used`) or by item, which dotted kinds need
(`usage["api_quota.openai"].used`). A kind that the answer does not speak of reads as nothing used and nothing there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from raftalloc.client.quantities import amount_of, amounts_of
from raftalloc.client.times import moment_of
from raftalloc.core.quantities import is_kind, unit_of

if TYPE_CHECKING:
    from datetime import datetime

    from raftalloc.api.v1 import events_pb2, quotas_pb2, types_pb2, usage_pb2
    from raftalloc.errors import Rejected

Figures = TypeVar("Figures")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: a Rejection of the service. numbers are canonical units or counts, as `code` has them."""

    code: str
    message: str
    field: str = ""
    remedy: str = ""
    numbers: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")

    @classmethod
    def of(cls, message: types_pb2.Rejection) -> Refusal:
        """From the message."""
        return cls(
            message.code,
            message.message or message.code,
            message.field,
            message.remedy,
            dict(message.numbers),
        )

    @classmethod
    def of_error(cls, error: Rejected) -> Refusal:
        """From the exception that carried it."""
        return cls(error.code, error.message, error.field, error.remedy, error.numbers)


class ByKind(Mapping[str, Figures], Generic[Figures]):
    """Figures of some sort for every kind; iterates over those that the answer speaks of."""

    def __init__(self, figures: Mapping[str, Figures]) -> None:
        """`figures`: by kind."""
        self._figures = dict(figures)

    def __getitem__(self, kind: str) -> Figures:
        if kind not in self._figures and not is_kind(kind):
            raise KeyError(kind)
        found = self._figures.get(kind)
        return self._nothing(kind) if found is None else found

    def __getattr__(self, name: str) -> Figures:
        if name.startswith("_") or not is_kind(name):
            raise AttributeError(f"{type(self).__name__} has no {name!r}, nor is it a kind")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def __contains__(self, kind: object) -> bool:
        return kind in self._figures

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._figures!r})"

    def _nothing(self, kind: str) -> Figures:
        """Figures of a kind that the answer does not speak of."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class KindQuota:
    """Of one kind. limit, available: None where nothing limits it; available is below 0 where the limit was lowered."""

    used: int | float
    limit: int | float | None
    available: int | float | None
    unit: str


class QuotaUsage(ByKind[KindQuota]):
    """What an agent type may hold, and holds. share: its weighted dominant share of the fleet, from 0.0."""

    def __init__(self, message: quotas_pb2.QuotaUsage) -> None:
        """From the message."""
        super().__init__({kind.kind: _quota_figures(kind) for kind in message.kinds})
        self.agent_type = message.agent_type
        self.parent = message.parent
        self.allocations_count = message.allocations_count
        self.implicit = message.implicit
        self.weight = message.weight / 1000
        self.share = message.share_millionths / 1_000_000

    def _nothing(self, kind: str) -> KindQuota:
        return KindQuota(used=0, limit=None, available=None, unit=unit_of(kind))


@dataclass(frozen=True, slots=True)
class KindUtilization:
    """Of one kind, over the whole fleet. utilization: used / capacity, 0.0 to 1.0; 0.0 where there is none."""

    capacity: int | float
    used: int | float
    reserved: int | float
    available: int | float
    utilization: float
    unit: str


class UtilizationMetrics(ByKind[KindUtilization]):
    """The fleet at one index of the log."""

    def __init__(self, message: usage_pb2.UtilizationResponse) -> None:
        """From the message."""
        super().__init__({kind.kind: _utilization_figures(kind) for kind in message.kinds})
        self.active_allocations = message.active_allocations
        self.waiting_requests = message.waiting_requests
        self.nodes_ready = message.nodes_ready
        self.nodes_total = message.nodes_total
        self.providers_total = message.providers_total
        self.index = message.index
        self.at = moment_of(message.at_ms)

    def _nothing(self, kind: str) -> KindUtilization:
        return KindUtilization(0, 0, 0, 0, 0.0, unit_of(kind))


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One grant of the past or present. ended_at: None while it is live. waited: seconds in the queue."""

    allocation_id: int
    agent_id: str
    workflow_id: str
    node_id: str
    resources: Mapping[str, int | float]
    granted_at: datetime | None
    ended_at: datetime | None
    end_reason: str
    waited: float
    index: int

    @classmethod
    def of(cls, row: events_pb2.HistoryResponse.Row) -> HistoryRecord:
        """From the message."""
        return cls(
            allocation_id=row.allocation_id,
            agent_id=row.agent_id,
            workflow_id=row.workflow_id,
            node_id=row.node_id,
            resources=amounts_of(row.resources),
            granted_at=moment_of(row.granted_ms),
            ended_at=moment_of(row.ended_ms),
            end_reason=row.end_reason,
            waited=row.waited_ms / 1000,
            index=row.index,
        )


def _quota_figures(kind: quotas_pb2.QuotaUsage.Kind) -> KindQuota:
    """In whole units."""
    name = kind.kind
    return KindQuota(
        used=amount_of(name, kind.used),
        limit=amount_of(name, kind.limit) if kind.limited else None,
        available=amount_of(name, kind.limit - kind.used) if kind.limited else None,
        unit=unit_of(name),
    )


def _utilization_figures(kind: usage_pb2.KindUtilization) -> KindUtilization:
    """In whole units."""
    name = kind.kind
    return KindUtilization(
        capacity=amount_of(name, kind.capacity),
        used=amount_of(name, kind.used),
        reserved=amount_of(name, kind.reserved),
        available=amount_of(name, kind.available),
        utilization=kind.used / kind.capacity if kind.capacity else 0.0,
        unit=unit_of(name),
    )
