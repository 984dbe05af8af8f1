"""Requests that wait, and where each stands: in order of priority, then of arrival."""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.commands import PRIORITIES
from raftalloc.core.events import Queued
from raftalloc.core.lines import Lines

WAITING_MAX = 1 << 20
"""Requests that may wait at once."""


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


class Queue:
    """Waiting requests by id, and the lines they stand in."""

    def __init__(self) -> None:
        """Start with none."""
        self.requests: dict[int, Waiting] = {}
        self.lines = Lines()
        self.counts = dict.fromkeys(PRIORITIES, 0)

    def add(
        self, waiting: Waiting, node_needs: dict[int, int], provider_needs: dict[int, int]
    ) -> None:
        """Let a request wait, at the end of its line; the needs are by column."""
        queued = waiting.queued
        assert queued.request_id not in self.requests, "a request waits once"
        self.requests[queued.request_id] = waiting
        self.counts[queued.priority] += 1
        self.lines.add(queued, node_needs, provider_needs)

    def remove(self, request_id: int) -> None:
        """It waits no more."""
        queued = self.requests.pop(request_id).queued
        self.counts[queued.priority] -= 1
        self.lines.remove(queued)

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
