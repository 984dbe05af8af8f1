"""The API on a gRPC port, with health and reflection.

Requests are taken as bytes: a follower hands them on to the leader without looking into them.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # ships no types

from raftalloc.server.rpc import SERVICES, Call
from raftalloc.server.status import status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from raftalloc.config import Address
    from raftalloc.server.backend import Backend
    from raftalloc.server.rpc import Rpc

ANSWER_BYTES_MAX: Final = 64 << 20
METADATA_BYTES_MAX: Final = 16 << 10
_Context = grpc.aio.ServicerContext[Any, Any]


class GrpcServer:
    """One listening port."""

    def __init__(self, backend: Backend, *, message_bytes: int) -> None:
        """`message_bytes`: of a request, at most; larger ones are RESOURCE_EXHAUSTED."""
        self._backend = backend
        self._server = grpc.aio.server(
            options=(
                # Else a second process could take the same port, and the kernel would share the calls out.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", message_bytes),
                ("grpc.max_send_message_length", ANSWER_BYTES_MAX),
                ("grpc.max_metadata_size", METADATA_BYTES_MAX),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            )
        )
        for name in SERVICES:
            self._server.add_generic_rpc_handlers((self._service(name),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = (*SERVICES, health.SERVICE_NAME)
        reflection.enable_server_reflection((*self._names, reflection.SERVICE_NAME), self._server)

    async def start(self, address: Address) -> None:
        """Listen; not serving until `set_serving` says so. Raises RuntimeError where the address is taken."""
        self._server.add_insecure_port(str(address))
        await self.set_serving(serving=False)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """What grpc.health.v1 answers, for every service and for the whole ('')."""
        kind = health_pb2.HealthCheckResponse
        status = kind.SERVING if serving else kind.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls; those under way have `grace_seconds`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)

    def _service(self, service: str) -> grpc.GenericRpcHandler:
        """Every method of one service."""
        handlers = {}
        for rpc in self._backend.rpcs.values():
            owner, _, method = rpc.path[1:].partition("/")
            if owner == service:
                handlers[method] = self._handler(rpc)
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, rpc: Rpc) -> grpc.RpcMethodHandler[Any, Any]:
        """Bytes in and out; without serializers gRPC leaves them as they are."""

        async def unary(data: bytes, context: _Context) -> bytes:
            call = _call_of(context)
            try:
                answer = await self._backend.unary(rpc, data, call)
            except Exception as error:  # noqa: BLE001 - the RPC boundary; bugs were logged by the gate
                await _abort(context, call, error)
            _set_trailing(context, call)
            return answer

        async def stream(data: bytes, context: _Context) -> AsyncIterator[bytes]:
            call = _call_of(context)
            try:
                async with aclosing(self._backend.stream(rpc, data, call)) as answers:
                    async for answer in answers:
                        yield answer.SerializeToString()
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(context, call, error)
            _set_trailing(context, call)

        async def duplex(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            call = _call_of(context)
            try:
                async with aclosing(self._backend.duplex(requests, call)) as answers:
                    async for answer in answers:
                        yield answer
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(context, call, error)
            _set_trailing(context, call)

        if rpc.client_streams:
            return grpc.stream_stream_rpc_method_handler(duplex)
        if rpc.server_streams:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def _call_of(context: _Context) -> Call:
    metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
    return Call(metadata=metadata, seconds=context.time_remaining())


def _set_trailing(context: _Context, call: Call) -> None:
    context.set_trailing_metadata(_trailing(call))


def _trailing(call: Call) -> tuple[tuple[str, str | bytes], ...]:
    """Without what is not known: an empty leader is no leader."""
    return tuple((key, value) for key, value in call.trailing.items() if value)


async def _abort(context: _Context, call: Call, error: Exception) -> None:
    """End the call with the status that says what happened. Always raises."""
    if isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
        raise error
    status = status_of(error)
    trailing = dict(_trailing(call))
    trailing.update(status.trailing)
    await context.abort(status.code, status.text, tuple(trailing.items()))
