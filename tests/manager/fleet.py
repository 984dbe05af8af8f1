"""The fixture fleet of the manager's tests, and what they ask of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from raftalloc import ResourceManager, ResourceRequest
from raftalloc.api.v1 import allocator_pb2, types_pb2

# A date ahead of any clock that runs this.
START = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)  # noqa: TID251


async def furnish(manager: ResourceManager) -> None:
    """A node with GPUs, and a provider of api_quota."""
    await manager.register_node(
        "gpu-1", {"cpu": 64, "memory": 256, "disk": 1000}, devices=["A100"] * 4
    )
    await manager.register_node("gateway", {"api_quota": 100_000}, provider=True)


def asks(agent_id: str, **more: object) -> ResourceRequest:
    """A request for one GPU."""
    return ResourceRequest(agent_id=agent_id, resources={"gpu": 1}, **more)  # type: ignore[arg-type]  # fields by name


async def until_waiting(manager: ResourceManager, agent_id: str) -> types_pb2.Allocation:
    """Until the group says that the agent's request waits."""
    wanted = allocator_pb2.ListRequest(agent_id=agent_id, state=types_pb2.Allocation.STATE_WAITING)
    for _ in range(200):
        found = (await manager.client.allocator.list(wanted)).allocations
        if found:
            return found[0]
        await asyncio.sleep(0.02)
    raise AssertionError(f"{agent_id} does not wait")


async def waiting(manager: ResourceManager, agent_id: str) -> list[types_pb2.Allocation]:
    request = allocator_pb2.ListRequest(agent_id=agent_id)
    return list((await manager.client.allocator.list(request)).allocations)
