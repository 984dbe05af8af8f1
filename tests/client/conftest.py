"""A replica made of gRPC and nothing else: it answers what the test tells it to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from raftalloc.api.v1 import allocator_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PREFIX = "/raftalloc.api.v1."
REQUEST_TYPES: dict[str, Any] = {}


def _types() -> dict[str, Any]:
    """Method path -> (request type, response type, streams requests, streams responses)."""
    from google.protobuf import message_factory

    from raftalloc.api.v1 import (
        admin_pb2,
        events_pb2,
        fleet_pb2,
        quotas_pb2,
        reservations_pb2,
        usage_pb2,
    )

    found: dict[str, Any] = {}
    for module in (
        admin_pb2,
        allocator_pb2,
        events_pb2,
        fleet_pb2,
        quotas_pb2,
        reservations_pb2,
        usage_pb2,
    ):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                found[f"/{service.full_name}/{method.name}"] = (
                    message_factory.GetMessageClass(method.input_type),
                    message_factory.GetMessageClass(method.output_type),
                    method.client_streaming,
                    method.server_streaming,
                )
    return found


@dataclass
class FakeReplica:
    """`answers`: by method ("Allocator/Allocate") an async function of (request, context). `asked`: what came."""

    port: int = 0
    answers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    leader: str = ""
    server: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.asked if name == method]

    async def start(self) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers((_Handlers(self),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, replica: FakeReplica) -> None:
        self.replica = replica
        self.types = _types()

    def service(self, details: Any) -> Any:
        request_type, response_type, streams_in, streams_out = self.types[details.method]
        name = details.method.removeprefix(PREFIX)
        answer = self.replica.answers.get(name)
        if answer is None:
            return None
        codec = {
            "request_deserializer": request_type.FromString,
            "response_serializer": response_type.SerializeToString,
        }
        if streams_in:
            return grpc.stream_stream_rpc_method_handler(answer, **codec)
        if streams_out:
            return grpc.unary_stream_rpc_method_handler(self._noted(name, answer, True), **codec)
        return grpc.unary_unary_rpc_method_handler(self._noted(name, answer, False), **codec)

    def _noted(self, name: str, answer: Callable[..., Any], streams: bool) -> Callable[..., Any]:
        replica = self.replica

        def note(request: Any, context: Any) -> None:
            replica.asked.append((name, request))
            replica.metadata.append(dict(context.invocation_metadata()))
            if replica.leader:
                context.set_trailing_metadata((("raftalloc-leader", replica.leader),))

        async def one(request: Any, context: Any) -> Any:
            note(request, context)
            return await answer(request, context)

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            note(request, context)
            async for each in answer(request, context):
                yield each

        return many if streams else one


@contextlib.asynccontextmanager
async def _replicas(count: int) -> AsyncIterator[list[FakeReplica]]:
    made = [FakeReplica() for _ in range(count)]
    for replica in made:
        replica.answers["Allocator/OpenSession"] = open_session
        await replica.start()
    try:
        yield made
    finally:
        for replica in made:
            await replica.stop()


async def open_session(request: Any, context: Any) -> Any:
    return allocator_pb2.OpenSessionResponse(session=7)


@pytest.fixture
def replicas() -> Callable[[int], contextlib.AbstractAsyncContextManager[list[FakeReplica]]]:
    """`async with replicas(3) as group:` replicas on loopback that can open sessions and nothing more."""
    return _replicas


async def fail_with(context: Any, error: Exception, leader: str = "") -> None:
    """End the call as a replica does that raises `error`."""
    from raftalloc.server.status import status_of

    status = status_of(error)
    extra = (("raftalloc-leader", leader),) if leader else ()
    await context.abort(status.code, status.text, (*status.trailing, *extra))


@pytest.fixture
def fail() -> Callable[..., Awaitable[None]]:
    return fail_with
