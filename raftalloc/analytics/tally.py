"""What came of the requests, in one pass over the events: grants, waits, refusals, ends, usage.

A run of grants with one demand and one wait - the members of an array - is counted once with its
length: a trace of millions of tasks costs a dictionary entry for each, and little more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from raftalloc.analytics.usage import Usage
from raftalloc.analytics.waits import Waits
from raftalloc.core.events import (
    Ended,
    Event,
    Granted,
    Happened,
    LeaderTook,
    NodeRegistered,
    NodeRemoved,
    Refused,
    Resized,
    Withdrawn,
)
from raftalloc.core.quantities import Vector

PREEMPTED: Final = "PREEMPTED"
"""The end of an allocation that made room for another."""


class Tally:
    """Fed with `add`, block by block; the figures are attributes.

    placed: grants. rejected, ended, withdrawn: members by reason. leaders: leaderships that began.
    """

    def __init__(self) -> None:
        self.placed = 0
        self.leaders = 0
        self.rejected: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.withdrawn: Counter[str] = Counter()
        self.waits = Waits()
        self.usage = Usage()
        self._live: dict[int, Vector] = {}

    @property
    def preempted(self) -> int:
        """Allocations that had to make room."""
        return self.ended[PREEMPTED]

    def begin(self, allocation_id: int, demand: Vector) -> None:
        """This allocation was live before the first event we are given."""
        self._live[allocation_id] = demand
        self.usage.take(demand)

    def missing(self, allocation_ids: range) -> int:
        """How many of these are not live: never granted, as far as the events go, or ended."""
        return sum(1 for allocation_id in allocation_ids if allocation_id not in self._live)

    @property
    def live(self) -> int:
        """Allocations that were granted and have not ended."""
        return len(self._live)

    def add(self, at_ms: int, happened: Sequence[Happened], counts: Sequence[int] = ()) -> None:
        """The events of one entry; counts: members asked for by each row of it (absent: 1)."""
        self.usage.advance(at_ms)
        run: Granted | None = None
        length = 0
        live = self._live
        for one in happened:
            event = one.event
            if type(event) is Granted:
                live[event.allocation_id] = event.demand
                if (
                    run is not None
                    and event.request_id == run.request_id
                    and event.waited_ms == run.waited_ms
                ):
                    length += 1
                    continue
                self._grant(run, length)
                run, length = event, 1
            elif type(event) is Ended:
                self._end(event)
            elif type(event) is Resized:
                self.usage.take(live.get(event.allocation_id, ()), -1)
                self.usage.take(event.demand)
                live[event.allocation_id] = event.demand
            else:
                members = counts[one.cause] if 0 <= one.cause < len(counts) else 1
                self._other(event, members)
        self._grant(run, length)
        self.usage.note_peaks()

    def _grant(self, run: Granted | None, length: int) -> None:
        """`length` grants of one request that are alike."""
        if run is None:
            return
        self.placed += length
        self.waits.add(run.priority, run.waited_ms, length)
        self.usage.take(run.demand, length)

    def _end(self, event: Ended) -> None:
        demand = self._live.pop(event.allocation_id, None)
        if demand is not None:  # granted before the first event we were given
            self.ended[event.reason] += 1
            self.usage.take(demand, -1)

    def _other(self, event: Event, members: int) -> None:
        match event:
            case Refused(code=code):
                self.rejected[code] += members
            case Withdrawn(reason=reason, count=count):
                self.withdrawn[reason] += count
            case NodeRegistered(node_id=node_id, capacity=capacity):
                self.usage.register(node_id, capacity)
            case NodeRemoved(node_id=node_id):
                self.usage.register(node_id, ())
            case LeaderTook():
                self.leaders += 1
            case _:
                pass  # of no account here
