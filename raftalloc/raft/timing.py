"""The settings of the group that people choose, and where its members may be."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of the group, its largest entry, the size to which segments of the journal grow, and what it keeps.

    A leader that no quorum has answered for `election_max_ms` steps back. tail_entries, tail_bytes: how much of the
    log stays behind a snapshot, for followers that are slow; whichever is less. chunk_bytes: of a snapshot on its way,
    in one message.
    """

    heartbeat_ms: int = 50
    election_min_ms: int = 300
    election_max_ms: int = 600
    entry_bytes_max: int = 8 << 20
    segment_bytes: int = 64 << 20
    tail_entries: int = 10_000
    tail_bytes: int = 64 << 20
    chunk_bytes: int = 256 << 10


DEFAULT_TIMING: Final = Timing()


def check_timing(timing: Timing) -> None:
    """Raises ConfigError: elections must leave heartbeats the time to arrive."""
    if timing.election_min_ms <= 3 * timing.heartbeat_ms:
        raise ConfigError(
            f"election_min_ms {timing.election_min_ms} must be above three heartbeats "
            f"({timing.heartbeat_ms} ms each)"
        )
    if timing.election_max_ms <= timing.election_min_ms:
        raise ConfigError(
            f"election_max_ms {timing.election_max_ms} must be above "
            f"election_min_ms {timing.election_min_ms}"
        )


def check_addresses(peers: Mapping[str, tuple[str, int]], *, has_tls: bool) -> None:
    """Raises ConfigError for what is no IP address, and without TLS for what is not loopback."""
    for replica_id, (host, port) in peers.items():
        try:
            address = ipaddress.ip_address(host)
        except ValueError as error:
            raise ConfigError(
                f"replica {replica_id}: Raft host {host!r} is not an IP address; use 127.0.0.1"
            ) from error
        if address.is_unspecified or address.is_multicast:
            raise ConfigError(
                f"replica {replica_id}: Raft host {host} is no address of a machine; "
                "write the address that the others reach it at"
            )
        if not address.is_loopback and not has_tls:
            raise ConfigError(
                f"replica {replica_id}: Raft host {host} is not on this machine's loopback, and without TLS "
                'only loopback is allowed; set [tls] mode = "mutual"'
            )
        if not 1 <= port <= 65_535:
            raise ConfigError(f"replica {replica_id}: Raft port {port} is not within 1..65535")
    if len(set(peers.values())) != len(peers):
        raise ConfigError("two replicas have the same Raft address; give each its own port")
