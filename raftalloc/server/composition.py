"""One replica, put together: the only module that knows all the parts.

    directory -> store -> engine (state) -> consensus -> submitter, ticker -> servicers -> backend

What is opened is closed in the opposite order, also where a later part fails to open.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from raftalloc.core import commands, views
from raftalloc.core.events import NODE_STATE_NAMES
from raftalloc.errors import RaftallocError
from raftalloc.raft.timing import Timing
from raftalloc.server.backend import Backend
from raftalloc.server.forward import Forwarder
from raftalloc.server.interceptors import Gate
from raftalloc.server.leadership import Leadership
from raftalloc.server.measured import MeasuredReplica, MeasuredStore
from raftalloc.server.rpc import table
from raftalloc.server.servicers.admin import AdminServicer
from raftalloc.server.servicers.allocator import AllocatorServicer
from raftalloc.server.servicers.events import EventsServicer
from raftalloc.server.servicers.fleet import FleetServicer
from raftalloc.server.servicers.quotas import QuotasServicer
from raftalloc.server.servicers.reservations import ReservationsServicer
from raftalloc.server.servicers.usage import UsageServicer
from raftalloc.server.servicers.writes import Writer
from raftalloc.service.clock import ClusterClock
from raftalloc.service.engine import Engine
from raftalloc.service.query import Queries
from raftalloc.service.submit import Submitter
from raftalloc.service.ticker import Ticker
from raftalloc.service.watch import Watches
from raftalloc.storage.directory import open_directory
from raftalloc.storage.process import open_process_store
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemClock, SystemDisk, SystemNet, SystemRng, SystemSpawn
from raftalloc.telemetry.logs import get_logger
from raftalloc.telemetry.metrics import Metrics, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.config import Config
    from raftalloc.ports import Clock, Disk, EventStore, Net, Rng, Spawn

APPLY_LAG_MAX: Final = 1_000
"""Entries that may be committed and not applied yet while the replica still calls itself ready."""
_POLICIES: Final = {name: policy for policy, name in commands.POLICY_NAMES.items()}
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside (ports.py); production's by default."""

    clock: Clock
    disk: Disk
    net: Net
    rng: Rng
    spawn: Spawn


def system_ports(*, clock: Clock | None = None, net: Net | None = None) -> Ports:
    """This machine, but for what is given."""
    return Ports(
        clock or SystemClock(), SystemDisk(), net or SystemNet(), SystemRng(), SystemSpawn()
    )


