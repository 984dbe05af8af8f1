"""Requests that wait, how the queue is served, and which of them are first in their lines. `ordering` ranks them."""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.commands import (
    CRITICAL,
    EASY,
    FAIR_SHARE,
    FIFO,
    GREEDY,
    LOW,
    LOWER_PRIORITY,
    PRIORITY,
)
from raftalloc.core.events import Queued, QueueSet
from raftalloc.core.lines import Lines

WAITING_MAX = 1 << 20
"""Requests that may wait at once."""
OVERDUE = CRITICAL + 1
"""The class of what has waited so long that only arrival counts."""


@dataclass(slots=True)
class Waiting:
    """A request of which `started` members run and the rest wait.

    queued_ms: since when. level: classes it has aged. seek_ms: when it looks for victims next, if it may.
    """

    queued: Queued
    started: int
    queued_ms: int
    index: int
    level: int = 0
    seek_ms: int = 0

    @property
    def left(self) -> int:
        """Members that wait."""
        return self.queued.count - self.started


class Queue:
    """Waiting requests by id, and the lines they stand in. was_set: whether anyone has chosen the settings."""

    def __init__(self) -> None:
        """Start with none."""
        self.requests: dict[int, Waiting] = {}
        self.lines = Lines()
        self.settings = QueueSet()
        self.was_set = False

    def add(
        self, waiting: Waiting, node_needs: dict[int, int], provider_needs: dict[int, int]
    ) -> bool:
        """Let a request wait, at the end of its line; the needs are by column. Answers whether it is first there."""
        queued = waiting.queued
        assert queued.request_id not in self.requests, "a request waits once"
        self.requests[queued.request_id] = waiting
        line = self.lines.add(queued, node_needs, provider_needs)
        if line.first != queued.request_id:
            return False
        self.lines.level[line.slot] = waiting.level
        return True

    def remove(self, request_id: int) -> int:
        """It waits no more. Answers who is the first of its line now, if that is another; else 0."""
        queued = self.requests.pop(request_id).queued
        was_first = self.is_first(queued)
        line = self.lines.remove(queued)
        if line is None or not was_first:
            return 0
        self.lines.level[line.slot] = self.requests[line.first].level
        return line.first

    def age(self, request_id: int, level: int) -> None:
        """It has waited long."""
        waiting = self.requests[request_id]
        waiting.level = level
        if self.is_first(waiting.queued):
            self.lines.level[self.lines.of(waiting.queued).slot] = level

    # -- class and age (see `ordering`) ------------------------------------------------

    def by_share(self) -> bool:
        """Whether shares count in the order."""
        return self.settings.order not in (FIFO, PRIORITY)

    def base_class(self, priority: int) -> int:
        """The class of a request that has just come; under fifo there is but one."""
        if self.settings.order == FIFO:
            return OVERDUE
        return CRITICAL if self.settings.order == FAIR_SHARE else priority

    def ages_ms(self, waiting: Waiting) -> int:
        """When a waiting request next rises by a class; 0: never."""
        level, ageing_ms = waiting.level, self.settings.ageing_ms
        if not ageing_ms or self.base_class(waiting.queued.priority) + level >= OVERDUE:
            return 0
        return waiting.queued_ms + ageing_ms * (level + 1)

    def level_at(self, waiting: Waiting, now_ms: int) -> int:
        """How many classes it has risen, or would have as the first of its line, by a time."""
        most = OVERDUE - self.base_class(waiting.queued.priority)
        if not self.settings.ageing_ms:
            return waiting.level
        risen = (now_ms - waiting.queued_ms) // self.settings.ageing_ms
        return max(waiting.level, min(risen, most))

    def seeks_ms(self, waiting: Waiting) -> int:
        """When a waiting request next looks for victims, as the first of its line; 0: never."""
        may = self.settings.preemption == LOWER_PRIORITY and waiting.queued.priority > LOW
        return waiting.seek_ms if may else 0

    def depth(self) -> int:
        """Lines ahead that backfill protects."""
        if self.settings.backfill == GREEDY:
            return 0
        return 1 if self.settings.backfill == EASY else self.settings.depth

    def is_first(self, queued: Queued) -> bool:
        """Whether a waiting request is the first of its line."""
        return self.lines.of(queued).first == queued.request_id
