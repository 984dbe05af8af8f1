"""A simulated replica: the engine, submitter, ticker and Raft of production on ports of the simulation."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raftalloc.core.codec import encode_entry
from raftalloc.core.commands import Asked, Entry, Tick
from raftalloc.ports import Seat
from raftalloc.raft.beside import Beside
from raftalloc.raft.replica import Replica
from raftalloc.raft.timing import Timing
from raftalloc.service.backfill import Backfill
from raftalloc.service.clock import ClusterClock
from raftalloc.service.digests import Digests
from raftalloc.service.engine import Engine
from raftalloc.service.gossip import Gossip
from raftalloc.service.images import Images
from raftalloc.service.skips import Skips
from raftalloc.service.submit import BATCH_BYTES_MAX, Submitter
from raftalloc.service.ticker import Ticker
from raftalloc.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftalloc.service.digests import Divergence
    from tests.simulation.clock import ReplicaClock
    from tests.simulation.dice import Dice
    from tests.simulation.disk import SimulatedDisk
    from tests.simulation.network import SimNetwork

CLUSTER = "simulation"
TIMING = Timing(heartbeat_ms=50, election_min_ms=300, election_max_ms=600)
DIRECTORY = "/raft"
STORE_SECONDS = 0.004
FLOOD = "flood"


class SimStore(MemoryStore):
    """The blocks survive the process; it takes its time to store them."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self._dice = dice
        self.clock: ReplicaClock | None = None
        self.slow_seconds = STORE_SECONDS
        self._synced_index = 0

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        assert self.clock is not None
        if self._dice.happens(0.2):
            await self.clock.sleep(self._dice.uniform(0.0, self.slow_seconds))
        await super().append(index, block, keys)

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """All before it is synced first; it is there as a whole, or not at all."""
        assert self.clock is not None
        await self.sync()
        await self.clock.sleep(self._dice.uniform(0.0, 4 * self.slow_seconds))
        return await super().save_snapshot(index, state, manifest)

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        assert self.clock is not None
        await super().set_note(note, blocks)
        await self.sync()
        await self.clock.sleep(self._dice.uniform(0.0, self.slow_seconds))

    def all_blocks(self) -> list[tuple[int, bytes]]:
        """Those that readers may not see yet too."""
        return [(index, self._blocks[index]) for index in self._indices]

    def spoil(self) -> int:
        """The newest snapshot cannot be read any more, if there is one to fall back to; answers its index, or 0."""
        if len(self._snapshots) < 2:
            return 0
        newest = max(self._snapshots)
        del self._snapshots[newest]
        return newest

    def wipe(self) -> None:
        """The directory is moved away."""
        self.__init__(self._dice)  # type: ignore[misc]  # as new, for all that know it

    async def sync(self) -> None:
        self._synced_index = self._indices[-1] if self._indices else 0

    def lose_power(self) -> None:
        """Some of the latest blocks are gone; a snapshot was synced, with all before it."""
        kept = self._synced_index
        newer = [index for index in self._indices if index > kept]
        lost = set(newer[self._dice.randrange(len(newer) + 1) :])
        self._indices = [index for index in self._indices if index not in lost]
        for index in lost:
            del self._blocks[index]
        for key, indices in self._keys.items():
            self._keys[key] = [index for index in indices if index not in lost]


class WatchedReplica(Replica):
    """Looked at after every tick."""

    on_turn: Callable[[], None] = staticmethod(lambda: None)

    def _tick(self, was_away: bool) -> float:
        seconds = super()._tick(was_away)
        self.on_turn()
        return seconds

    @property
    def log(self) -> Any:
        """pysyncobj's object, for the oracles; None before `start` and after `stop`."""
        return self._log