def installed_version() -> str:
    """Of this software."""
    try:
        return version("raftalloc")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "0"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a replica is made of."""

    store: EventStore
    engine: Engine
    consensus: MeasuredReplica
    submitter: Submitter
    ticker: Ticker
    queries: Queries
    watches: Watches
    leadership: Leadership


class RunningReplica:
    """One replica at work. Made by `open_replica`."""

    def __init__(self, replica_id: str, parts: Parts, backend: Backend, metrics: Metrics) -> None:
        """Nothing is opened here."""
        self.replica_id = replica_id
        self.backend = backend
        self.metrics = metrics
        self.failure: BaseException | None = None
        self._engine = parts.engine
        self._consensus = parts.consensus
        self._submitter = parts.submitter
        self._ticker = parts.ticker
        self._watches = parts.watches
        self._opened = AsyncExitStack()

    def health(self) -> str:
        """What is wrong for good, or empty."""
        return f"stopped: {self.failure}" if self.failure is not None else ""

    def ready(self) -> str:
        """Why this replica cannot serve at the moment, or empty."""
        if self.failure is not None:
            return self.health()
        if not self._consensus.leader_id:
            return "no leader is known"
        lag = self._consensus.commit_index - self._consensus.applied_index
        if lag > APPLY_LAG_MAX:
            return f"{lag} entries are still to be applied"
        return ""

    def sample(self) -> Sample:
        """How it is now, for the metrics. O(nodes x kinds)."""
        engine, consensus = self._engine, self._consensus
        state = engine.state
        fleet, usage = state.fleet, views.utilization(state)
        nodes = dict.fromkeys(NODE_STATE_NAMES.values(), 0)
        for row in fleet.rows_in_order():
            if fleet.is_node[row]:
                nodes[NODE_STATE_NAMES[fleet.states[row]]] += 1
        return Sample(
            is_leader=self._ticker.has_lead,
            has_leader=bool(consensus.leader_id),
            is_ready=not self.ready(),
            term=consensus.term,
            commit_index=consensus.commit_index,
            applied_index=consensus.applied_index,
            log_index=engine.index,
            stored_index=engine.stored_index,
            snapshot_index=engine.snapshot_index,
            store_backlog_blocks=engine.backlog,
            submit_waiting_commands=self._submitter.waiting,
            allocations_live=usage.allocations_live,
            requests_waiting=usage.requests_waiting,
            nodes=tuple(nodes.items()),
            kinds=usage.kinds,
        )

    async def hand_over(self) -> None:
        """If this replica leads others, let one of them lead, so that nobody waits for an election."""
        if len(self._consensus.peers) == 1 or not self._ticker.has_lead or self.failure is not None:
            return
        try:
            leader_id = await self._consensus.transfer("")
        except RaftallocError as error:
            log.info("nobody took the lead over", why=str(error))
        else:
            log.info("handed the lead over", leader=leader_id)

    def end_streams(self) -> None:
        """End every Events.Watch: they would go on for ever."""
        self._watches.close()

    def keep(self, opened: AsyncExitStack) -> None:
        """What `close` undoes."""
        self._opened = opened

    async def close(self) -> None:
        """Leave the group, let the store take what is queued, let go of the directory. May be called twice."""
        await self._opened.aclose()


async def open_replica(
    config: Config,
    replica_id: str,
    *,
    ports: Ports,
    directory: str,
    on_fatal: Callable[[BaseException], None],
) -> RunningReplica:
    """Open a replica on its data directory and join the group. No API port is opened here.

    `on_fatal` hears, once, what stopped the replica for good. Raises ConfigError, DataDirectoryError.
    """
    metrics = Metrics(
        replica_id=replica_id, cluster_id=config.cluster_id, version=installed_version()
    )
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        if replica is not None:
            replica.failure = replica.failure or error
        if len(failures) == 1:
            on_fatal(error)

    replica: RunningReplica | None = None
    async with AsyncExitStack() as opening:
        parts = await _open_parts(config, replica_id, ports, directory, metrics, failed, opening)
        backend = _backend(config, ports, parts, metrics, opening)
        replica = RunningReplica(replica_id, parts, backend, metrics)
        replica.failure = failures[0] if failures else None
        metrics.observe(replica.sample)
        replica.keep(opening.pop_all())
    return replica


async def _open_parts(
    config: Config,
    replica_id: str,
    ports: Ports,
    path: str,
    metrics: Metrics,
    failed: Callable[[BaseException], None],
    opening: AsyncExitStack,
) -> Parts:
    """Everything below the API, started."""
    directory = open_directory(
        ports.disk, path, cluster_id=config.cluster_id, replica_id=replica_id
    )
    opening.callback(directory.close)
    store = await _open_store(config, ports, directory.events_path, metrics)
    opening.push_async_callback(store.close)
    engine = Engine(
        store=store,
        replica_id=replica_id,
        cluster_id=config.cluster_id,
        snapshot_entries=config.storage.snapshot_entries,
        on_fatal=failed,
    )
    opening.push_async_callback(engine.close)
    await engine.recover()
    engine.subscribe(lambda decided: metrics.decided(len(decided.asked), decided.happened))
    cluster_clock = ClusterClock(ports.clock)
    consensus = MeasuredReplica(
        replica_id=replica_id,
        peers=_raft_peers(config, replica_id),
        directory=directory.raft_path,
        clock=ports.clock,
        net=ports.net,
        rng=ports.rng,
        apply=engine.apply,
        on_fatal=failed,
        stamp=cluster_clock.now_ms,
        hear=cluster_clock.hear,
        timing=_timing(config),
    )
    consensus.metrics = metrics
    opening.push_async_callback(consensus.stop)
    submitter = Submitter(
        engine=engine,
        consensus=consensus,
        clock=cluster_clock,
        replica_id=replica_id,
        batch_commands=config.limits.batch_commands,
        batch_bytes=config.limits.batch_bytes,
        queue_commands=config.limits.queue_commands,
    )
    opening.push_async_callback(submitter.close)
    ticker = Ticker(
        engine=engine,
        consensus=consensus,
        submitter=submitter,
        clock=ports.clock,
        cluster_clock=cluster_clock,
        replica_id=replica_id,
        heartbeat_timeout_ms=config.fleet.heartbeat_timeout_ms,
    )
    opening.push_async_callback(ticker.close)
    watches = Watches(
        engine=engine,
        store=store,
        clock=ports.clock,
        watchers_max=config.limits.watchers,
        buffer_entries=config.limits.watch_buffer_entries,
    )
    opening.callback(watches.close)
    addresses = {each.replica_id: str(each.grpc) for each in config.replicas}
    leadership = Leadership(
        replica_id=replica_id, addresses=addresses, consensus=consensus, ticker=ticker
    )
    await consensus.start()
    await ticker.start()
    queries = Queries(engine=engine, store=store)
    return Parts(store, engine, consensus, submitter, ticker, queries, watches, leadership)


def _backend(
    config: Config, ports: Ports, parts: Parts, metrics: Metrics, opening: AsyncExitStack
) -> Backend:
    """The API over the parts."""
    gate = Gate(
        metrics=metrics,
        clock=ports.clock,
        rng=ports.rng,
        calls_max=config.limits.concurrent_calls,
        call_seconds_max=config.timeouts.call_ms / 1000,
    )
    forwarder = Forwarder()
    opening.push_async_callback(forwarder.close)
    rpcs = table(_servicers(config, ports, parts))
    return Backend(rpcs=rpcs, gate=gate, leadership=parts.leadership, forwarder=forwarder)


def _servicers(config: Config, ports: Ports, parts: Parts) -> Mapping[str, object]:
    """One for each service of the protos, by its name."""
    engine, writer = parts.engine, Writer(parts.submitter)
    return {
        "Allocator": AllocatorServicer(
            engine=engine,
            writer=writer,
            queries=parts.queries,
            default_policy=_POLICIES[config.placement.policy],
        ),
        "Usage": UsageServicer(engine=engine),
        "Reservations": ReservationsServicer(engine=engine, writer=writer),
        "Fleet": FleetServicer(
            engine=engine,
            writer=writer,
            ticker=parts.ticker,
            heartbeat_timeout_ms=config.fleet.heartbeat_timeout_ms,
        ),
        "Quotas": QuotasServicer(engine=engine, writer=writer),
        "Events": EventsServicer(watches=parts.watches, queries=parts.queries),
        "Admin": AdminServicer(
            config=config,
            engine=engine,
            store=parts.store,
            consensus=parts.consensus,
            leadership=parts.leadership,
            clock=ports.clock,
            version=installed_version(),
        ),
    }


async def _open_store(config: Config, ports: Ports, path: str, metrics: Metrics) -> EventStore:
    """Where the configuration wants it."""
    inner: EventStore
    if config.storage.event_store == "process":
        inner = await open_process_store(ports.spawn, path)
    else:
        inner = RocksStore(ports.disk, path)
    return MeasuredStore(inner, ports.clock, metrics)


def _raft_peers(config: Config, replica_id: str) -> dict[str, tuple[str, int]]:
    """Raft addresses by replica id; embedded there is one, without an address."""
    if not config.replicas:
        return {replica_id: ("", 0)}
    return {each.replica_id: (each.raft.host, each.raft.port) for each in config.replicas}


def _timing(config: Config) -> Timing:
    """An entry holds one batch, or one message that is larger than that by itself."""
    return Timing(
        heartbeat_ms=config.raft.heartbeat_ms,
        election_min_ms=config.raft.election_min_ms,
        election_max_ms=config.raft.election_max_ms,
        fallback_ms=config.raft.fallback_ms,
        entry_bytes_max=2 * max(config.limits.batch_bytes, config.limits.message_bytes),
    )
