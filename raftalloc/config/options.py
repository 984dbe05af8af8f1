"""What there is to set. A section of cluster.toml is a dataclass here, an option one of its fields.

Type, default and bounds stand in one place; the meaning of each is in `cluster.toml` at the root of the project (a test
compares the two). Lengths of time are milliseconds, sizes bytes, unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftalloc.errors import ConfigError
from raftalloc.security.files import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED_REPLICA: Final = "local"
_DAY_MS: Final = 86_400_000


def option(
    default: int | str, *, low: int = 0, high: int = 1 << 50, choices: tuple[str, ...] = ()
) -> Any:  # the annotation of the field decides, as with dataclasses.field
    """One option: its default, and what else it may be."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices})


@dataclass(frozen=True, slots=True)
class Storage:
    """Where things are kept, and how long."""

    data_dir: str = option("raftalloc-data")
    event_store: str = option("process", choices=("process", "inline"))
    snapshot_entries: int = option(10_000, low=1)
    retention_days: int = option(7, low=0, high=36_500)
    retention_gb: int = option(10, low=0, high=1 << 20)


_POLICIES: Final = (
    "best_fit",
    "first_fit",
    "worst_fit",
    "balanced",
    "fgd",
    "spread",
    "least_waste",
)


@dataclass(frozen=True, slots=True)
class Placement:
    """How a node is chosen where the request does not say."""

    policy: str = option("best_fit", choices=_POLICIES)


@dataclass(frozen=True, slots=True)
class Queue:
    """How the queue of a new group is served; afterwards the group itself knows (`raftalloc queue set`)."""

    order: str = option(
        "priority_with_fairshare",
        choices=("fifo", "priority", "fair_share", "priority_with_fairshare"),
    )
    ageing_ms: int = option(3_600_000, low=0, high=10 * 366 * _DAY_MS)
    backfill: str = option("conservative", choices=("greedy", "easy", "conservative"))
    backfill_depth: int = option(4, low=1, high=256)
    preemption: str = option("none", choices=("none", "lower_priority"))
    grace_ms: int = option(30_000, low=0, high=10 * 366 * _DAY_MS)
    min_run_ms: int = option(60_000, low=0, high=10 * 366 * _DAY_MS)
    preemptions_per_hour: int = option(60, low=0, high=1_000_000)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines."""

    heartbeat_timeout_ms: int = option(10_000, low=500, high=_DAY_MS)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller, or all of them together, may put on a replica."""

    message_bytes: int = option(4 << 20, low=64 << 10, high=64 << 20)
    concurrent_calls: int = option(4_096, low=16, high=1 << 20)
    batch_commands: int = option(10_000, low=1, high=10_000)
    batch_bytes: int = option(1 << 20, low=64 << 10, high=16 << 20)
    queue_commands: int = option(50_000, low=1, high=1 << 22)
    watchers: int = option(1_024, low=1, high=1 << 16)
    watch_buffer_entries: int = option(4_096, low=16, high=1 << 20)


@dataclass(frozen=True, slots=True)
class Raft:
    """The timing of the group."""

    heartbeat_ms: int = option(50, low=10, high=10_000)
    election_min_ms: int = option(300, low=50, high=60_000)
    election_max_ms: int = option(600, low=50, high=120_000)
    tail_entries: int = option(10_000, low=0, high=1 << 30)
    tail_bytes: int = option(64 << 20, low=0, high=1 << 36)
    segment_bytes: int = option(64 << 20, low=64 << 10, high=1 << 31)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, and a shutdown."""

    call_ms: int = option(10_000, low=100, high=3_600_000)
    shutdown_ms: int = option(5_000, low=0, high=600_000)


@dataclass(frozen=True, slots=True)
class Logging:
    """What is written to stderr."""

    level: str = option("info", choices=("debug", "info", "warning", "error"))
    format: str = option("console", choices=("console", "json"))


@dataclass(frozen=True, slots=True)
class Tls:
    """Who may speak to whom. Files are relative to `directory`, and `{name}` is a replica's id, or "client"."""

    mode: str = option("mutual", choices=("mutual", "off"))
    directory: str = option("certs")
    ca: str = option("ca.pem")
    certificate: str = option("{name}.pem")
    key: str = option("{name}-key.pem")


@dataclass(frozen=True, slots=True)
class Http:
    """The port of metrics and health, which has neither TLS nor authentication."""

    beyond_loopback: str = option("refuse", choices=("refuse", "allow"))


SECTIONS: Final[Mapping[str, type]] = {
    "storage": Storage,
    "placement": Placement,
    "queue": Queue,
    "fleet": Fleet,
    "limits": Limits,
    "raft": Raft,
    "timeouts": Timeouts,
    "logging": Logging,
    "tls": Tls,
    "http": Http,
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica listens: an IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`127.0.0.1:7001`, `[::1]:7001`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Replica:
    """A member of the group: its API, its Raft port (members only), its HTTP port (metrics and health)."""

    replica_id: str
    grpc: Address
    raft: Address
    http: Address


@dataclass(frozen=True, slots=True)
class Config:
    """All of it. `replicas` is empty where the one replica is embedded; `path` is the file it came from, or empty."""

    cluster_id: str
    replicas: tuple[Replica, ...] = ()
    storage: Storage = Storage()
    placement: Placement = Placement()
    queue: Queue = Queue()
    fleet: Fleet = Fleet()
    limits: Limits = Limits()
    raft: Raft = Raft()
    timeouts: Timeouts = Timeouts()
    logging: Logging = Logging()
    tls: Tls = Tls()
    http: Http = Http()
    path: str = ""

    def replica(self, replica_id: str) -> Replica:
        """The member of that name; ConfigError names those there are."""
        for member in self.replicas:
            if member.replica_id == replica_id:
                return member
        known = ", ".join(member.replica_id for member in self.replicas)
        raise ConfigError(f"{self.path}: there is no replica {replica_id!r}; there are {known}")

    def data_directory(self, replica_id: str) -> str:
        """Where this replica keeps its files: `<storage.data_dir>/<replica id>`."""
        return str(Path(self.storage.data_dir) / replica_id)

    def tls_files(self, name: str) -> TlsFiles | None:
        """The files of a replica, or of "client"; None where TLS is off."""
        if self.tls.mode == "off":
            return None
        place = Path(self.tls.directory)
        named = (
            str(place / path.replace("{name}", name))
            for path in (self.tls.ca, self.tls.certificate, self.tls.key)
        )
        return TlsFiles(*named)

    def tls_addresses(self) -> dict[str, tuple[str, ...]]:
        """By replica id, the IP addresses that its certificate must be good for."""
        return {
            each.replica_id: tuple(sorted({each.grpc.host, each.raft.host}))
            for each in self.replicas
        }

    def endpoints(self) -> tuple[str, ...]:
        """The gRPC addresses of the group, in the order of the file."""
        return tuple(str(member.grpc) for member in self.replicas)
