"""Prometheus metrics of one replica: the one door to prometheus_client.

Each replica has a registry of its own, so several can live in one process. There are two sorts. Counters and
histograms are told of what happens (`rpc_done`, `decided`, ...). Gauges are read when somebody asks, from the `Sample`
that the replica makes: a scrape costs one sample, and between scrapes they cost nothing.

`docs/metrics.md` lists every metric; a test compares the two and holds names and help to promtool's rules.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from raftalloc.core import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from raftalloc.core.events import Happened
    from raftalloc.core.records import KindUse

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_LATENCY_SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
_BATCH_COMMANDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


@dataclass(frozen=True, slots=True)
class Sample:
    """How a replica is at one moment. `kinds`: the fleet's figures in canonical units; `nodes`: count by state name."""

    is_leader: bool
    has_leader: bool
    is_ready: bool
    term: int
    commit_index: int
    applied_index: int
    log_index: int
    stored_index: int
    snapshot_index: int
    store_backlog_blocks: int
    submit_waiting_commands: int
    allocations_live: int
    requests_waiting: int
    nodes: tuple[tuple[str, int], ...]
    kinds: tuple[KindUse, ...]
    divergence_index: int = 0
    agreed_index: int = 0
    differing: int = 0


# Gauges without labels: name, help, and the field of Sample they show.
_PLAIN: Final = (
    ("raftalloc_raft_is_leader", "1 while this replica leads the group.", "is_leader"),
    ("raftalloc_raft_has_leader", "1 while this replica knows of a leader.", "has_leader"),
    ("raftalloc_ready", "1 while this replica can serve, as /readyz says.", "is_ready"),
    ("raftalloc_raft_term", "Current term of Raft.", "term"),
    ("raftalloc_raft_commit_index", "Last index known to be committed.", "commit_index"),
    ("raftalloc_raft_applied_index", "Last index given to the state machine.", "applied_index"),
    ("raftalloc_state_index", "Last index that carried commands and is in the state.", "log_index"),
    ("raftalloc_store_index", "Last index that the event store has taken.", "stored_index"),
    ("raftalloc_snapshot_index", "Index of the newest snapshot, 0 without one.", "snapshot_index"),
    (
        "raftalloc_store_backlog_blocks",
        "Blocks that wait for the event store.",
        "store_backlog_blocks",
    ),
    (
        "raftalloc_submit_waiting_commands",
        "Commands that wait for a log entry or for its commit.",
        "submit_waiting_commands",
    ),
    ("raftalloc_allocations_live", "Live allocations.", "allocations_live"),
    (
        "raftalloc_divergence_index",
        "Index at which this replica was found to differ from the others; 0: it was not.",
        "divergence_index",
    ),
    (
        "raftalloc_divergence_agreed_index",
        "Highest index at which a majority was seen to have this replica's digest.",
        "agreed_index",
    ),
    (
        "raftalloc_divergence_replicas",
        "Other replicas that differ from the majority.",
        "differing",
    ),
    ("raftalloc_queue_requests", "Requests that wait for resources.", "requests_waiting"),
)
_KINDS: Final = (
    ("raftalloc_kind_capacity_units", "Capacity by kind, in canonical units.", "capacity"),
    ("raftalloc_kind_used_units", "Used by allocations, by kind, in canonical units.", "used"),
    (
        "raftalloc_kind_reserved_units",
        "Held by open reservations and not drawn, by kind, in canonical units.",
        "held",
    ),
    (
        "raftalloc_kind_available_units",
        "Free on ready nodes and providers, by kind, in canonical units.",
        "available",
    ),
)


