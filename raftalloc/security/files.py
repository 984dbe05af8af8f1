"""The three files that TLS needs: whom to trust, who we are, and the key that proves it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raftalloc.errors import ConfigError

FILE_BYTES_MAX: Final = 1 << 20
Signature = tuple[tuple[int, int, int], ...]
"""Of each file: inode, size, time of change. Another signature: another content."""


@dataclass(frozen=True, slots=True)
class Pem:
    """The content of the three files."""

    ca: bytes
    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files.

    ca: one certificate or several, each of which is trusted (old and new, while one replaces the other). certificate,
    key: our own.
    """

    ca: str
    certificate: str
    key: str

    @classmethod
    def of_client(cls, directory: str | Path, name: str = "client") -> TlsFiles:
        """As `raftalloc certs issue` puts them: ca.pem, client.pem and client-key.pem of a directory."""
        place = Path(directory)
        return cls(
            str(place / "ca.pem"), str(place / f"{name}.pem"), str(place / f"{name}-key.pem")
        )

    def signature(self) -> Signature:
        """Changes when a file is replaced. Raises ConfigError for what is missing."""
        return tuple(_stat(path) for path in (self.ca, self.certificate, self.key))

    def read(self) -> Pem:
        """Raises ConfigError, naming the file and what to do."""
        return Pem(_read(self.ca), _read(self.certificate), _read(self.key))


def _stat(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > FILE_BYTES_MAX or b"-----BEGIN " not in content:
        raise ConfigError(f"{path}: is no PEM file; make new ones: raftalloc certs issue --force")
    return content


def _unreadable(path: str, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(
            f"{path}: there is no such file; make certificates with `raftalloc certs init` and "
            "`raftalloc certs issue`, or give the right path ([tls], RAFTALLOC_TLS_*); "
            '[tls] mode = "off" does without, on loopback only'
        )
    return ConfigError(f"{path}: cannot be read: {error.strerror or error}; check its permissions")
