"""Free ports of the loopback interface.

Not the kernel's own choice (port 0): it hands those out again to any outgoing connection as soon as they are closed,
and a replica that was killed must find its port free when it comes back. Below that range nobody takes one by accident.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from raftalloc.errors import ConfigError

HOST: Final = "127.0.0.1"
_LOWEST: Final = 20_000
_HIGHEST: Final = 32_000
_STRIDE: Final = 97
"""Groups that start at the same time look at different ports first: their pids lie close together."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now."""
    found: list[int] = []
    size = _HIGHEST - _LOWEST
    start = os.getpid() * _STRIDE
    for step in range(size):
        port = _LOWEST + (start + step) % size
        if is_free(HOST, port):
            found.append(port)
        if len(found) == count:
            return found
    raise ConfigError(
        f"{count} free ports wanted in {_LOWEST}..{_HIGHEST}, found {len(found)}; end what listens there"
    )


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections that are still being closed there do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
