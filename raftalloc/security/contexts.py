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
    from collections.abc import Callable

    from raftalloc.security.files import Pem, Signature, TlsFiles

logger = logging.getLogger(__name__)


class _Watch:
    """Whether files have been replaced since they were last looked at.

    What is bad is complained of once, not for every stranger who knocks.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._signature: Signature = files.signature()

    def reload(self, use: Callable[[TlsFiles], None]) -> bool:
        """Call `use` if there are other files now; whether it could."""
        try:
            signature: Signature = self._files.signature()
            missing = None
        except ConfigError as error:
            signature, missing = (), error
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            if missing is not None:
                raise missing
            use(self._files)
        except ConfigError as error:
            logger.warning("new certificates are not used: %s", error)
            return False
        return True


class TlsContexts:
    """Makes channels. Looks at the files at every handshake: three calls of stat, some ten microseconds."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigError for what cannot be used now."""
        self._files = files
        self._watch = _Watch(files)
        self._use(files)

    def channel(self, *, server: bool) -> TlsChannel:
        """The TLS of a new connection, with the files as they are now, or as they last could be used."""
        if self._watch.reload(self._use):
            logger.info("connections from now on use the new %s", self._files.certificate)
        return TlsChannel(self._server if server else self._client, server=server)

    def _use(self, files: TlsFiles) -> None:
        self._server, self._client = _contexts(files)


class Reloading:
    """The content of files that may be replaced, for those who make TLS of it themselves."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigError for what cannot be used now."""
        self._watch = _Watch(files)
        self.pem = _usable(files)

    def changed(self) -> bool:
        """Whether `pem` is another since the last call. Any thread may ask."""
        before = self.pem
        return self._watch.reload(self._use) and self.pem != before

    def _use(self, files: TlsFiles) -> None:
        self.pem = _usable(files)


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
