"""One replica, put together: parts below (parts.py), the API above.

parts -> servicers -> gate, routing (backend.py) -> gRPC and HTTP ports (main.py), or this process (embedded.py)
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from raftalloc.core import commands, views
from raftalloc.core.events import NODE_STATE_NAMES
from raftalloc.errors import RaftallocError, ReplicaFailed
from raftalloc.server.backend import Backend
from raftalloc.server.forward import Forwarder
from raftalloc.server.interceptors import Gate
from raftalloc.server.parts import Opener
from raftalloc.server.past import PastReads
from raftalloc.server.rpc import table
from raftalloc.server.servicers.admin import AdminServicer
from raftalloc.server.servicers.allocator import AllocatorServicer
from raftalloc.server.servicers.events import EventsServicer
from raftalloc.server.servicers.fleet import FleetServicer
from raftalloc.server.servicers.queue import QueueServicer
from raftalloc.server.servicers.quotas import QuotasServicer
from raftalloc.server.servicers.reservations import ReservationsServicer
from raftalloc.server.servicers.simulation import SimulationServicer
from raftalloc.server.servicers.usage import UsageServicer
from raftalloc.server.servicers.writes import Writer
from raftalloc.telemetry.logs import get_logger
from raftalloc.telemetry.metrics import Metrics, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.config import Config
    from raftalloc.ports import Clock
    from raftalloc.server.parts import Parts, Ports

APPLY_LAG_MAX: Final = 1_000
"""Entries that may be committed and not applied yet while the replica still calls itself ready."""
LEAD_POLL_SECONDS: Final = 0.002
_POLICIES: Final = {name: policy for policy, name in commands.POLICY_NAMES.items()}
log = get_logger(__name__)


def installed_version() -> str:
    """Of this software."""
    try:
        return version("raftalloc")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "0"


class RunningReplica:
    """One replica at work. Made by `open_replica`."""

    def __init__(
        self, replica_id: str, parts: Parts, backend: Backend, metrics: Metrics, clock: Clock
    ) -> None:
        """Nothing is opened here."""
        self._clock = clock
        self.replica_id = replica_id
        self.backend = backend
        self.metrics = metrics
        self.failure: BaseException | None = None
        self._engine = parts.engine
        self._consensus = parts.consensus
        self._submitter = parts.submitter
        self._ticker = parts.ticker
        self._watches = parts.watches
        self._gossip = parts.gossip
        self._digests = parts.digests
        self._quarantine = parts.quarantine
        self._opened = AsyncExitStack()

    def health(self) -> str:
        """What is wrong for good, or empty."""
        if self.failure is not None:
            return f"stopped: {self.failure}"
        return self._quarantine.reason

    def ready(self) -> str:
        """Why this replica cannot serve at the moment, or empty."""
        if self.health():
            return self.health()
        if not self._consensus.leader_id:
            return "no leader is known"
        if self._consensus.leader_id == self.replica_id and not self._ticker.has_lead:
            return "it is about to take the lead"
        if self._consensus.is_paused:
            return "it is taking its state from the leader"
        lag = self._consensus.commit_index - self._consensus.applied_index
        if lag > APPLY_LAG_MAX:
            return f"{lag} entries are still to be applied"
        return ""

    async def led(self) -> None:
        """Wait until this replica leads and takes commands: alone, that is a matter of milliseconds."""
        while not self._ticker.has_lead:
            if self.health():
                raise ReplicaFailed(self.health()) from self.failure
            await self._clock.sleep(LEAD_POLL_SECONDS)

    def sample(self) -> Sample:
        """How it is now, for the metrics. O(nodes x kinds)."""
        engine, consensus = self._engine, self._consensus
        state = engine.state
        fleet, usage = state.fleet, views.utilization(state)
        diverged = self._quarantine.divergence
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
            divergence_index=0 if diverged is None else diverged.index,
            agreed_index=self._digests.agreed_index,
            differing=len(self._digests.differing),
        )

    async def hand_over(self) -> None:
        """If this replica leads others, let one of them lead, so that nobody waits for an election."""
        if not self._consensus.others or not self._ticker.has_lead or self.failure is not None:
            return
        try:
            leader_id = await self._consensus.transfer("")
        except RaftallocError as error:
            log.info("nobody took the lead over", why=str(error))
        else:
            log.info("handed the lead over", leader=leader_id)

    def end_streams(self) -> None:
        """End every Events.Watch: they would go on for ever."""
        self.backend.close()
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
        parts = await Opener(
            config, replica_id, ports, metrics, failed, opening, installed_version()
        ).open(directory)
        backend = _backend(config, ports, parts, metrics, opening)
        replica = RunningReplica(replica_id, parts, backend, metrics, ports.clock)
        replica.failure = failures[0] if failures else None
        metrics.observe(replica.sample)
        replica.keep(opening.pop_all())
    return replica


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
    forwarder = Forwarder(config.tls_files(parts.leadership.replica_id))
    opening.push_async_callback(forwarder.close)
    quarantine = parts.quarantine
    past = PastReads(parts.past, parts.clock)
    rpcs = table(_servicers(config, ports, parts, past))
    return Backend(
        rpcs=rpcs,
        gate=gate,
        leadership=parts.leadership,
        forwarder=forwarder,
        closed=lambda: quarantine.reason,
        past=past,
    )


def _servicers(config: Config, ports: Ports, parts: Parts, past: PastReads) -> Mapping[str, object]:
    """One for each service of the protos, by its name."""
    engine, writer = parts.engine, Writer(parts.submitter)
    return {
        "Allocator": AllocatorServicer(
            engine=engine,
            writer=writer,
            queries=parts.queries,
            default_policy=_POLICIES[config.placement.policy],
            past=past,
        ),
        "Usage": UsageServicer(engine=engine, clock=parts.clock),
        "Reservations": ReservationsServicer(engine=engine, writer=writer),
        "Fleet": FleetServicer(
            engine=engine,
            writer=writer,
            ticker=parts.ticker,
            heartbeat_timeout_ms=config.fleet.heartbeat_timeout_ms,
        ),
        "Quotas": QuotasServicer(engine=engine, writer=writer),
        "Queue": QueueServicer(engine=engine, writer=writer),
        "Events": EventsServicer(watches=parts.watches, queries=parts.queries),
        "Admin": AdminServicer(
            config=config,
            engine=engine,
            store=parts.store,
            consensus=parts.consensus,
            leadership=parts.leadership,
            gossip=parts.gossip,
            writer=writer,
            clock=ports.clock,
            version=installed_version(),
        ),
        "Simulation": SimulationServicer(past=past),
    }
