"""A group of bare replicas for tests: each notes what it applies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from raftalloc.ports import Image
from raftalloc.raft.disk import SystemLogDisk
from raftalloc.raft.local import LocalNetwork
from raftalloc.raft.replica import Replica
from raftalloc.raft.timing import Timing
from raftalloc.security.contexts import TlsContexts
from raftalloc.system import SystemClock, SystemNet, SystemRng
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from raftalloc.ports import LogDisk, Net

CLOCK = SystemClock()
TIMING = Timing(heartbeat_ms=30, election_min_ms=300, election_max_ms=600)


class ListMachine:
    """A `ports.Machine` whose state is the list of all that was applied; it survives restarts, as a disk does."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.durable: Image | None = None
        self.kept: Image | None = None
        self.adopted: list[int] = []

    @property
    def index(self) -> int:
        return self.applied[-1][0] if self.applied else 0

    def installed(self) -> Image | None:
        return self.kept

    def begin(self, first_index: int) -> int:
        return max(self.index, first_index - 1 if not self.applied and not self.durable else 0)

    def take(self) -> int:
        """A snapshot of now; answers its index."""
        state = b"\n".join(b"%d %s" % item for item in self.applied)
        self.durable = Image(self.index, 0, b"", b"manifest", state)
        return self.index

    async def image(self, at_least: int) -> Image | None:
        found = self.durable
        return found if found is not None and found.index >= at_least else None

    async def keep(self, image: Image) -> None:
        await CLOCK.sleep(0.001)
        self.kept = self.durable = image

    def adopt(self, image: Image) -> None:
        lines = (line.split(b" ", 1) for line in image.state.split(b"\n"))
        self.applied[:] = [(int(index), entry) for index, entry in lines]
        self.adopted.append(image.index)


class Group:
    """Replicas a, b, c ... over one network; `applied[id]` is what each was given, in order."""

    def __init__(
        self, directory: Path, size: int, ports: list[int] | None = None, *, tls: bool = True
    ) -> None:
        """Over TCP where there are ports: with TLS, or without."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(directory / "certs", "tests") if ports and tls else None
        self.counted: Counter[tuple[str, str, str]] = Counter()
        self.ids = [chr(ord("a") + number) for number in range(size)]
        self.net: Net | LocalNetwork = SystemNet() if ports else LocalNetwork(CLOCK)
        self.peers = {
            replica_id: ("127.0.0.1", ports[number] if ports else 0)
            for number, replica_id in enumerate(self.ids)
        }
        self.applied: dict[str, list[tuple[int, bytes]]] = {name: [] for name in self.ids}
        self.heard: dict[str, list[int]] = {name: [] for name in self.ids}
        self.fatal: list[tuple[str, BaseException]] = []
        self.replicas: dict[str, Replica] = {}
        self.on_apply: Callable[[str, int, bytes], None] = lambda replica_id, index, entry: None
        self.machines: dict[str, ListMachine] = {}

    @property
    def network(self) -> LocalNetwork:
        assert isinstance(self.net, LocalNetwork)
        return self.net

    def join(self, replica_id: str) -> None:
        """Another replica, whose file names the group and itself."""
        self.ids.append(replica_id)
        self.peers = {**self.peers, replica_id: ("127.0.0.1", 0)}
        self.applied[replica_id], self.heard[replica_id] = [], []

    def disk_of(self, replica_id: str) -> LogDisk:
        return SystemLogDisk()

    def contexts(self, replica_id: str) -> TlsContexts | None:
        return TlsContexts(self.authority.replica(replica_id)) if self.authority else None

    def make(self, replica_id: str, timing: Timing = TIMING) -> Replica:
        directory = self.directory / replica_id
        directory.mkdir(parents=True, exist_ok=True)

        def apply(index: int, entry: bytes) -> object:
            self.on_apply(replica_id, index, entry)
            if not self.machines or index > self.machines[replica_id].index:
                self.applied[replica_id].append((index, entry))
            return (replica_id, index)

        def count(kind: str, reason: str) -> None:
            self.counted[replica_id, kind, reason] += 1

        return Replica(
            replica_id=replica_id,
            peers=self.peers,
            cluster_id="tests",
            directory=str(directory),
            log_disk=self.disk_of(replica_id),
            clock=CLOCK,
            net=self.net,
            rng=SystemRng(),
            apply=apply,
            on_fatal=lambda error: self.fatal.append((replica_id, error)),
            stamp=lambda: 4711,
            hear=self.heard[replica_id].append,
            timing=timing,
            machine=self.machines.get(replica_id),
            security=self.contexts(replica_id),
            count=count,
        )

    def with_machines(self) -> None:
        """Each has a state of its own, that snapshots are taken of."""
        for replica_id in self.ids:
            machine = self.machines[replica_id] = ListMachine()
            machine.applied = self.applied[replica_id]

    def forget(self, replica_id: str) -> None:
        """Take a snapshot there, and let its log be compacted."""
        self.replicas[replica_id].compact(self.machines[replica_id].take())

    async def start(self, *replica_ids: str, timing: Timing = TIMING) -> None:
        for replica_id in replica_ids or self.ids:
            if not self.machines:
                self.applied[replica_id].clear()
            self.replicas[replica_id] = self.make(replica_id, timing)
            await self.replicas[replica_id].start()

    async def begin_without(self, replica_id: str) -> None:
        """The others run, of a group that began with all: without one of its first members none begins."""
        await self.start()
        while not all(replica.members[0].incarnation for replica in self.replicas.values()):
            await CLOCK.sleep(0.005)
        await self.stop(replica_id)

    async def stop(self, *replica_ids: str) -> None:
        for replica_id in replica_ids or list(self.replicas):
            await self.replicas.pop(replica_id).stop()

    async def leader(self, among: Iterable[str] = ()) -> Replica:
        names = list(among) or list(self.replicas)
        while True:
            leaders = [self.replicas[name] for name in names if self.replicas[name].is_leader]
            if leaders:
                return max(leaders, key=lambda replica: replica.term)
            await CLOCK.sleep(0.005)

    async def agree(self, among: Iterable[str] = ()) -> list[tuple[int, bytes]]:
        """Wait until all have applied the same; answers it."""
        names = list(among) or list(self.replicas)
        while True:
            indices = {self.replicas[name].applied_index for name in names}
            if len(indices) == 1 and len({len(self.applied[name]) for name in names}) == 1:
                logs = [self.applied[name] for name in names]
                assert all(log == logs[0] for log in logs)
                return logs[0]
            await CLOCK.sleep(0.005)