class Metrics:
    """What one replica counts. Methods are called on its event loop and cost microseconds."""

    def __init__(self, *, replica_id: str, cluster_id: str, version: str) -> None:
        """Gauges appear once `observe` has said where samples come from."""
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        info = self._gauge(
            "raftalloc_replica_info", "Always 1; who this is.", "replica", "cluster", "version"
        )
        info.labels(replica_id, cluster_id, version).set(1)
        self._rpc_seconds = self._histogram(
            "raftalloc_rpc_seconds", "Time to answer a call.", _LATENCY_SECONDS, "method"
        )
        self._rpcs = self._counter("raftalloc_rpcs", "Calls answered.", "method", "code")
        self._rpcs_open = self._gauge("raftalloc_rpcs_open", "Calls being worked on.")
        self._forwarded = self._counter(
            "raftalloc_rpcs_forwarded", "Calls handed on to the leader.", "method"
        )
        self._commit_seconds = self._histogram(
            "raftalloc_commit_seconds",
            "From the proposal of a log entry on this leader until it is applied.",
            _LATENCY_SECONDS,
        )
        self._journal_seconds = self._histogram(
            "raftalloc_journal_sync_seconds",
            "Time that the Raft log takes to write and fdatasync what gathered.",
            _LATENCY_SECONDS,
        )
        self._links = {
            "refused": self._counter(
                "raftalloc_raft_links_refused",
                "Connections to or from the Raft port that came to nothing.",
                "reason",
            ),
            "lost": self._counter(
                "raftalloc_raft_links_lost", "Links to other members that were lost.", "reason"
            ),
            "dropped": self._counter(
                "raftalloc_raft_messages_dropped",
                "What members sent that is no message of Raft.",
                "reason",
            ),
        }
        self._entry_commands = self._histogram(
            "raftalloc_entry_commands", "Commands in one log entry.", _BATCH_COMMANDS
        )
        self._store_seconds = self._histogram(
            "raftalloc_store_seconds",
            "Time that the event store takes to append a block, to fsync, to write a snapshot.",
            _LATENCY_SECONDS,
            "operation",
        )
        self._grants = self._counter("raftalloc_grants", "Allocations granted.")
        self._queued = self._counter("raftalloc_requests_queued", "Requests put into the queue.")
        self._ended = self._counter("raftalloc_allocations_ended", "Allocations ended.", "reason")
        self._withdrawn = self._counter(
            "raftalloc_requests_withdrawn", "Requests that left the queue ungranted.", "reason"
        )
        self._rejections = self._counter(
            "raftalloc_rejections", "Commands refused by the state of the group.", "code"
        )
        self._invalid = self._counter(
            "raftalloc_invalid_requests", "Requests refused as malformed before the log."
        )

    def observe(self, sample: Callable[[], Sample]) -> None:
        """Where the gauges come from: called at each scrape."""
        self._registry.register(_Gauges(sample))

    def render(self) -> bytes:
        """All of it in Prometheus' text format (CONTENT_TYPE)."""
        return generate_latest(_WithoutCreated(self._registry))

    def rpc_started(self) -> None:
        """A call came in."""
        self._rpcs_open.inc()

    def rpc_done(self, method: str, code: str, seconds: float) -> None:
        """A call was answered; `method` is one of ours, never what a caller made up."""
        self._rpcs_open.dec()
        self._rpcs.labels(method, code).inc()
        self._rpc_seconds.labels(method).observe(seconds)

    def rpc_forwarded(self, method: str) -> None:
        """A call goes on to the leader."""
        self._forwarded.labels(method).inc()

    def invalid_request(self) -> None:
        """A request was malformed."""
        self._invalid.inc()

    def committed(self, seconds: float) -> None:
        """An entry that we proposed has been applied."""
        self._commit_seconds.observe(seconds)

    def link(self, kind: str, reason: str) -> None:
        """A link of the members' network was refused or lost, or a message dropped; both words are the wire's own."""
        self._links[kind].labels(reason).inc()

    def journal_synced(self, seconds: float) -> None:
        """The Raft log has been written and synced."""
        self._journal_seconds.observe(seconds)

    def stored(self, operation: str, seconds: float) -> None:
        """The event store has done an `append`, `fsync` or `snapshot`."""
        self._store_seconds.labels(operation).observe(seconds)

    def decided(self, commands: int, happened: Sequence[Happened]) -> None:
        """An entry was applied here."""
        self._entry_commands.observe(commands)
        grants = queued = 0
        ended: Tally[str] = Tally()
        withdrawn: Tally[str] = Tally()
        refused: Tally[str] = Tally()
        for item in happened:
            match item.event:
                case events.Granted():
                    grants += 1
                case events.Queued():
                    queued += 1
                case events.Ended(reason=reason):
                    ended[reason] += 1
                case events.Withdrawn(reason=reason):
                    withdrawn[reason] += 1
                case events.Refused(code=code):
                    refused[code] += 1
        self._grants.inc(grants)
        self._queued.inc(queued)
        for counter, tally in (
            (self._ended, ended),
            (self._withdrawn, withdrawn),
            (self._rejections, refused),
        ):
            for label, count in tally.items():
                counter.labels(label).inc(count)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)


class _Gauges(Collector):
    """Turns one Sample into gauges."""

    def __init__(self, sample: Callable[[], Sample]) -> None:
        self._sample = sample

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Every gauge, all of the same moment."""
        sample = self._sample()
        for name, text, field in _PLAIN:
            yield GaugeMetricFamily(name, text, value=float(getattr(sample, field)))
        nodes = GaugeMetricFamily("raftalloc_nodes", "Nodes by state.", labels=["state"])
        for state, count in sample.nodes:
            nodes.add_metric([state], count)
        yield nodes
        for name, text, field in _KINDS:
            family = GaugeMetricFamily(name, text, labels=["kind"])
            for use in sample.kinds:
                family.add_metric([use.kind], float(getattr(use, field)))
            yield family
        ratio = GaugeMetricFamily(
            "raftalloc_kind_used_ratio", "Used by capacity, by kind, 0 to 1.", labels=["kind"]
        )
        for use in sample.kinds:
            ratio.add_metric([use.kind], use.used / use.capacity if use.capacity else 0.0)
        yield ratio


class _WithoutCreated(Collector):
    """A registry without the `_created` series, which would double what is stored and which nobody reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Every metric, less those samples."""
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric
