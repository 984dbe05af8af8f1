"""The order of the queue, as naively as the rest of the second allocator: from scratch, in fractions, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from raftalloc.core import commands, events
from raftalloc.core.events import Queued


@dataclass
class Waits:
    """A waiting request."""

    queued: Queued
    started: int
    since_ms: int
    level: int = 0


class Standing:
    """What of a World decides who is next."""

    now_ms: int
    queue: events.QueueSet
    waiting: dict[int, Waits]
    quotas: dict[str, events.QuotaSet]
    rows: dict[str, Any]

    def charges(self, at_ms: int | None) -> Iterator[tuple[str, str, str, int]]:
        raise NotImplementedError

    def charged(self, quota: str, kind: str) -> int:
        raise NotImplementedError

    def share(self, agent_type: str) -> Fraction:
        """The most that a type holds of any kind, of the whole fleet, by its weight."""
        if agent_type not in self.quotas:
            return Fraction(0)
        shares = [Fraction(0)]
        for kind in {kind for _, kind, _, _ in self.charges(None)}:
            held = self.charged(agent_type, kind)
            total = sum(row.capacity.get(kind, 0) for row in self.rows.values())
            if held:
                shares.append(Fraction(held * 1000, (total or held) * self.weight(agent_type)))
        return max(shares)

    def weight(self, agent_type: str) -> int:
        return self.quotas[agent_type].weight

    def first_class(self, waits: Waits) -> int:
        """The class a request came in with; 5 is the one in which only arrival counts."""
        if self.queue.order == commands.FIFO:
            return 5
        return 4 if self.queue.order == commands.FAIR_SHARE else waits.queued.priority

    def rank(self, waits: Waits, level: int | None = None) -> tuple[int, Fraction, int]:
        """Lower is next. Who is not the first of its line stands as high as the first."""
        risen = self.first_of_line(waits).level if level is None else level
        standing = min(5, self.first_class(waits) + risen)
        shared = self.queue.order in (commands.FAIR_SHARE, commands.PRIORITY_WITH_FAIRSHARE)
        share = self.share(waits.queued.agent_type) if shared and standing < 5 else Fraction(0)
        return -standing, share, waits.queued.request_id

    def first_of_line(self, waits: Waits) -> Waits:
        mine = line_of(waits.queued)
        same = [i for i, w in self.waiting.items() if line_of(w.queued) == mine]
        return self.waiting[min(same)] if waits.queued.request_id in self.waiting else waits

    def level_now(self, waits: Waits) -> int:
        """The classes that it has risen by now, or would have."""
        if not self.queue.ageing_ms:
            return waits.level
        most = 5 - self.first_class(waits)
        risen = min(most, (self.now_ms - waits.since_ms) // self.queue.ageing_ms)
        return max(waits.level, risen)

    def firsts(self) -> dict[int, Waits]:
        """Of each line, the first: of requests that differ only in who asks, and for how long."""
        firsts: dict[object, Waits] = {}
        for ident in sorted(self.waiting):
            firsts.setdefault(line_of(self.waiting[ident].queued), self.waiting[ident])
        return {waits.queued.request_id: waits for waits in firsts.values()}


def line_of(queued: Queued) -> object:
    """What requests of one line have in common."""
    gang = queued.count if queued.gang else 0
    asks = (queued.demand, queued.gpu_models, queued.constraints, queued.policy)
    return queued.priority, queued.agent_type, asks, gang
