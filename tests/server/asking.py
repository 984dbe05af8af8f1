"""Calls of the API in tests, by their short names."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from raftalloc.api.v1 import allocator_pb2, fleet_pb2
from raftalloc.errors import Rejected
from raftalloc.server.embedded import open_embedded
from raftalloc.server.rpc import SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from google.protobuf.message import Message

    from raftalloc.client.transport import Transport
    from raftalloc.server.embedded import LocalTransport

PACKAGE = "raftalloc.api.v1"


def answer_type(name: str) -> Any:
    """`Allocator/Allocate` -> AllocateResponse."""
    service, _, method = name.partition("/")
    descriptor = SERVICES[f"{PACKAGE}.{service}"].methods_by_name[method]
    return GetMessageClass(descriptor.output_type)


async def ask(transport: Transport, name: str, request: Any, **metadata: str) -> Any:
    """The answer to one call."""
    answer, _ = await ask_all(transport, name, request, **metadata)
    return answer


async def ask_all(
    transport: Transport, name: str, request: Any, **metadata: str
) -> tuple[Any, Mapping[str, str | bytes]]:
    """The answer and its trailing metadata; `raftalloc_read="any"` is metadata of the request."""
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return await transport.unary(
        f"/{PACKAGE}.{name}", request, answer_type(name), timeout=10, metadata=pairs
    )


async def register(transport: Transport, *, cpu: int = 8_000, memory: int = 16_384) -> None:
    """A static node `n1`, and a provider `api` of 1000 requests/min."""
    node = fleet_pb2.RegisterNodeRequest(
        node_id="n1", capacity={"cpu": cpu, "memory": memory}, static=True
    )
    provider = fleet_pb2.RegisterNodeRequest(
        node_id="api", provider=True, capacity={"api_quota": 1_000_000}, static=True
    )
    await ask(transport, "Fleet/RegisterNode", node)
    await ask(transport, "Fleet/RegisterNode", provider)


def allocate_request(**fields: Any) -> allocator_pb2.AllocateRequest:
    """One core for agent a_1 of workflow w."""
    good = {"agent_id": "a_1", "workflow_id": "w", "resources": {"cpu": 1_000}}
    return allocator_pb2.AllocateRequest(**{**good, **fields})


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[LocalTransport]:
    """An embedded replica's transport, on `path`/data."""
    replica = await open_embedded(path / "data")
    try:
        yield replica.transport
    finally:
        await replica.close()


async def rejected(transport: LocalTransport, name: str, request: Message) -> Rejected:
    """The refusal with which this call is answered."""
    with pytest.raises(Rejected) as caught:
        await ask(transport, name, request)
    assert caught.value.remedy
    return caught.value
