"""What goes wrong, and when: each seed draws its own mix."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.simulation.network import Weather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.dice import Dice
    from tests.simulation.member import Life
    from tests.simulation.network import SimNetwork

KILL = "kill"
KILL_ALL = "kill-all"
POWER = "power"
PAUSE = "pause"
ISOLATE = "isolate"
ONE_WAY = "one-way"
RING = "ring"
BREAK = "break"
LOSS = "loss"
SLOW = "slow"
DRIFT = "drift"
JUMP = "jump"
AIM = "aim"
TRANSFER = "transfer"
DISK = "disk"
SLOW_DISK = "slow-disk"
FLOOD = "flood"
FLIP = "flip"
AWAY = "away"
SPOIL = "spoil"
WIPE = "wipe"
ADD = "add"
REMOVE = "remove"
LOST_DISK = "lost-disk"

EVENTS = (
    AWAY,
    SPOIL,
    WIPE,
    KILL,
    KILL_ALL,
    POWER,
    PAUSE,
    ISOLATE,
    ONE_WAY,
    RING,
    BREAK,
    JUMP,
    TRANSFER,
    DISK,
    FLOOD,
)
"""Those that happen at a moment; the others are drawn for the whole run."""
CHANGES = (ADD, REMOVE, LOST_DISK)
"""What an operator does, or must mend, one after the other."""
ALL = (*EVENTS, *CHANGES, LOSS, SLOW, DRIFT, AIM, SLOW_DISK)
BY_NAME = (FLIP,)
"""Only where they are asked for: after them not everything can be promised that the oracles watch."""
AIM_CHANCE = {
    "request_vote": 0.12,
    "response_vote": 0.12,
    "append_entries": 0.0008,
    "next_node_idx": 0.0008,
    "snapshot_chunk": 0.03,
    "snapshot_answer": 0.03,
    "blocks": 0.005,
}


@dataclass(frozen=True, slots=True)
class Mix:
    """What one seed has in store."""

    replicas: int
    events: tuple[str, ...]
    mean_seconds: float
    weather: Weather
    drift: bool
    aim: bool
    callers: int
    think_seconds: float
    sync_seconds: float
    sync_stalls: float
    snapshot_entries: int
    tail_entries: int
    chunk_bytes: int
    segment_bytes: int
    entry_bytes_max: int
    names: tuple[str, ...]
    changes: tuple[str, ...]
    change_seconds: float


def draw(dice: Dice, allowed: Sequence[str]) -> Mix:
    """Each fault that is allowed is in with even chance, at least one of them."""
    names = [name for name in allowed if dice.happens(0.5)] or [dice.choice(list(allowed))]
    names += [name for name in BY_NAME if name in allowed and name not in names]
    if LOST_DISK in names:
        # With a disk lost here and events there, nobody may have the history any more.
        names = [name for name in names if name not in (WIPE, SPOIL)]
    events = tuple(name for name in names if name in (*EVENTS, *BY_NAME))
    weather = Weather(is_stream=LOSS not in names)
    if LOSS in names:
        weather.loss = dice.choice((0.01, 0.05, 0.2))
        weather.double = dice.choice((0.0, 0.05, 0.2))
    if SLOW in names:
        weather.slow = dice.choice((0.01, 0.05, 0.2))
        weather.slow_seconds = dice.choice((0.1, 0.5, 1.5))
    return Mix(
        replicas=dice.choice((3, 3, 5)),
        events=events,
        mean_seconds=dice.choice((0.5, 1.0, 2.0)),
        weather=weather,
        drift=DRIFT in names,
        aim=AIM in names,
        callers=dice.choice((2, 4, 8)),
        think_seconds=dice.choice((0.1, 0.25)),
        sync_seconds=dice.choice((0.001, 0.004, 0.02)),
        sync_stalls=dice.choice((0.05, 0.3)) if SLOW_DISK in names else 0.0,
        snapshot_entries=dice.choice((8, 30, 100)),
        tail_entries=dice.choice((0, 5, 50)),
        chunk_bytes=dice.choice((1 << 10, 256 << 10)),
        segment_bytes=dice.choice((4 << 10, 32 << 10, 64 << 20)),
        entry_bytes_max=dice.choice((1_200, 8 << 20)),
        names=tuple(names),
        changes=tuple(name for name in names if name in CHANGES),
        change_seconds=dice.choice((1.0, 3.0)),
    )


class Place(Protocol):
    """What the nemesis may do to the world."""

    lives: dict[str, Life]
    ids: list[str]
    network: SimNetwork

    def kill(self, replica_id: str, *, power: bool = False) -> None:
        """Ends the process."""

    def start(self, replica_id: str) -> None:
        """Begins a new one, unless there is one."""

    def pause(self, replica_id: str, seconds: float) -> None:
        """Stops it for a while."""

    def jump(self, replica_id: str, seconds: float) -> None:
        """Sets its wall clock."""

    def fail_disk(self, replica_id: str, kind: str, code: int) -> None:
        """From soon on an operation of its disk fails."""

    def flood(self, replica_id: str, entries: int) -> None:
        """Many entries at once, that nobody waits for; for a log that others do not have."""

    def lose(self, replica_id: str, what: str) -> None:
        """Of what the event store of a replica that is down holds: the newest snapshot, or all."""

    def transfer(self, replica_id: str) -> None:
        """Asks it to stand back."""

    def flip(self, replica_id: str) -> None:
        """A bit of its state, in memory; of one replica in a run."""

    def later(self, seconds: float, what: str, replica_id: str) -> None:
        """Calls `start`, or heals, later."""

    async def sleep(self, seconds: float) -> None:
        """Wait, on the world's time."""

    def fault(self, name: str, story: str) -> None:
        """For the report."""


