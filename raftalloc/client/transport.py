"""How a call reaches one replica: the Transport seam, and its implementation over gRPC.

A Transport speaks to exactly one replica; choosing which is `routing`'s work, trying again is `calls`'. There are two:
`GrpcTransport` here, and the one of `server.embedded`, which calls the servicers of this process. Both raise exceptions
of `raftalloc.errors` and nothing else, but for CancelledError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from raftalloc.client.secure import SecureChannels
from raftalloc.client.statuses import error_of, trailing_of
from raftalloc.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from raftalloc.errors import RaftallocError
    from raftalloc.security.files import TlsFiles

Answer = TypeVar("Answer", bound=Message)

RECEIVE_BYTES_MAX: Final = 64 << 20
"""The answer to a batch of 10,000 is larger than the 4 MiB that a replica takes in."""

_OPTIONS: Final = (
    # A proxy of the environment must never come between replicas and clients of one machine.
    ("grpc.enable_http_proxy", 0),
    # Retrying is ours: only we know the idempotency.
    ("grpc.enable_retries", 0),
    # A replica that was killed is back within a second or so: look for it that often.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
)


class Transport(Protocol):
    """Calls to one replica. `method` is the full path, `/raftalloc.api.v1.Allocator/Allocate`; timeouts are seconds."""

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Mapping[str, str | bytes]]:
        """One request, one answer, and the trailing metadata (values of keys ending in `-bin` are bytes)."""

    def stream(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """One request, answers until the replica ends it, or the caller by `aclose` where it is a generator."""

    def duplex(
        self,
        method: str,
        requests: AsyncIterator[Message],
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """Requests as they come, answers as they come."""

    async def close(self) -> None:
        """Let go; calls under way end."""


class GrpcTransport:
    """A channel to one replica at `address` (host:port). Connects with the first call, in the loop that makes it."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        """Nothing is opened yet. tls: without, the replica must be on loopback and want none."""
        self.address = address
        self._channels = SecureChannels(address, tls, _OPTIONS)
        self._unary: dict[str, Callable[..., grpc.aio.UnaryUnaryCall[Any, Any]]] = {}
        self._closed = False

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Mapping[str, str | bytes]]:
        """See Transport."""
        if method not in self._unary:
            self._unary[method] = self._opened().unary_unary(
                method,
                request_serializer=type(request).SerializeToString,
                response_deserializer=response_type.FromString,
            )
        try:
            call = self._unary[method](request, timeout=timeout, metadata=tuple(metadata))
            response: Answer = await call
            trailing = trailing_of(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            raise self._error_of(error) from error
        return response, trailing

    async def stream(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncGenerator[Answer, None]:
        """See Transport."""
        send = self._opened().unary_stream(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        call = send(request, timeout=timeout, metadata=tuple(metadata))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._error_of(error) from error
        finally:
            call.cancel()

    async def duplex(
        self,
        method: str,
        requests: AsyncIterator[Message],
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncGenerator[Answer, None]:
        """See Transport."""
        send = self._opened().stream_stream(
            method,
            request_serializer=_serialize,
            response_deserializer=response_type.FromString,
        )
        call = send(requests, timeout=timeout, metadata=tuple(metadata))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._error_of(error) from error
        finally:
            call.cancel()

    async def close(self) -> None:
        """See Transport."""
        self._closed = True
        self._unary.clear()
        await self._channels.close()

    def _opened(self) -> grpc.aio.Channel:
        """The channel; opened here since it belongs to the running loop."""
        if self._closed:
            raise RuntimeError(f"the transport to {self.address} is closed")
        return self._channels.current()

    def _error_of(self, error: grpc.aio.AioRpcError) -> RaftallocError:
        """What it means; where nobody was reached, also why that may be, and whether new certificates are there."""
        meant = error_of(error, self.address)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            if self._channels.renew():
                self._unary.clear()
            elif why := self._channels.why_not(error.details() or ""):
                return Unavailable(f"{self.address}: {why}")
        return meant


def _serialize(message: Message) -> bytes:
    """Bytes of any request."""
    return message.SerializeToString()
