"""The simulated wire: delays, losses, doubles, reordering, broken links, one-way cuts.

Two sorts. A stream, as TCP is: in order; what is under way when a link breaks is lost, and both ends notice; what a cut
holds up arrives when it heals, late. A datagram wire: anything may be lost, doubled or overtaken, and nobody notices;
Raft must be safe on it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raftalloc.raft.frames import Assembler, Encoder, decode
from raftalloc.raft.local import LocalNetwork
from tests.simulation.clock import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.raft.local import LocalTransport
    from tests.simulation.clock import ReplicaClock
    from tests.simulation.dice import Dice
    from tests.simulation.loop import VirtualLoop

FAST_SECONDS = (0.0002, 0.002)
FRAME_BYTES_MAX = 64 << 20


@dataclass(slots=True)
class Weather:
    """How bad the wire is; chances per message."""

    is_stream: bool = True
    loss: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    slow_seconds: float = 0.5


class SimNetwork(LocalNetwork):
    """The wire between simulated replicas. `clocks` tells whose process a message wakes."""

    def __init__(self, loop: VirtualLoop, clock: ReplicaClock, dice: Dice) -> None:
        super().__init__(clock)
        self.weather = Weather()
        self.clocks: dict[str, ReplicaClock] = {}
        self.on_sent: Callable[[str, str, dict[str, Any]], None] = lambda *_: None
        self.on_delivered: Callable[[str, str, dict[str, Any]], None] = lambda *_: None
        self.delivered = 0
        self._loop = loop
        self._dice = dice
        self._encoder = Encoder()
        self._cut_ways: set[tuple[str, str]] = set()
        self._broken: set[frozenset[str]] = set()
        self._epochs: dict[frozenset[str], int] = {}
        self._arrivals: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], list[tuple[int, LocalTransport, bytes]]] = {}

    def reaches(self, one: str, other: str) -> bool:
        """Whether there is a link; a cut is not noticed, a broken link is."""
        return (
            one in self._transports
            and other in self._transports
            and frozenset((one, other)) not in self._broken
        )

    def join(self, transport: LocalTransport) -> None:
        for other in self._transports:
            self._next_epoch(transport.replica_id, other)
        super().join(transport)

    def leave(self, replica_id: str) -> None:
        super().leave(replica_id)
        for other in self._transports:
            self._next_epoch(replica_id, other)

    def cut_way(self, sender: str, receiver: str) -> None:
        """What `sender` sends does not arrive, until `heal_ways`."""
        self._cut_ways.add((sender, receiver))

    def heal_ways(self) -> None:
        """Every way is open again; what was held up arrives."""
        self._cut_ways.clear()
        held, self._held = self._held, {}
        for (sender, receiver), messages in held.items():
            for epoch, target, data in messages:
                self._loop.call_later(
                    self._dice.uniform(*FAST_SECONDS) if not self.weather.is_stream else 0.0,
                    self._arrive, sender, receiver, epoch, target, data,
                )  # fmt: skip

    def break_link(self, one: str, other: str) -> None:
        """As a reset connection: what is under way is lost, both notice."""
        link = frozenset((one, other))
        if not self.reaches(one, other):
            return
        self._next_epoch(one, other)
        self._broken.add(link)
        self.tell_lost(one, other)
        self.tell_lost(other, one)

    def tell_lost(self, here: str, there: str) -> None:
        """In its own time: what it makes of that depends on what time it has."""
        clock = self.clocks[here]
        if CURRENT.get(None) is clock:
            super().tell_lost(here, there)
        else:
            clock.context.run(super().tell_lost, here, there)

    def mend_link(self, one: str, other: str) -> None:
        """They connect again."""
        link = frozenset((one, other))
        if link in self._broken:
            self._broken.discard(link)
            if self.reaches(one, other):
                self._transports[one].connected(other)
                self._transports[other].connected(one)

    def mend_all(self) -> None:
        """Every link there is, and every way."""
        for link in sorted(tuple(sorted(link)) for link in self._broken):
            self.mend_link(*link)
        self.heal_ways()

    def send(self, sender: str, receiver: str, message: Any) -> bool:
        """In frames, as on the real wire, each of which may be lost or late: what arrives shares nothing with it."""
        if not self.reaches(sender, receiver):
            return False
        self.on_sent(sender, receiver, message)
        target = self._transports[receiver]
        weather, dice = self.weather, self._dice
        for data in self._encoder.frames(message):
            copies = 1
            if not weather.is_stream:
                lost, doubled = dice.happens(weather.loss), dice.happens(weather.double)
                copies = 0 if lost else 2 if doubled else 1
            for _ in range(copies):
                self._post(sender, receiver, target, data)
        return True

    def _post(self, sender: str, receiver: str, target: LocalTransport, data: bytes) -> None:
        delay = self._dice.uniform(*FAST_SECONDS)
        if self._dice.happens(self.weather.slow):
            delay += self._dice.uniform(0.01, self.weather.slow_seconds)
        when = self._loop.now + delay
        if self.weather.is_stream:
            way = (sender, receiver)
            when = max(when, self._arrivals.get(way, 0.0))
            self._arrivals[way] = when
        epoch = self._epochs.get(frozenset((sender, receiver)), 0)
        self._loop.call_at(when, self._arrive, sender, receiver, epoch, target, data)

    def _arrive(
        self, sender: str, receiver: str, epoch: int, target: LocalTransport, data: bytes
    ) -> None:
        if self._transports.get(receiver) is not target:
            return  # the process that it was sent to has died
        link = frozenset((sender, receiver))
        if self.weather.is_stream and self._epochs.get(link, 0) != epoch:
            return
        if (sender, receiver) in self._cut_ways:
            if self.weather.is_stream:
                self._held.setdefault((sender, receiver), []).append((epoch, target, data))
            return
        self.clocks[receiver].call_soon(lambda: self._deliver(sender, receiver, target, data))

    def _deliver(self, sender: str, receiver: str, target: LocalTransport, data: bytes) -> None:
        if self._transports.get(receiver) is not target:
            return
        self.delivered += 1
        assembler = Assembler(head_bytes_max=FRAME_BYTES_MAX, body_bytes_max=FRAME_BYTES_MAX)
        for head, body in assembler.feed(data):
            message = decode(head, body)
            target.received(sender, message)
            self.on_delivered(sender, receiver, message)

    def _next_epoch(self, one: str, other: str) -> None:
        link = frozenset((one, other))
        self._epochs[link] = self._epochs.get(link, 0) + 1
        for way in ((one, other), (other, one)):
            self._arrivals.pop(way, None)
            self._held.pop(way, None)
