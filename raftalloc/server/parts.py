"""What a replica is made of, below the API: store, state, consensus, the way into the log, and the reads.

    directory -> store -> engine -> consensus -> submitter -> ticker, watches, queries

Each part is given what it stands on; whatever is opened is noted at once, so that it is closed in the opposite order,
also where a later part fails to open.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.core import commands
from raftalloc.core.commands import SetQueue
from raftalloc.errors import RaftallocError
from raftalloc.ports import Seat
from raftalloc.raft.beside import Beside
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.local import LocalNetwork
from raftalloc.raft.timing import Timing
from raftalloc.security.contexts import TlsContexts
from raftalloc.server.leadership import Leadership
from raftalloc.server.measured import MeasuredLogDisk, MeasuredReplica, MeasuredStore
from raftalloc.server.quarantine import Quarantine
from raftalloc.service.backfill import Backfill
from raftalloc.service.clock import ClusterClock
from raftalloc.service.digests import Digests
from raftalloc.service.engine import Engine, EntryFailed
from raftalloc.service.gossip import Gossip
from raftalloc.service.images import Images
from raftalloc.service.past import PastStates
from raftalloc.service.query import Queries
from raftalloc.service.retention import Retention
from raftalloc.service.skips import Skips
from raftalloc.service.submit import Submitter
from raftalloc.service.ticker import Ticker
from raftalloc.service.watch import Watches
from raftalloc.storage.directory import mark_stopped, open_directory, stopped_at
from raftalloc.storage.process import open_process_store
from raftalloc.storage.rocks import RocksStore
from raftalloc.system import SystemClock, SystemDisk, SystemNet, SystemRng, SystemSpawn
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from raftalloc.config import Config
    from raftalloc.ports import (
        Clock,
        Disk,
        EventReader,
        LogDisk,
        Net,
        PrunableStore,
        Rng,
        Spawn,
    )
    from raftalloc.storage.directory import DataDirectory
    from raftalloc.telemetry.metrics import Metrics


logger = get_logger(__name__)

DAY_MS: Final = 86_400_000
_BACKFILLS: Final = {name: number for number, name in commands.BACKFILL_NAMES.items()}
_PREEMPTIONS: Final = {name: number for number, name in commands.PREEMPTION_NAMES.items()}
_ORDERS: Final = {name: order for order, name in commands.ORDER_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside (ports.py); production's by default."""

    clock: Clock
    disk: Disk
    log_disk: LogDisk
    net: Net | LocalNetwork
    rng: Rng
    spawn: Spawn


