"""TLS contexts of files that may be replaced while we run.

TLS 1.3 and nothing older; both sides show a certificate; names are compared by whoever asks (names.py), since members
are known by their ids and not by their addresses.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from raftalloc.errors import ConfigError
from raftalloc.security.channel import TlsChannel

if TYPE_CHECKING:
    from raftalloc.security.files import Pem, Signature, TlsFiles

logger = logging.getLogger(__name__)


class TlsContexts:
    """Makes channels. Looks at the files at every handshake: three calls of stat, some ten microseconds."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigError for what cannot be used now."""
        self._files = files
        self._signature: Signature = files.signature()
        self._server, self._client = _contexts(files)

    def channel(self, *, server: bool) -> TlsChannel:
        """The TLS of a new connection, with the files as they are now, or as they last could be used."""
        self._reload()
        return TlsChannel(self._server if server else self._client, server=server)

    def _reload(self) -> None:
        try:
            signature = self._files.signature()
            if signature == self._signature:
                return
            # Remembered before the attempt: what is bad is complained of once.
            self._signature = signature
            self._server, self._client = _contexts(self._files)
        except ConfigError as error:
            logger.warning("new certificates are not used: %s", error)
            return
        logger.info(
            "connections from now on use the new certificates of %s", self._files.certificate
        )


class Reloading:
    """The content of files that may be replaced, for those who make TLS of it themselves."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigError for what cannot be used now."""
        self._files = files
        self._signature = files.signature()
        self.pem = _usable(files)

    def changed(self) -> bool:
        """Whether `pem` is another since the last call. Any thread may ask."""
        try:
            signature = self._files.signature()
            if signature == self._signature:
                return False
            self._signature = signature
            pem = _usable(self._files)
        except ConfigError as error:
            logger.warning("new certificates are not used: %s", error)
            return False
        changed, self.pem = pem != self.pem, pem
        return changed


def _usable(files: TlsFiles) -> Pem:
    """The content, if certificate and key go together. Raises ConfigError."""
    pem = files.read()
    _contexts(files)
    return pem


def _contexts(files: TlsFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    files.read()
    return _context(ssl.PROTOCOL_TLS_SERVER, files), _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # Nothing is resumed: each link proves anew who speaks.
        context.num_tickets = 0
    try:
        context.load_verify_locations(cafile=files.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{files.ca}: cannot be used: {error}; it must hold the CA's certificate"
        ) from error
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{files.certificate}, {files.key}: cannot be used: {error}; "
            "they must be a certificate and its key, without a password"
        ) from error
    return context
