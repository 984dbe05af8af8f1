"""Whether the replicas still are the same: digests at the same index, compared with the others'.

A replica that decided otherwise than the rest - a flipped bit, a bug that is not the same everywhere - would go on
answering from a state of its own. So each takes digests at CHECKPOINTS, which all of a group agree on, since they
follow from the log alone:

    chain     at the first entry of every second of the group's clock: over all entries and events so far; costs nothing
    content   where the index passes a multiple of CONTENT_ENTRIES: over the state itself, O(state)

and judges its own by what the others say of the same index (`gossip.py` carries it). Who differs from a majority is
wrong. Where no majority has spoken within DOUBT_SECONDS, nobody can tell, and all that differ are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.core.state import State
    from raftalloc.ports import Clock
    from raftalloc.service.engine import Engine

logger = get_logger(__name__)

CHAIN: Final = 0
CONTENT: Final = 1
NAMES: Final = {CHAIN: "chain", CONTENT: "content"}
CHAIN_EVERY_MS: Final = 1000
CONTENT_ENTRIES: Final = 10_000
CONTENT_ROWS_MAX: Final = 100_000
"""Above this the content would keep the event loop from heartbeats for too long; snapshots still carry its digest."""
DOUBT_SECONDS: Final = 5.0
"""So long a disagreement waits for a majority: each says once a second what it has."""
DIGEST_BYTES: Final = 16
OWN_MAX: Final = 1024
HEARD_MAX: Final = 256
SAID_CHAINS: Final = 6
SAID_CONTENTS: Final = 2

Point = tuple[int, int]
"""Log index, and CHAIN or CONTENT."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """This replica differs from the others. Digests are hex; `others` by replica id, those that differ from ours."""

    index: int
    sort: str
    own: str
    others: Mapping[str, str]
    by_majority: bool

    def __str__(self) -> str:
        """One sentence."""
        who = ", ".join(f"{digest} on {name}" for name, digest in sorted(self.others.items()))
        why = "a majority" if self.by_majority else "no majority agrees on either"
        return f"the {self.sort} digest at index {self.index} is {self.own} here, and {who} ({why})"


class Judgement(Enum):
    """What digests at one index say of ours."""

    AGREED = "a majority has ours"
    OTHERS_DIFFER = "a majority has ours, somebody has another"
    DIFFERS = "a majority has another"
    DOUBT = "they differ, and there is no majority yet"
    OPEN = "nobody differs, and too few have spoken"


def judge(own: bytes, others: Mapping[str, bytes], needed: int) -> Judgement:
    """`needed`: how many equal ones are a majority; `others`: by replica."""
    counts = Counter([own, *others.values()])
    agreed = counts[own] >= needed
    if len(counts) == 1:
        return Judgement.AGREED if agreed else Judgement.OPEN
    if agreed:
        return Judgement.OTHERS_DIFFER
    return Judgement.DIFFERS if max(counts.values()) >= needed else Judgement.DOUBT


@dataclass(slots=True)
class _Doubt:
    """Since when digests at these points differ without a majority."""

    since: float = 0.0
    points: set[Point] = field(default_factory=set)


class Digests:
    """A replica's own digests and what it heard of the others'. Event loop only; never raises for what is heard."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        group_size: Callable[[], int],
        on_diverged: Callable[[Divergence], None],
        content_entries: int = CONTENT_ENTRIES,
    ) -> None:
        """`engine` has recovered. `on_diverged` is called once, and must see to it that nothing is served any more."""
        self.agreed_index = 0
        """Highest index at which a majority had the digest that we have."""
        self.differing: dict[str, Point] = {}
        """Other replicas that differ from the majority, and where that was last seen."""
        self.divergence: Divergence | None = None
        self._engine = engine
        self._clock = clock
        self._group_size = group_size
        self._on_diverged = on_diverged
        self._content_entries = content_entries
        self._index = engine.index
        self._second = engine.state.now_ms // CHAIN_EVERY_MS
        self._own: dict[Point, bytes] = {}
        self._heard: dict[Point, dict[str, bytes]] = {}
        self._doubt = _Doubt()
        engine.subscribe(lambda _decided: self._follow())

    def newest(self) -> list[tuple[int, int, bytes]]:
        """(index, sort, digest) of our latest checkpoints, for the others."""
        chains = [point for point in self._own if point[1] == CHAIN][-SAID_CHAINS:]
        contents = [point for point in self._own if point[1] == CONTENT][-SAID_CONTENTS:]
        return [(*point, self._own[point]) for point in chains + contents]

    def hear(self, replica_id: str, index: int, sort: int, digest: bytes) -> None:
        """Another replica's digest at an index where we were, or are yet to be."""
        point = (index, sort)
        if point not in self._heard and point not in self._own and index <= self._index:
            return  # that checkpoint is too long ago for us, or was never one
        self._heard.setdefault(point, {})[replica_id] = digest
        while len(self._heard) > HEARD_MAX:
            del self._heard[min(self._heard)]
        self._judge(point)

    def look(self) -> None:
        """To be called about once a second: an end to doubts."""
        doubt = self._doubt
        if doubt.points and self._clock.monotonic() - doubt.since > DOUBT_SECONDS:
            for point in sorted(doubt.points):
                self._settle_doubt(point)
            doubt.points.clear()

    def _follow(self) -> None:
        """After each entry: is this a checkpoint?"""
        state, before = self._engine.state, self._index
        self._index = state.index
        second = state.now_ms // CHAIN_EVERY_MS
        if second != self._second:
            self._second = second
            self._note((state.index, CHAIN), self._engine.chain[:DIGEST_BYTES])
        entries = self._content_entries
        if state.index // entries != before // entries and _is_content_due(state, before, entries):
            digest = bytes.fromhex(codec.content_digest(state))
            self._note((state.index, CONTENT), digest[:DIGEST_BYTES])

    def _note(self, point: Point, digest: bytes) -> None:
        self._own[point] = digest
        if len(self._own) > OWN_MAX:
            oldest = next(iter(self._own))
            del self._own[oldest]
            self._heard.pop(oldest, None)
        if point in self._heard:
            self._judge(point)

    def _judge(self, point: Point) -> None:
        own = self._own.get(point)
        if own is None or self.divergence is not None:
            return
        others = self._heard[point]
        judgement = judge(own, others, self._group_size() // 2 + 1)
        if judgement in (Judgement.AGREED, Judgement.OTHERS_DIFFER):
            self._agreed(point, own, others)
        elif judgement is Judgement.DIFFERS:
            self._diverged(point, own, others, by_majority=True)
        elif judgement is Judgement.DOUBT and not self._are_known(own, others):
            if not self._doubt.points:
                self._doubt.since = self._clock.monotonic()
            self._doubt.points.add(point)

    def _agreed(self, point: Point, own: bytes, others: Mapping[str, bytes]) -> None:
        index, sort = point
        self.agreed_index = max(self.agreed_index, index)
        # What differs once differs for good: an index that is settled settles those before it.
        self._doubt.points = {
            each for each in self._doubt.points if each[0] > index or each[1] != sort
        }
        for name, digest in others.items():
            seen = self.differing.get(name)
            if digest != own:
                if seen is None:
                    logger.error("another replica differs", replica=name, index=index)
                self.differing[name] = max(point, seen or point)
            elif seen is not None and seen[1] == sort and seen[0] < index:
                del self.differing[name]  # it was made anew

    def _are_known(self, own: bytes, others: Mapping[str, bytes]) -> bool:
        """Whether all that differ were found to differ from a majority before: then it is not we who err."""
        return all(name in self.differing for name, each in others.items() if each != own)

    def _settle_doubt(self, point: Point) -> None:
        """The rest of the group is silent: a majority of those that speak has to do."""
        own, others = self._own.get(point), self._heard.get(point)
        if own is None or not others or self.divergence is not None:
            return
        if self._are_known(own, others):
            return
        needed = (len(others) + 1) // 2 + 1
        judgement = judge(own, others, needed)
        if judgement is Judgement.OTHERS_DIFFER:
            self._agreed(point, own, others)
        elif judgement in (Judgement.DIFFERS, Judgement.DOUBT):
            by_majority = judgement is Judgement.DIFFERS
            self._diverged(point, own, others, by_majority=by_majority)

    def _diverged(
        self, point: Point, own: bytes, others: Mapping[str, bytes], *, by_majority: bool
    ) -> None:
        self.divergence = Divergence(
            index=point[0],
            sort=NAMES[point[1]],
            own=own.hex(),
            others={name: each.hex() for name, each in others.items() if each != own},
            by_majority=by_majority,
        )
        self._on_diverged(self.divergence)


def _is_content_due(state: State, before: int, entries: int) -> bool:
    """The more there is, the rarer, so that it costs an entry a microsecond or so; a rule of the state alone."""
    rows = state.live_count() + state.waiting_count()
    if rows > CONTENT_ROWS_MAX:
        return False
    every = entries
    while every < rows:
        every *= 2
    return state.index // every != before // every