class Nemesis:
    """Draws a fault now and then."""

    def __init__(self, place: Place, dice: Dice, mix: Mix) -> None:
        self._place, self._dice, self._mix = place, dice, mix

    async def run(self) -> None:
        """Until it is cancelled."""
        if not self._mix.events:
            return
        while True:
            await self._place.sleep(self._dice.expovariate(1 / self._mix.mean_seconds))
            self.strike(self._dice.choice(self._mix.events))

    def aimed(self, sender: str, receiver: str, message: dict[str, object]) -> None:
        """At the very message: whoever got or sent it dies now."""
        chance = AIM_CHANCE.get(str(message["type"]), 0.0002)
        if self._mix.aim and self._dice.happens(chance):
            victim = receiver if self._dice.happens(0.5) else sender
            self._kill(victim, AIM, POWER in self._mix.events and self._dice.happens(0.7))

    def strike(self, name: str) -> None:
        dice, place, ids = self._dice, self._place, self._place.ids
        one, other = dice.sample(ids, 2)
        leaders = [life.replica_id for life in place.lives.values() if life.raft.role == "leader"]
        if leaders and dice.happens(0.5):
            one = dice.choice(leaders)
            other = dice.choice([name for name in ids if name != one])
        seconds = dice.choice((0.1, 0.5, 1.5, 4.0)) * dice.uniform(0.5, 1.5)
        if name in (KILL, POWER):
            self._kill(one, name, name == POWER)
        elif name == KILL_ALL:
            power = POWER in self._mix.events and dice.happens(0.5)
            for replica_id in ids:
                self._kill(replica_id, name, power)
        elif name == PAUSE:
            place.pause(one, seconds)
        elif name == JUMP:
            place.jump(one, dice.choice((-3600.0, -5.0, 5.0, 3600.0)))
            if dice.happens(0.2):  # only who starts cold looks at the wall clock at all
                for replica_id in ids:
                    self._kill(replica_id, name, False)
        elif name == DISK:
            kind = dice.choice(("write", "sync", "create", "rename", "sync_directory"))
            place.fail_disk(one, kind, dice.choice((errno.EIO, errno.ENOSPC)))
        elif name == FLOOD:
            for replica_id in leaders:
                place.flood(replica_id, dice.randrange(5, 60))
        elif name == FLIP:
            place.flip(one)
        elif name == TRANSFER:
            place.transfer(one)
        elif name == AWAY:
            self._kill(one, name, power=False, seconds=dice.uniform(2.0, 8.0))
        elif name in (SPOIL, WIPE):
            self._kill(one, name, power=False)
            place.lose(one, name)
        elif name == BREAK:
            place.fault(name, f"{one} - {other}")
            place.network.break_link(one, other)
            place.later(seconds / 4, "mend", f"{one} {other}")
        else:
            self._cut(name, one, other, seconds)

    def _cut(self, name: str, one: str, other: str, seconds: float) -> None:
        ids, network = self._place.ids, self._place.network
        ways: list[tuple[str, str]] = []
        if name == ONE_WAY:
            ways = (
                [(one, other)]
                if self._dice.happens(0.5)
                else [(one, to) for to in ids if to != one]
            )
        elif name == ISOLATE:
            side = (
                {one} if self._dice.happens(0.7) else set(self._dice.sample(ids, len(ids) // 2 + 1))
            )
            ways = [(a, b) for a in ids for b in ids if (a in side) != (b in side)]
        else:  # everybody still sees a majority, and no two the same one
            for number, here in enumerate(ids):
                near = {ids[(number + step) % len(ids)] for step in (-1, 0, 1)}
                ways += [(here, to) for to in ids if to not in near]
            ways = ways or [(one, other), (other, one)]
        self._place.fault(name, " ".join(f"{a}>{b}" for a, b in ways))
        for way in ways:
            network.cut_way(*way)
        self._place.later(seconds, "heal", "")

    def _kill(self, replica_id: str, name: str, power: bool, seconds: float = 0.0) -> None:
        if replica_id not in self._place.lives:
            return
        self._place.fault(name, f"{replica_id}{' power' if power else ''}")
        self._place.kill(replica_id, power=power)
        seconds = seconds or self._dice.choice((0.01, 0.1, 0.5, 2.0))
        self._place.later(seconds, "start", replica_id)
