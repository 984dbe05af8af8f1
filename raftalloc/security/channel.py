"""The TLS of one connection, without the connection: bytes in, bytes out. And its plain counterpart."""

from __future__ import annotations

import ssl
from typing import Final, Protocol

from raftalloc.security.names import Identity, identity_of

_RECORD_BYTES: Final = 16 << 10
_OF_VERIFY_CODE: Final = {
    9: "expired", 10: "expired",
    18: "other_ca", 19: "other_ca", 20: "other_ca", 21: "other_ca", 7: "other_ca", 30: "other_ca",
}  # fmt: skip


class ChannelError(Exception):
    """The connection is good for nothing any more. reason: one of a few words, for counting."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


class Channel(Protocol):
    """What a link needs of TLS."""

    is_open: bool
    """Whether the handshake is over, the other side's certificate included."""

    @property
    def identity(self) -> Identity | None:
        """Who the other side is by its certificate; None without one, or one that is not ours."""

    def begin(self) -> bytes:
        """The first bytes to be sent, if any."""

    def receive(self, data: memoryview) -> list[bytes]:
        """What the other side says, in pieces. Raises ChannelError. After each call `take` what is to be sent."""

    def take(self) -> bytes:
        """What the channel itself has to send; also after a ChannelError."""

    def seal(self, data: bytes | memoryview) -> bytes:
        """The bytes to be sent for `data`."""


class PlainChannel:
    """Without TLS: on loopback, where the operator says so."""

    is_open = True
    identity: Identity | None = None

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def receive(self, data: memoryview) -> list[bytes]:
        """As it is."""
        return [bytes(data)]

    def take(self) -> bytes:
        """Nothing."""
        return b""

    def seal(self, data: bytes | memoryview) -> bytes:
        """As it is."""
        return bytes(data)


class TlsChannel:
    """OpenSSL between two buffers in memory. A small message costs two to three microseconds a side."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        """Of a connection that we accepted (`server`) or made."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server)
        self.is_open = False

    @property
    def identity(self) -> Identity | None:
        """See Channel."""
        names = (self._tls.getpeercert() or {}).get("subjectAltName", ())
        return identity_of(str(pair[1]) for pair in names if pair[0] == "URI")

    def begin(self) -> bytes:
        """The client's first words."""
        self._shake()
        return self.take()

    def receive(self, data: memoryview) -> list[bytes]:
        """See Channel."""
        self._in.write(data)
        parts: list[bytes] = []
        if not self.is_open and not self._shake():
            return parts
        tls = self._tls
        try:
            # What is in neither buffer is not there: asking would only raise.
            while self._in.pending or tls.pending():
                part = tls.read(_RECORD_BYTES)
                if not part:
                    break
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            # The rest of a record is still to come; or nothing is, and the connection will say so itself.
            return parts
        except ssl.SSLError as error:
            if not parts:
                raise ChannelError(_reason(error), str(error)) from error
        return parts

    def take(self) -> bytes:
        """See Channel."""
        return self._out.read() if self._out.pending else b""

    def seal(self, data: bytes | memoryview) -> bytes:
        """See Channel. The buffer takes all there is."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise ChannelError(_reason(error), str(error)) from error
        return self._out.read()

    def _shake(self) -> bool:
        """Go on with the handshake; whether it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise ChannelError(_reason(error), str(error)) from error
        self.is_open = True
        return True


def _reason(error: ssl.SSLError) -> str:
    """One of a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _OF_VERIFY_CODE.get(error.verify_code, "bad_certificate")
    name = error.reason or ""
    if "PEER_DID_NOT_RETURN_A_CERTIFICATE" in name:
        return "no_certificate"
    if "ALERT" in name:
        return "refused_by_peer"
    if name in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL"):
        return "not_tls"
    return "tls"
