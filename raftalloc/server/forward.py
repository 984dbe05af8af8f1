"""From a follower to the leader, one hop: the request's bytes as they came, and the leader's answer as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from raftalloc.client.secure import SecureChannels
from raftalloc.errors import NoLeader, OutcomeUnknown
from raftalloc.server.rpc import HOP, PRINCIPAL_KEY, READ, REQUEST_ID
from raftalloc.server.status import PassedOn, Status

if TYPE_CHECKING:
    from raftalloc.security.files import TlsFiles
    from raftalloc.server.rpc import Call, Rpc

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # The client retries; a call repeated underneath it would be one it does not know of.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
# What gRPC says when it never reached the other side: then nothing was done there.
_NEVER_SENT: Final = ("failed to connect", "connection refused")


class Forwarder:
    """Channels to the other replicas, opened when first needed."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        """Nothing is opened yet. tls: this replica's files; None is without TLS."""
        self._tls = tls
        self._channels: dict[str, SecureChannels] = {}
        self._calls: dict[tuple[str, str], grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def unary(self, address: str, rpc: Rpc, data: bytes, call: Call) -> bytes:
        """The answer of the replica at `address`. Raises PassedOn with its status, NoLeader, OutcomeUnknown."""
        send = self._calls.get((address, rpc.path))
        if send is None:
            # Without serializers bytes go out and come in as they are.
            send = self._channels_to(address).current().unary_unary(rpc.path)
            self._calls[address, rpc.path] = send
        metadata = [(HOP, "1"), (REQUEST_ID, call.request_id), (PRINCIPAL_KEY, call.principal)]
        if READ in call.metadata:
            metadata.append((READ, str(call.metadata[READ])))
        outgoing = send(data, timeout=call.seconds, metadata=tuple(metadata))
        try:
            answer = await outgoing
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and self._channels_to(address).renew():
                self._calls = {key: kept for key, kept in self._calls.items() if key[0] != address}
            raise _error_of(error, address) from error
        for key, value in await outgoing.trailing_metadata() or ():
            if key.startswith("raftalloc-"):
                call.trailing[key] = value
        return answer

    async def close(self) -> None:
        """Let go of the channels."""
        channels, self._channels = list(self._channels.values()), {}
        self._calls.clear()
        for channel in channels:
            await channel.close()

    def _channels_to(self, address: str) -> SecureChannels:
        if address not in self._channels:
            self._channels[address] = SecureChannels(address, self._tls, _OPTIONS)
        return self._channels[address]


def _error_of(error: grpc.aio.AioRpcError, address: str) -> Exception:
    """The leader's own status, if it is one; else what its silence means."""
    trailing = tuple(
        (str(key), value)
        for key, value in error.trailing_metadata() or ()
        if str(key).startswith("raftalloc-")
    )
    text = error.details() or ""
    if trailing:
        return PassedOn(Status(error.code(), text, trailing))
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        if any(phrase in text.lower() for phrase in _NEVER_SENT):
            return NoLeader(f"the leader at {address} does not answer")
        return OutcomeUnknown(f"the connection to the leader at {address} broke")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimeoutError(f"the leader at {address} did not answer in time")
    return PassedOn(Status(error.code(), text))
