"""What the service stands on, in the hands of a test: time, consensus, and a replica of both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raftalloc.core.codec import encode_entry
from raftalloc.core.commands import Allocate, Asked, Command, Entry, RegisterNode
from raftalloc.errors import NoLeader, NotLeader
from raftalloc.service.clock import ClusterClock
from raftalloc.service.engine import Engine
from raftalloc.service.submit import Submitter
from raftalloc.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import EventStore, Seat
    from raftalloc.service.engine import Decided
    from raftalloc.service.retention import Retention
    from raftalloc.service.submit import Answer

CLUSTER = "tests"
ME = "r1"


class FakeTimer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    """Time that passes only by `advance`. Wall and monotonic time move together until a test says otherwise."""

    def __init__(self, wall_ms: int = 1_000_000) -> None:
        self.now = 0.0
        self.wall = wall_ms
        self._due: list[tuple[float, Callable[[], object], FakeTimer]] = []

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        self.call_later(seconds, wake)
        await woken

    def call_later(self, seconds: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer()
        self._due.append((self.now + seconds, callback, timer))
        return timer

    def call_soon(self, callback: Callable[[], object]) -> FakeTimer:
        return self.call_later(0.0, callback)

    async def advance(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass in small steps, and everybody do what they would."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            before = self.now
            self.now = min(end, self.now + step)
            self.wall += round(self.now * 1000) - round(before * 1000)
            due = [item for item in self._due if item[0] <= self.now + 1e-9]
            self._due = [item for item in self._due if item[0] > self.now + 1e-9]
            for _, callback, timer in due:
                if not timer.is_cancelled:
                    callback()
            await settle()


async def settle() -> None:
    """Let every task run until it waits for something that will not come by itself."""
    for _ in range(20):
        await asyncio.sleep(0)


class FakeConsensus:
    """A log of its own: an entry is applied at once, or when `gate` opens; every third index is Raft's own."""

    def __init__(self, apply: Callable[[int, bytes], object]) -> None:
        self.apply = apply
        self.is_leader = True
        self.role = "leader"
        self.leader_id = ME
        self.term = 1
        self.commit_index = 0
        self.applied_index = 2
        self.proposed: list[bytes] = []
        self.compacted: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail_with: Exception | None = None

    async def start(self) -> None:
        """Nothing to start."""

    async def add_member(self, seat: Seat) -> int:
        raise AssertionError(f"{seat} in a group of one")

    async def remove_member(self, replica_id: str) -> int:
        raise AssertionError(f"{replica_id} in a group of one")

    async def replace_member(self, replica_id: str) -> int:
        raise AssertionError(f"{replica_id} in a group of one")

    def progress(self) -> dict[str, tuple[int, float]]:
        return {}

    @property
    def members(self) -> tuple[Seat, ...]:
        return (Seat(ME, "", "", "", is_voter=True, incarnation=b""),)

    async def read_index(self) -> int:
        return self.applied_index

    async def stop(self) -> None:
        """Nothing to stop."""

    async def transfer(self, to_replica_id: str) -> str:
        raise AssertionError("not here")

    def compact(self, index: int) -> None:
        self.compacted.append(index)

    def follow(self, leader_id: str) -> None:
        self.is_leader, self.role, self.leader_id = False, "follower", leader_id

    def lead(self) -> None:
        self.is_leader, self.role, self.leader_id = True, "leader", ME
        self.term += 1

    async def propose(self, entry: bytes) -> object:
        if not self.is_leader:
            raise NotLeader(self.leader_id) if self.leader_id else NoLeader("nobody")
        self.proposed.append(entry)
        await self.gate.wait()
        if self.fail_with is not None:
            raise self.fail_with
        return self.decide(entry)

    def decide(self, entry: bytes) -> object:
        self.applied_index += 2 if self.applied_index % 3 == 0 else 1
        self.commit_index = self.applied_index
        return self.apply(self.applied_index, entry)


class Replica:
    """Engine, consensus and submitter over one store and one clock."""

    def __init__(
        self,
        store: EventStore | None = None,
        *,
        clock: FakeClock | None = None,
        snapshot_entries: int = 1_000_000,
        cluster_id: str = CLUSTER,
        retention: Retention | None = None,
        **limits: int,
    ) -> None:
        self.store = store or MemoryStore()
        self.clock = clock or FakeClock()
        self.fatal: list[BaseException] = []
        self.decided: list[Decided] = []
        self.engine = Engine(
            store=self.store,
            replica_id=ME,
            cluster_id=cluster_id,
            snapshot_entries=snapshot_entries,
            on_fatal=self.fatal.append,
            retention=retention,
        )
        self.engine.subscribe(self.decided.append)
        self.cluster_clock = ClusterClock(self.clock)
        self.consensus = FakeConsensus(self.engine.apply)
        self.submitter = Submitter(
            engine=self.engine,
            consensus=self.consensus,
            clock=self.cluster_clock,
            replica_id=ME,
            **limits,  # type: ignore[arg-type]  # numbers, all of them
        )

    async def open(self) -> Replica:
        await self.engine.recover()
        self.consensus.applied_index = max(2, self.engine.index)
        return self

    async def submit(self, *commands: Command) -> Answer:
        return await self.submitter.submit([Asked(command) for command in commands])

    async def close(self) -> None:
        await self.submitter.close()
        await self.engine.close()

    def asked_agents(self, first: int = 0) -> list[str]:
        """The agents of the Allocates of every entry from the `first` on."""
        return [
            one.command.agent_id
            for item in self.decided[first:]
            for one in item.asked
            if isinstance(one.command, Allocate)
        ]

    @property
    def commands(self) -> list[list[str]]:
        """The names of the commands of every entry that was decided here."""
        return [[type(one.command).__name__ for one in item.asked] for item in self.decided]


def entry_of(*commands: Command, at_ms: int = 1_000_000, proposer: str = ME) -> bytes:
    return encode_entry(Entry(at_ms, proposer, tuple(Asked(command) for command in commands)))


def node(node_id: str = "n1", cpu: int = 64, *, static: bool = True) -> RegisterNode:
    return RegisterNode(
        node_id=node_id, provider=False, capacity=(("cpu", cpu * 1000),), static=static
    )


def ask(
    agent_id: str = "a1",
    *,
    cpu: int = 1,
    workflow_id: str = "w1",
    duration_ms: int = 0,
    lease_ttl_ms: int = 0,
    wait_ms: int = 0,
    count: int = 1,
) -> Allocate:
    return Allocate(
        agent_id=agent_id,
        agent_type="a",
        workflow_id=workflow_id,
        priority=2,
        demand=(("cpu", cpu * 1000),),
        duration_ms=duration_ms,
        lease_ttl_ms=lease_ttl_ms,
        wait_ms=wait_ms,
        count=count,
    )