class Life:
    """One process of one replica, from its start to its end."""

    def __init__(
        self,
        replica_id: str,
        ids: Sequence[str],
        *,
        disk: SimulatedDisk,
        store: SimStore,
        clock: ReplicaClock,
        network: SimNetwork,
        dice: Dice,
        snapshot_entries: int,
        tail_entries: int,
        chunk_bytes: int,
        segment_bytes: int,
        entry_bytes_max: int,
        on_applied: Callable[[Life, int, bytes], None],
        on_fatal: Callable[[Life, BaseException], None],
        on_diverged: Callable[[Life, Divergence], None],
        on_jump: Callable[[Life], None],
        content_entries: int,
    ) -> None:
        self.replica_id = replica_id
        self.clock = clock
        self.is_open = False
        self.heard_at: dict[str, float] = {}
        """When each follower's answer of this term came last, in the world's time."""
        self.leads_since = 0.0
        self._on_applied = on_applied
        self._network = network
        self._store = store
        store.clock = clock
        network.clocks[replica_id] = clock

        def fatal(error: BaseException) -> None:
            on_fatal(self, error)

        self.engine = Engine(
            store=store,
            replica_id=replica_id,
            cluster_id=CLUSTER,
            snapshot_entries=snapshot_entries,
            on_fatal=fatal,
        )
        self.cluster_clock = ClusterClock(clock)
        self._disk = disk
        self._content_entries = content_entries
        self._on_diverged = on_diverged
        self.gossip: Gossip | None = None
        disk.timers = clock
        self.raft = WatchedReplica(
            replica_id=replica_id,
            peers=dict.fromkeys(ids, ("", 0)),
            cluster_id=CLUSTER,
            directory=DIRECTORY,
            log_disk=disk,
            clock=clock,
            net=network,
            rng=dice,
            apply=self._apply,
            on_fatal=fatal,
            stamp=self.cluster_clock.now_ms,
            hear=self.cluster_clock.hear,
            beside=Beside(
                say=lambda: b"" if self.gossip is None else self.gossip.say(),
                listen=lambda peer, data: (
                    None if self.gossip is None else self.gossip.hear(peer, data)
                ),
                skip=self.engine.skip,
            ),
            timing=replace(
                TIMING,
                segment_bytes=segment_bytes,
                entry_bytes_max=entry_bytes_max,
                tail_entries=tail_entries,
                chunk_bytes=chunk_bytes,
            ),
            machine=Images(engine=self.engine, store=store, cluster_id=CLUSTER),
        )
        self.engine.on_durable = self.raft.compact
        self.engine.on_jump(lambda: on_jump(self))
        self._backfill = Backfill(
            engine=self.engine, peers=self.raft, clock=clock, piece_bytes=8 * chunk_bytes
        )
        self.submitter = Submitter(
            engine=self.engine,
            consensus=self.raft,
            clock=self.cluster_clock,
            replica_id=replica_id,
            batch_bytes=min(BATCH_BYTES_MAX, entry_bytes_max * 2 // 3),
        )
        self.ticker = Ticker(
            engine=self.engine,
            consensus=self.raft,
            submitter=self.submitter,
            clock=clock,
            cluster_clock=self.cluster_clock,
            replica_id=replica_id,
        )

    async def open(self) -> None:
        await self.engine.recover()
        digests = Digests(
            engine=self.engine,
            clock=self.clock,
            group_size=lambda: len(self.raft.members),
            on_diverged=lambda divergence: self._on_diverged(self, divergence),
            content_entries=self._content_entries,
        )
        skips = Skips(clock=self.clock, stopped_at=0)
        skips.attach(self.raft)
        self.gossip = Gossip(digests=digests, skips=skips, version="simulated")
        self.raft.on_lead = self.ticker.wake
        await self.raft.start()
        await self.ticker.start()
        self._backfill.start()
        self.is_open = True

    async def change(self, what: str, replica_id: str) -> None:
        """Ask for a change of the group."""
        if what == "add":
            seat = Seat(replica_id, "", "", "", is_voter=False, incarnation=b"")
            await self.raft.add_member(seat)
        elif what == "remove":
            await self.raft.remove_member(replica_id)
        else:
            await self.raft.replace_member(replica_id)

    async def flood(self, entries: int) -> None:
        """Propose so many entries at once, past the submitter, which proposes one after the other."""
        at_ms = self.cluster_clock.stamp(self.engine.state.now_ms)
        entry = Entry(at_ms=at_ms, proposer=FLOOD, asked=(Asked(Tick()),))
        await asyncio.gather(
            *(self.raft.propose(encode_entry(entry)) for _ in range(entries)),
            return_exceptions=True,
        )

    async def read(self) -> int:
        """The index of the state that a read sees."""
        await self.raft.read_index()
        return self.engine.index

    def kill(self, *, power: bool = False) -> None:
        """As kill -9: what the kernel has been given stays. Without power, only what was synced."""
        self.is_open = False
        self.clock.die()
        self._network.leave(self.replica_id)
        if power:
            self._disk.cut_power()
            self._store.lose_power()
        else:
            self._disk.kill()

    def _apply(self, index: int, data: bytes) -> object:
        decided = self.engine.apply(index, data)
        self._on_applied(self, index, data)
        return decided
