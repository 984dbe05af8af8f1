"""gRPC channels with TLS whose files may be replaced: the next connection uses the new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from raftalloc.errors import ConfigError
from raftalloc.security.contexts import Reloading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.security.files import TlsFiles

_SAYS: tuple[tuple[str, str], ...] = (
    ("unable to get local issuer certificate", "its certificate is not of the CA in {ca}; is this the right group?"),
    ("self signed certificate", "its certificate is not of the CA in {ca}; is this the right group?"),
    ("self-signed certificate", "its certificate is not of the CA in {ca}; is this the right group?"),
    ("certificate has expired", "its certificate has expired; there: raftalloc certs issue --force"),
    ("wrong_version_number", "it speaks no TLS, and this client does; if [tls] is off there: RAFTALLOC_TLS_MODE=off"),
    ("unsupported certificate purpose", "its certificate is a client's, not a replica's"),
    ("hostname mismatch", "its certificate is not for this address; there: raftalloc certs issue --force"),
    ("peer name", "its certificate is not for this address; there: raftalloc certs issue --force"),
)  # fmt: skip


class SecureChannels:
    """The channel to one address, and those that it has taken the place of."""

    def __init__(
        self, address: str, tls: TlsFiles | None, options: Sequence[tuple[str, Any]]
    ) -> None:
        """Nothing is read or opened yet. tls: None is without."""
        self._address = address
        self._tls = tls
        self._options = tuple(options)
        self._files: Reloading | None = None
        self._channels: list[grpc.aio.Channel] = []

    def current(self) -> grpc.aio.Channel:
        """The newest channel, opened if there is none. Raises ConfigError for files that cannot be used."""
        if not self._channels:
            self._channels.append(self._open())
        return self._channels[-1]

    def renew(self) -> bool:
        """Nobody was reached: if the files have changed since, open another channel; whether it was so.

        Calls under way on the older one go on there until `close`.
        """
        if self._files is None or not self._files.changed():
            return False
        self._channels.append(self._open())
        return True

    def why_not(self, details: str) -> str:
        """What gRPC's words for a connection that could not be made mean here; empty if they say enough."""
        said = details.lower()
        if self._tls is None:
            if "failed to connect" in said and "socket closed" in said:
                return (
                    "it closed the connection at once; it probably wants TLS: "
                    "name the certificates with RAFTALLOC_TLS_DIRECTORY or tls="
                )
            return ""
        for sign, meaning in _SAYS:
            if sign in said:
                return meaning.format(ca=self._tls.ca)
        if "failed to connect" in said and "socket closed" in said:
            return (
                f"it closed the connection at once; it probably does not take {self._tls.certificate} "
                "(expired, or of another CA): raftalloc certs show"
            )
        return ""

    async def close(self) -> None:
        """Close every channel; calls under way end."""
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(self._address, options=self._options)
        if self._files is None:
            self._files = Reloading(self._tls)
        pem = self._files.pem
        try:
            credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)
        except ValueError as error:
            raise ConfigError(f"{self._tls.certificate}: cannot be used: {error}") from error
        return grpc.aio.secure_channel(self._address, credentials, options=self._options)
