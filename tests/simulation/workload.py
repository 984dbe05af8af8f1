"""Callers: each with a session, one request at a time, the same again until it knows what became of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from raftalloc.core.commands import (
    CRITICAL,
    LOW,
    Allocate,
    Asked,
    Cancel,
    CancelReservation,
    Command,
    OpenSession,
    Origin,
    RegisterNode,
    Release,
    Renew,
    Reserve,
)
from raftalloc.core.records import DONE, GRANTED, QUEUED
from raftalloc.core.rejections import KEY_EXPIRED
from raftalloc.errors import OutcomeUnknown, Overloaded, RaftallocError, Unavailable

if TYPE_CHECKING:
    from raftalloc.core.records import Outcome
    from raftalloc.service.submit import Answer
    from tests.simulation.dice import Dice
    from tests.simulation.member import Life

ATTEMPT_SECONDS = 1.5
CPU_PER_NODE = 16_000


class Place(Protocol):
    """What callers see of the world."""

    lives: dict[str, Life]
    ids: list[str]

    async def sleep(self, seconds: float) -> None:
        """Wait, on the world's time."""

    def answered(self, origin: Origin, answer: Answer, outcome: Outcome) -> None:
        """A caller knows."""

    def known_index(self) -> int:
        """Highest index that anybody was told of."""

    def has_read(self, life: Life, known_index: int, index: int) -> None:
        """A read has seen the state at `index`."""

    def count(self, what: str) -> None:
        """For the report."""


@dataclass(slots=True)
class Held:
    allocation_id: int
    token: int
    has_lease: bool


