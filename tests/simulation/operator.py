"""Whoever looks after the group: adds replicas, removes them, and replaces one that has lost its disk.

One change at a time, asked for again until the group says that it is so, on whatever replica claims to lead. Of a group
that is whole a disk may be lost at any moment; the next only once that one has its vote again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Seat
    from tests.simulation.dice import Dice
    from tests.simulation.member import Life

ATTEMPT_SECONDS = 1.5
VOTERS_MAX = 6


class Place(Protocol):
    """What the operator does to the world."""

    lives: dict[str, Life]
    ids: list[str]

    def start(self, replica_id: str) -> None:
        """Begins a new process, unless there is one."""

    def lose_disk(self, replica_id: str) -> None:
        """It dies, and comes back with an empty disk."""

    def new_replica(self) -> str:
        """Another machine, with an empty disk."""

    def retire(self, replica_id: str) -> None:
        """Its machine is taken away."""

    async def sleep(self, seconds: float) -> None:
        """Wait, on the world's time."""

    def fault(self, name: str, story: str) -> None:
        """For the report."""


class Operator:
    """One change after the other."""

    def __init__(self, place: Place, dice: Dice, changes: tuple[str, ...], seconds: float) -> None:
        self._place, self._dice, self._changes, self._seconds = place, dice, changes, seconds
        self.is_stopping = False
        self.is_idle = True

    async def run(self) -> None:
        """Until it is told to stop, and has ended what it began."""
        while not self.is_stopping and self._changes:
            await self._place.sleep(self._dice.expovariate(1 / self._seconds))
            if self.is_stopping:
                return
            self.is_idle = False
            await self._one(self._dice.choice(self._changes))
            self.is_idle = True

    async def _one(self, what: str) -> None:
        place, ids = self._place, self._place.ids
        if what == faults.ADD and len(ids) < VOTERS_MAX:
            replica_id = place.new_replica()
            place.fault(what, replica_id)
            if self._dice.happens(0.7):
                place.start(replica_id)
            await self._until(lambda seats: replica_id in seats, "add", replica_id)
            place.start(replica_id)
            await self._until(lambda seats: _votes(seats, replica_id), "", replica_id)
        elif what == faults.REMOVE and len(ids) > 3:
            replica_id = self._dice.choice(ids)
            if not self._is_dispensable(replica_id):
                return
            place.fault(what, replica_id)
            await self._until(lambda seats: replica_id not in seats, "remove", replica_id)
            place.retire(replica_id)
        elif what == faults.LOST_DISK and len(ids) >= 3:
            # Until its seat is taken from it, an old disk and an empty one go by the same name.
            replica_id = self._dice.choice(ids)
            if not self._is_dispensable(replica_id):
                return
            place.fault(what, replica_id)
            old = await self._incarnation(replica_id)
            place.lose_disk(replica_id)
            if self._dice.happens(0.7):
                place.start(replica_id)
            await place.sleep(self._dice.choice((0.0, 0.5, 2.0)))
            await self._until(
                lambda seats: seats[replica_id].incarnation != old, "replace", replica_id
            )
            place.start(replica_id)
            await self._until(lambda seats: _votes(seats, replica_id), "", replica_id)

    def _is_dispensable(self, replica_id: str) -> bool:
        """Whether another has all of the history: a new replica fetches it after it has its vote.

        Who is behind may yet take a snapshot, and then has a gap too.
        """
        there = {name: life for name, life in self._place.lives.items() if life.is_open}
        latest = max((life.engine.index for life in there.values()), default=0)
        return any(
            life.engine.gaps.wanted is None and life.engine.index == latest
            for name, life in there.items()
            if name != replica_id
        )

    async def _incarnation(self, replica_id: str) -> bytes:
        found: list[bytes] = []

        def look(seats: dict[str, Seat]) -> bool:
            found.append(seats[replica_id].incarnation)
            return True

        await self._until(look, "", replica_id)
        return found[-1]

    async def _until(
        self, so: Callable[[dict[str, Seat]], bool], what: str, replica_id: str
    ) -> None:
        """Ask until a leader that is sure of itself says that it is so."""
        while True:
            for life in self._leaders():
                if await self._try(life, life.read()) is not None:
                    seats = {seat.replica_id: seat for seat in life.raft.members}
                    if so(seats):
                        return
                    if what:
                        await self._try(life, life.change(what, replica_id))
            await self._place.sleep(self._dice.uniform(0.05, 0.3))

    def _leaders(self) -> list[Life]:
        lives = self._place.lives.values()
        return [life for life in lives if life.is_open and life.raft.is_leader]

    async def _try(self, life: Life, asked: Any) -> Any:
        """What it answers; None where it does not."""
        task = life.clock.spawn(asked, "operator")
        await asyncio.wait([task], timeout=ATTEMPT_SECONDS)
        if not task.done():
            task.cancel()
            return None
        if task.cancelled() or task.exception() is not None or life.clock.is_paused:
            return None
        return task.result()


def _votes(seats: dict[str, Seat], replica_id: str) -> bool:
    return replica_id in seats and seats[replica_id].is_voter
