"""Whom the demonstration's agents ask: 1,000 nodes of four sorts, four providers, quotas for the five agent types.

Nodes are plentiful, since a fleet is; providers, large GPUs and quotas are scarce: requests wait, or are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import fleet_pb2, quotas_pb2
from raftalloc.core.quantities import scale_of

if TYPE_CHECKING:
    from collections.abc import Mapping

NODES: Final = 1000
ZONES: Final = ("north", "south", "east", "west")


@dataclass(frozen=True, slots=True)
class Sort:
    """Nodes of one make. share: how many of every 20 nodes."""

    name: str
    share: int
    capacity: Mapping[str, int]
    devices: tuple[str, ...] = ()


SORTS: Final = (
    Sort("standard", 13, {"cpu": 16, "memory": 64, "disk": 500, "network": 10_000, "cache": 4096}),
    Sort("memory", 4, {"cpu": 16, "memory": 256, "disk": 500, "network": 10_000, "cache": 32_768}),
    Sort("storage", 2, {"cpu": 8, "memory": 32, "disk": 8000, "network": 25_000, "cache": 2048}),
    Sort("gpu", 1, {"cpu": 32, "memory": 256, "disk": 1000, "network": 25_000}, ("T4",) * 4),
)
LARGE_GPU_EVERY: Final = 10
"""Of the GPU nodes every tenth has two A100 in place of the four T4."""
PROVIDERS: Final[Mapping[str, Mapping[str, int]]] = {
    "llm-gateway": {"api_quota": 20_000},
    "regulation-feed": {"api_quota.regulations": 3000},
    "postgres-main": {"db_connections": 150},
    "evidence-search": {"query_capacity": 4000},
}
QUOTAS: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {
    "compliance": ("root", {"api_quota": 18_000, "db_connections": 140}),
    "policy_analyzer": ("compliance", {"cpu": 200, "api_quota": 12_000}),
    "gap_assessment": ("compliance", {"db_connections": 80}),
    "risk_analyzer": ("compliance", {"gpu": 40}),
    "auditor": ("compliance", {}),
    "data_processor": ("compliance", {"cpu": 400, "memory": 2000}),
}


def canonical(amounts: Mapping[str, int]) -> dict[str, int]:
    """Whole units -> canonical units."""
    return {kind: amount * scale_of(kind) for kind, amount in amounts.items()}


def registrations(count: int = NODES) -> list[fleet_pb2.RegisterNodeRequest]:
    """Providers first, then `count` nodes, all static: nobody sends heartbeats for them."""
    makes = [sort for sort in SORTS for _ in range(sort.share)]
    providers = [
        fleet_pb2.RegisterNodeRequest(
            node_id=name, provider=True, capacity=canonical(capacity), static=True
        )
        for name, capacity in PROVIDERS.items()
    ]
    # A stride that shares no factor with the makes mixes them, so that any `count` has all sorts.
    return providers + [_node(row, makes[row * 7 % len(makes)]) for row in range(count)]


def _node(row: int, sort: Sort) -> fleet_pb2.RegisterNodeRequest:
    large = bool(sort.devices) and row // sum(make.share for make in SORTS) % LARGE_GPU_EVERY == 0
    attributes = {
        "sort": sort.name,
        "zone": ZONES[row % len(ZONES)],
        "generation": str(3 + row % 5),
    }
    return fleet_pb2.RegisterNodeRequest(
        node_id=f"node-{row:04d}",
        capacity=canonical(sort.capacity),
        devices=("A100", "A100") if large else sort.devices,
        attributes=attributes,
        static=True,
    )


def quotas() -> list[quotas_pb2.SetQuotaRequest]:
    """Parents before their children."""
    return [
        quotas_pb2.SetQuotaRequest(agent_type=name, parent=parent, limits=canonical(limits))
        for name, (parent, limits) in QUOTAS.items()
    ]