class Caller:
    """One agent."""

    def __init__(self, place: Place, dice: Dice, name: str, think_seconds: float) -> None:
        self._place, self._dice, self._name = place, dice, name
        self._think = think_seconds
        self._target = dice.choice(place.ids)
        self._sequence = 0
        self._session = 0
        self._opened = 0
        self._held: list[Held] = []
        self._waiting: list[int] = []
        self._reservations: list[int] = []
        self._now_ms = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._open_session()
        while True:
            await self._place.sleep(self._dice.expovariate(1 / self._think))
            await self._one()

    async def _open_session(self) -> None:
        while True:
            self._opened += 1
            key = f"{self._name:0>16}{self._opened:0>16}"
            outcome = await self.ask(OpenSession(), Origin(key=key))
            if outcome.status == DONE:
                break
            # A key expires too, where the group's clock jumps while nobody answers.
            assert outcome.rejection is not None
            assert outcome.rejection.code == KEY_EXPIRED
        self._session, self._sequence = outcome.subject, 0

    async def ask(self, command: Command, origin: Origin) -> Outcome:
        """Until somebody answers; the same attempt every time."""
        while True:
            try:
                answer = await self._attempt(Asked(command, origin))
            except Overloaded:
                self._place.count("overloaded")
            except OutcomeUnknown:
                self._place.count("unknown")
            except RaftallocError:
                self._place.count("refused")
            else:
                outcome = answer.outcomes[0]
                self._place.answered(origin, answer, outcome)
                self._place.count("answered")
                self._now_ms = answer.at_ms
                return outcome
            self._target = self._dice.choice(self._place.ids)
            await self._place.sleep(self._dice.uniform(0.02, 0.2))

    async def _attempt(self, asked: Asked) -> Answer:
        await self._place.sleep(self._dice.uniform(0.0002, 0.002))
        life = self._place.lives.get(self._target)
        if life is None or not life.is_open:
            raise Unavailable("nobody is there")
        submitted = life.clock.spawn(life.submitter.submit([asked]), f"call-{self._name}")
        try:
            await asyncio.wait([submitted], timeout=ATTEMPT_SECONDS)
            # A process that is stopped answers nobody.
            if submitted.done() and not submitted.cancelled() and not life.clock.is_paused:
                answer: Answer = submitted.result()
                return answer
        finally:
            if not submitted.done():
                submitted.cancel()
            elif not submitted.cancelled():
                submitted.exception()
        raise OutcomeUnknown("no answer in time")

    async def _one(self) -> None:
        command = self._draw()
        self._sequence += 1
        origin = Origin(session=self._session, sequence=self._sequence)
        outcome = await self.ask(command, origin)
        if outcome.rejection is not None and outcome.rejection.code == KEY_EXPIRED:
            await self._open_session()
        if isinstance(command, Allocate):
            if outcome.status == GRANTED:
                has_lease = command.lease_ttl_ms > 0
                ids = range(outcome.subject, outcome.subject + outcome.count)
                self._held += [
                    Held(one, outcome.token + number, has_lease) for number, one in enumerate(ids)
                ]
            elif outcome.status == QUEUED:
                self._waiting.append(outcome.subject)
        elif isinstance(command, Reserve) and outcome.status == DONE:
            self._reservations.append(outcome.subject)
        self._held = self._held[-20:]

    def _draw(self) -> Command:
        dice = self._dice
        sort = dice.random()
        if sort < 0.25 and self._held:
            held = self._held.pop(dice.randrange(len(self._held)))
            return Release(held.allocation_id, held.token, self._name)
        if sort < 0.45 and self._held:
            held = dice.choice(self._held)
            return Renew(held.allocation_id, held.token, self._name)
        if sort < 0.5 and self._waiting:
            return Cancel(self._waiting.pop(), self._name)
        if sort < 0.53 and self._reservations:
            return CancelReservation(self._reservations.pop())
        if sort < 0.57 and self._now_ms:
            start_ms = self._now_ms + dice.randrange(500, 10_000)
            return Reserve(
                self._name, "agent", "w", LOW, self._demand(), start_ms, dice.randrange(500, 5_000)
            )
        count = 1 if dice.happens(0.8) else dice.randrange(2, 5)
        return Allocate(
            agent_id=self._name,
            agent_type="agent",
            workflow_id=f"w{dice.randrange(4)}",
            priority=dice.randrange(LOW, CRITICAL + 1),
            demand=self._demand(),
            count=count,
            gang=count > 1 and dice.happens(0.5),
            duration_ms=dice.choice((0, 2_000, 8_000)),
            lease_ttl_ms=dice.choice((0, 1_000, 5_000)),
            wait_ms=dice.choice((0, 1_000, 10_000)),
        )

    def _demand(self) -> tuple[tuple[str, int], ...]:
        dice = self._dice
        cpu = dice.choice((500, 1_000, 2_000, 4_000))
        return (("cpu", cpu), ("memory", 1024)) if dice.happens(0.5) else (("cpu", cpu),)


class Reader:
    """Reads on whatever replica claims to lead."""

    def __init__(self, place: Place, dice: Dice, think_seconds: float) -> None:
        self._place, self._dice, self._think = place, dice, think_seconds

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._place.sleep(self._dice.expovariate(1 / self._think))
            leaders = [
                life for life in self._place.lives.values() if life.is_open and life.raft.is_leader
            ]
            if leaders:
                await self._read(self._dice.choice(leaders))

    async def _read(self, life: Life) -> None:
        known_index = self._place.known_index()
        await self._place.sleep(self._dice.uniform(0.0002, 0.002))
        reading = life.clock.spawn(life.read(), "read")
        await asyncio.wait([reading], timeout=ATTEMPT_SECONDS)
        if not reading.done():
            reading.cancel()
            self._place.count("read-late")
        elif reading.cancelled() or reading.exception() is not None or life.clock.is_paused:
            self._place.count("read-refused")
        else:
            self._place.count("read")
            self._place.has_read(life, known_index, reading.result())


async def register_fleet(caller: Caller, nodes: int) -> None:
    """Nodes for everybody; some that would have to heartbeat, and never do."""
    for number in range(nodes):
        command = RegisterNode(
            node_id=f"n{number}",
            provider=False,
            capacity=(("cpu", CPU_PER_NODE), ("memory", 64 * 1024)),
            static=number % 3 != 2,
        )
        await caller.ask(command, Origin(key=f"f{number:031d}"))