def system_ports(*, clock: Clock | None = None, net: Net | LocalNetwork | None = None) -> Ports:
    """This machine, but for what is given."""
    return Ports(
        clock or SystemClock(),
        SystemDisk(),
        SystemLogDisk(),
        net or SystemNet(),
        SystemRng(),
        SystemSpawn(),
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What a replica is made of. store: what readers may see of it."""

    store: EventReader
    engine: Engine
    consensus: MeasuredReplica
    submitter: Submitter
    ticker: Ticker
    queries: Queries
    watches: Watches
    leadership: Leadership
    clock: ClusterClock
    past: PastStates
    digests: Digests
    gossip: Gossip
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the parts of one replica. failed: hears what stops it for good. opening: what is to be closed again."""

    config: Config
    replica_id: str
    ports: Ports
    metrics: Metrics
    failed: Callable[[BaseException], None]
    opening: AsyncExitStack
    version: str = "0"

    async def open(self, path: str) -> Parts:
        """Everything, started, on the data directory `path`. Raises ConfigError, DataDirectoryError."""
        directory = open_directory(
            self.ports.disk,
            path,
            cluster_id=self.config.cluster_id,
            replica_id=self.replica_id,
        )
        self.opening.callback(directory.close)
        store = await self._store(directory)
        engine = await self._engine(store)
        cluster_clock = ClusterClock(self.ports.clock)
        quarantine = Quarantine(self.ports.disk, directory.path)
        gossip = self._gossip(directory, engine, quarantine)
        images = Images(engine=engine, store=store, cluster_id=self.config.cluster_id)
        consensus = self._consensus(directory, engine, cluster_clock, gossip, images)
        engine.on_durable = consensus.compact
        backfill = Backfill(engine=engine, peers=consensus, clock=self.ports.clock)
        self.opening.push_async_callback(backfill.close)
        submitter = self._submitter(engine, consensus, cluster_clock)
        ticker = self._ticker(engine, consensus, submitter, cluster_clock)
        watches = self._watches(engine)
        for leave in (ticker.close, submitter.close, consensus.stop, watches.close):
            quarantine.on_leave(leave)
        addresses = {each.replica_id: str(each.grpc) for each in self.config.replicas}
        consensus.on_lead = ticker.wake
        await consensus.start()
        await ticker.start()
        backfill.start()
        return Parts(
            store=engine.history,
            engine=engine,
            consensus=consensus,
            submitter=submitter,
            ticker=ticker,
            queries=Queries(engine=engine, store=engine.history),
            watches=watches,
            leadership=Leadership(
                replica_id=self.replica_id,
                addresses=addresses,
                consensus=consensus,
                ticker=ticker,
            ),
            clock=cluster_clock,
            past=self._past(directory, engine, cluster_clock),
            digests=gossip.digests,
            gossip=gossip,
            quarantine=quarantine,
        )

    async def _store(self, directory: DataDirectory) -> PrunableStore:
        """Where the configuration wants it: in a process of its own, or here."""
        inner: PrunableStore
        if self.config.storage.event_store == "process":
            inner = await open_process_store(self.ports.spawn, directory.events_path)
        else:
            inner = RocksStore(self.ports.disk, directory.events_path)
        store = MeasuredStore(inner, self.ports.clock, self.metrics)
        self.opening.push_async_callback(store.close)
        return store

    async def _engine(self, store: PrunableStore) -> Engine:
        """The state, as far as the store has it."""
        storage = self.config.storage
        engine = Engine(
            store=store,
            replica_id=self.replica_id,
            cluster_id=self.config.cluster_id,
            snapshot_entries=storage.snapshot_entries,
            on_fatal=self.failed,
            retention=Retention(
                store,
                age_ms_max=storage.retention_days * DAY_MS,
                bytes_max=storage.retention_gb << 30,
            ),
        )
        self.opening.push_async_callback(engine.close)
        await engine.recover()
        decided = self.metrics.decided
        engine.subscribe(lambda entry: decided(len(entry.asked), entry.happened))
        return engine

    def _stopped(self, directory: DataDirectory, gossip: Gossip, error: BaseException) -> None:
        """Where an entry did it, note which: the next start is careful with it, and so is `raftalloc log skip`."""
        if isinstance(error, EntryFailed):
            others = gossip.skips.skippers(error.index)
            if others:
                names = ", ".join(others)
                logger.error(
                    "others have skipped this entry: skip it here too",
                    index=error.index,
                    replicas=names,
                )
            with suppress(OSError, RaftallocError):
                mark_stopped(self.ports.disk, directory.path, index=error.index, reason=str(error))
        self.failed(error)

    def _gossip(self, directory: DataDirectory, engine: Engine, quarantine: Quarantine) -> Gossip:
        """What is told to the others, and heard of them."""
        skips = Skips(
            clock=self.ports.clock,
            stopped_at=stopped_at(self.ports.disk, directory.path),
        )
        digests = Digests(
            engine=engine,
            clock=self.ports.clock,
            group_size=skips.group_size,
            on_diverged=quarantine.diverged,
        )
        return Gossip(digests=digests, skips=skips, version=self.version)

    def _consensus(
        self,
        directory: DataDirectory,
        engine: Engine,
        cluster_clock: ClusterClock,
        gossip: Gossip,
        images: Images,
    ) -> MeasuredReplica:
        """A member of the group; not started."""
        consensus = MeasuredReplica(
            replica_id=self.replica_id,
            peers=self._peers(),
            cluster_id=self.config.cluster_id,
            directory=directory.raft_path,
            log_disk=MeasuredLogDisk(self.ports.log_disk, self.ports.clock, self.metrics),
            clock=self.ports.clock,
            net=self.ports.net,
            rng=self.ports.rng,
            apply=engine.apply,
            on_fatal=lambda error: self._stopped(directory, gossip, error),
            stamp=cluster_clock.now_ms,
            hear=cluster_clock.hear,
            beside=Beside(
                say=gossip.say,
                listen=gossip.hear,
                skip=engine.skip,
                may_apply=gossip.skips.may_apply,
            ),
            timing=self._timing(),
            security=self._security(),
            seats=self._seats(),
            count=self.metrics.link,
            machine=images,
        )
        consensus.metrics = self.metrics
        gossip.skips.attach(consensus)
        self.opening.push_async_callback(consensus.stop)
        return consensus

    def _submitter(
        self, engine: Engine, consensus: MeasuredReplica, cluster_clock: ClusterClock
    ) -> Submitter:
        limits = self.config.limits
        submitter = Submitter(
            engine=engine,
            consensus=consensus,
            clock=cluster_clock,
            replica_id=self.replica_id,
            batch_commands=limits.batch_commands,
            batch_bytes=limits.batch_bytes,
            queue_commands=limits.queue_commands,
            initial=(initial_queue(self.config),),
        )
        self.opening.push_async_callback(submitter.close)
        return submitter

    def _ticker(
        self,
        engine: Engine,
        consensus: MeasuredReplica,
        submitter: Submitter,
        cluster_clock: ClusterClock,
    ) -> Ticker:
        ticker = Ticker(
            engine=engine,
            consensus=consensus,
            submitter=submitter,
            clock=self.ports.clock,
            cluster_clock=cluster_clock,
            replica_id=self.replica_id,
            heartbeat_timeout_ms=self.config.fleet.heartbeat_timeout_ms,
        )
        self.opening.push_async_callback(ticker.close)
        return ticker

    def _watches(self, engine: Engine) -> Watches:
        watches = Watches(
            engine=engine,
            store=engine.history,
            clock=self.ports.clock,
            watchers_max=self.config.limits.watchers,
            buffer_entries=self.config.limits.watch_buffer_entries,
        )
        self.opening.callback(watches.close)
        return watches

    def _past(
        self,
        directory: DataDirectory,
        engine: Engine,
        cluster_clock: ClusterClock,
    ) -> PastStates:
        policy = self.config.placement.policy
        past = PastStates(
            engine=engine,
            store=engine.history,
            spawn=self.ports.spawn,
            clock=self.ports.clock,
            cluster_clock=cluster_clock,
            program=(
                "raftalloc.server.reader",
                str(Path(directory.events_path).absolute()),
                policy,
            ),
        )
        self.opening.push_async_callback(past.close)
        return past

    def _security(self) -> TlsContexts | None:
        """TLS between members; none where there are no sockets."""
        files = self.config.tls_files(self.replica_id)
        if files is None or isinstance(self.ports.net, LocalNetwork):
            return None
        return TlsContexts(files)

    def _peers(self) -> dict[str, tuple[str, int]]:
        """Raft addresses by replica id; embedded there is one, without an address."""
        if not self.config.replicas:
            return {self.replica_id: ("", 0)}
        return {each.replica_id: (each.raft.host, each.raft.port) for each in self.config.replicas}

    def _seats(self) -> tuple[Seat, ...]:
        """Of the group's first members; none where embedded."""
        return tuple(
            Seat(
                replica_id=each.replica_id,
                raft=str(each.raft),
                grpc=str(each.grpc),
                http=str(each.http),
                is_voter=True,
                incarnation=b"",
            )
            for each in sorted(self.config.replicas, key=lambda each: each.replica_id)
        )

    def _timing(self) -> Timing:
        """An entry holds one batch, or one message that is larger than that by itself."""
        raft, limits = self.config.raft, self.config.limits
        return Timing(
            heartbeat_ms=raft.heartbeat_ms,
            election_min_ms=raft.election_min_ms,
            election_max_ms=raft.election_max_ms,
            entry_bytes_max=2 * max(limits.batch_bytes, limits.message_bytes),
            segment_bytes=raft.segment_bytes,
            tail_entries=raft.tail_entries,
            tail_bytes=raft.tail_bytes,
        )


def initial_queue(config: Config) -> SetQueue:
    """How a new group is to serve its queue."""
    queue = config.queue
    return SetQueue(
        initial=True,
        order=_ORDERS[queue.order],
        ageing_ms=queue.ageing_ms,
        backfill=_BACKFILLS[queue.backfill],
        depth=queue.backfill_depth,
        preemption=_PREEMPTIONS[queue.preemption],
        grace_ms=queue.grace_ms,
        min_run_ms=queue.min_run_ms,
        per_hour=queue.preemptions_per_hour,
    )
