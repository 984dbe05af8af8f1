"""Requests that wait: in order of priority, then of arrival.

Requests of one SHAPE (same demand, constraints, quota, ...) fit or do not fit together, so they stand in one
line and only the first of each line is ever tried (equivalence classes, after Borg, EuroSys'15, section 3.4).
Lines are derived from the waiting requests and are not part of the state's bytes.

A line remembers what its first was last blocked by. It is tried again only when that has changed: more room on
a row that could hold it, or under the quota that refused it. A line of which nothing is known (after a restore)
is tried once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from raftalloc.core.commands import PRIORITIES
from raftalloc.core.events import Queued

WAITING_MAX = 1 << 20
"""Requests that may wait at once."""

Shape = tuple[object, ...]

UNKNOWN = 0
ROOM = 1
QUOTA = 2


@dataclass(slots=True)
class Waiting:
    """A request of which `started` members run and the rest wait. queued_ms: since when."""

    queued: Queued
    started: int
    queued_ms: int
    index: int

    @property
    def left(self) -> int:
        """Members that wait."""
        return self.queued.count - self.started


@dataclass(slots=True)
class Line:
    """The waiting requests of one shape, first come first. blocked_row: the quota row, where a quota blocked it."""

    shape: Shape
    requests: OrderedDict[int, None] = field(default_factory=OrderedDict)
    blocked: int = UNKNOWN
    blocked_row: int = -1

    @property
    def first(self) -> int:
        """The request that is next in this line."""
        return next(iter(self.requests))


class Queue:
    """Waiting requests by id, and the lines they stand in."""

    def __init__(self) -> None:
        """Start with none."""
        self.requests: dict[int, Waiting] = {}
        self.lines: dict[Shape, Line] = {}
        self.counts = dict.fromkeys(PRIORITIES, 0)

    def add(self, waiting: Waiting) -> None:
        """Let a request wait, at the end of its line."""
        request_id = waiting.queued.request_id
        assert request_id not in self.requests, "a request waits once"
        self.requests[request_id] = waiting
        self.counts[waiting.queued.priority] += 1
        shape = shape_of(waiting.queued)
        line = self.lines.get(shape)
        if line is None:
            line = self.lines[shape] = Line(shape)
        line.requests[request_id] = None

    def remove(self, request_id: int) -> None:
        """It waits no more."""
        waiting = self.requests.pop(request_id)
        self.counts[waiting.queued.priority] -= 1
        shape = shape_of(waiting.queued)
        line = self.lines[shape]
        del line.requests[request_id]
        if not line.requests:
            del self.lines[shape]

    def position_of_next(self, priority: int) -> int:
        """The position that a request of this priority would get now; 1 is first."""
        return 1 + sum(count for level, count in self.counts.items() if level >= priority)

    def position(self, request_id: int) -> int:
        """Its position now. O(requests waiting)."""
        mine = self.requests[request_id].queued
        return 1 + sum(
            1
            for other in self.requests.values()
            if (-other.queued.priority, other.queued.request_id) < (-mine.priority, mine.request_id)
        )


def shape_of(queued: Queued) -> Shape:
    """What decides whether a request fits, and nothing else."""
    return (
        queued.priority,
        queued.agent_type,
        queued.demand,
        queued.gpu_models,
        queued.constraints,
        queued.policy,
        queued.duration_ms,
        queued.reservation_id,
        queued.count if queued.gang else 0,
        queued.principal if queued.reservation_id else "",
    )
