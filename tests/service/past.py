"""Past states in a test: a reader without a process, and a replica whose log was walked at random."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import msgpack

from raftalloc.core.codec import encode_entry
from raftalloc.core.commands import BEST_FIT
from raftalloc.server.reader import Reader
from raftalloc.service.past import PastStates
from tests.core.dice import SeededDice
from tests.core.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.storage.memory import MemoryStore
    from tests.service.fakes import Replica


class MemorySnapshots:
    """Of a MemoryStore, as the reader finds them on its disk."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def indices(self) -> list[int]:
        return sorted(self._store._snapshots, reverse=True)

    def load_at(self, index: int) -> tuple[int, bytes, bytes] | None:
        found = [each for each in self._store._snapshots if each <= index]
        return (max(found), *self._store._snapshots[max(found)]) if found else None


class FakeChild:
    """A reader in this process. `silent`: it hears, and says nothing."""

    pid = 1

    def __init__(self, store: MemoryStore, spawn: FakeSpawn) -> None:
        self._reader = Reader(MemorySnapshots(store), default_policy=BEST_FIT)
        self._spawn = spawn
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_dead = False

    async def send(self, frame: bytes) -> None:
        if self.is_dead:
            raise EOFError
        method, arguments = msgpack.unpackb(frame)
        self._spawn.frames.append(method)
        if self._spawn.silent:
            return
        answer = await self._reader.answer(method, arguments)
        await self._answers.put(msgpack.packb(answer))

    async def receive(self) -> bytes:
        answer = await self._answers.get()
        if answer is None:
            raise EOFError
        return answer

    async def stop(self) -> None:
        await self.kill()

    async def kill(self) -> None:
        self.is_dead = True
        await self._answers.put(None)


class FakeSpawn:
    """Starts readers without a process. frames: what all of them were asked."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.children: list[FakeChild] = []
        self.frames: list[str] = []
        self.silent = False

    async def child(self, module: str, arguments: Sequence[str]) -> FakeChild:
        self.children.append(FakeChild(self._store, self))
        return self.children[-1]


def past_of(replica: Replica, store: MemoryStore, **settings: Any) -> tuple[PastStates, FakeSpawn]:
    """The past states of a replica on this store."""
    spawn = FakeSpawn(store)
    states = PastStates(
        engine=replica.engine,
        store=store,
        spawn=spawn,
        clock=replica.clock,
        cluster_clock=replica.cluster_clock,
        program=("reader",),
        **settings,
    )
    return states, spawn


@functools.cache
def walked(seed: int, steps: int = 60) -> list[bytes]:
    """The entries of a random walk through everything that can be asked."""
    walk, dice = Walk(judged=False), SeededDice(seed)
    walk.begin(dice)
    for _ in range(steps):
        walk.step(dice)
    walk.flush()
    return [encode_entry(entry) for entry in walk.rig.log]
