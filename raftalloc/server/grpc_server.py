"""The API on a gRPC port, with health and reflection.

Requests are taken as bytes: a follower hands them on to the leader without looking into them.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health,
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]  # ships no types

from raftalloc.errors import Unauthenticated
from raftalloc.security.contexts import Reloading
from raftalloc.security.names import REPLICA, Identity, identity_of
from raftalloc.server.rpc import PRINCIPAL_KEY, SERVICES, Call
from raftalloc.server.status import status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from raftalloc.config import Address
    from raftalloc.security.files import TlsFiles
    from raftalloc.server.backend import Backend
    from raftalloc.server.rpc import Rpc

ANSWER_BYTES_MAX: Final = 64 << 20
HANDSHAKE_MS: Final = 3_000
METADATA_BYTES_MAX: Final = 16 << 10
_NAMES: Final = "peer_spiffe_id"
"""What gRPC calls the URI in a certificate's names."""
_Context = grpc.aio.ServicerContext[Any, Any]


class GrpcServer:
    """One listening port."""

    def __init__(
        self,
        backend: Backend,
        *,
        message_bytes: int,
        tls: TlsFiles | None = None,
        cluster_id: str = "",
    ) -> None:
        """`message_bytes`: of a request, at most; larger ones are RESOURCE_EXHAUSTED.

        tls: who calls shows a certificate of this group, and is its principal; None is without TLS, and everybody is
        the principal `local`. Raises ConfigError for files that cannot be used.
        """
        self._backend = backend
        self._files = Reloading(tls) if tls is not None else None
        self._cluster_id = cluster_id
        self._server = grpc.aio.server(
            options=(
                # Else a second process could take the same port, and the kernel would share the calls out.
                ("grpc.so_reuseport", 0),
                # Strangers who connect and say nothing are closed on; gRPC would keep them for two minutes.
                ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
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
        if self._files is None:
            self._server.add_insecure_port(str(address))
        else:
            self._server.add_secure_port(str(address), credentials_of(self._files))
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

    async def _call_of(self, context: _Context) -> Call:
        """The call, and whose it is. Ends it where its certificate is of another group."""
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        seconds = context.time_remaining()
        if self._files is None:
            return Call(metadata=metadata, seconds=seconds)
        identity = _identity(tuple(context.auth_context().get(_NAMES, ())))
        if identity is None or identity.cluster_id != self._cluster_id:
            whose = identity.uri if identity else "nobody of ours"
            problem = f"the certificate is of {whose}; this is group {self._cluster_id!r}"
            await _abort(context, Call(), Unauthenticated(problem))
            raise AssertionError("an aborted call goes on")
        principal = identity.name
        if identity.role == REPLICA:
            # Another replica hands a call on, and says whose it is; from anybody else that would be a lie.
            principal = str(metadata.get(PRINCIPAL_KEY, principal))
        return Call(principal, metadata=metadata, seconds=seconds)

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
            call = await self._call_of(context)
            try:
                answer = await self._backend.unary(rpc, data, call)
            except Exception as error:  # noqa: BLE001 - the RPC boundary; bugs were logged by the gate
                await _abort(context, call, error)
            _set_trailing(context, call)
            return answer

        async def stream(data: bytes, context: _Context) -> AsyncIterator[bytes]:
            call = await self._call_of(context)
            try:
                async with aclosing(self._backend.stream(rpc, data, call)) as answers:
                    async for answer in answers:
                        yield answer.SerializeToString()
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(context, call, error)
            _set_trailing(context, call)

        async def duplex(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            call = await self._call_of(context)
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


def credentials_of(files: Reloading) -> grpc.ServerCredentials:
    """Server TLS that asks for certificates; files that were replaced are used for connections from then on."""

    def current() -> grpc.ServerCertificateConfiguration:
        pem = files.pem
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.ca)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called before each handshake, in a thread of gRPC."""
        return current() if files.changed() else None

    # The stubs do not know that None stands for "as before".
    changed = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    return grpc.dynamic_ssl_server_credentials(
        current(), changed, require_client_authentication=True
    )


@lru_cache(maxsize=4_096)
def _identity(names: tuple[bytes, ...]) -> Identity | None:
    """Of the names in a certificate."""
    return identity_of(name.decode("ascii", "replace") for name in names)


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
