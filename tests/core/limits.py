"""Quotas, as naively as the rest of the second allocator: every charge is summed up again at each question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from raftalloc.core import events

if TYPE_CHECKING:
    from tests.core.reference import Window, Wish

FOR_EVER = 0


class Limits:
    """What of a World decides whether a quota allows something."""

    quotas: dict[str, events.QuotaSet]
    windows: dict[int, Window]

    def charges(self, at_ms: int | None) -> Iterator[tuple[str, str, str, int]]:
        raise NotImplementedError

    def chain(self, agent_type: str) -> list[str]:
        """The quota nodes that a type is checked at, from its own up."""
        name = agent_type if agent_type in self.quotas else "default"
        names = []
        while name:
            names.append(name)
            name = self.quotas[name].parent
        return names

    def charged(self, quota: str, kind: str) -> int:
        return sum(a for _, k, q, a in self.charges(None) if k == kind and quota in self.chain(q))

    def booked_peak(self, quota: str, kind: str, until_ms: int) -> int:
        """The most that windows ahead, which open before until_ms, will charge to a quota at once."""
        ahead = [
            w.made
            for w in self.windows.values()
            if not w.open
            and quota in self.chain(w.made.agent_type)
            and (until_ms == FOR_EVER or w.made.start_ms < until_ms)
        ]
        return max(
            (
                sum(
                    dict(m.demand).get(kind, 0)
                    for m in ahead
                    if m.start_ms <= other.start_ms < m.end_ms
                )
                for other in ahead
            ),
            default=0,
        )

    def window_over_quota(self, wish: Wish, start_ms: int, end_ms: int) -> bool:
        """Whether a limit is passed by what is still there at the start, the fullest of what is booked, and this."""
        ahead = [w.made for w in self.windows.values() if not w.open]
        starts = [m.start_ms for m in ahead if start_ms < m.start_ms < end_ms]
        for quota in self.chain(wish.agent_type):
            limits = dict(self.quotas[quota].limits)
            for kind, amount in wish.demand:
                booked = {t: self.booked_at(quota, kind, t) for t in (start_ms, *starts)}
                there = sum(
                    a
                    for _, k, q, a in self.charges(start_ms)
                    if k == kind and quota in self.chain(q)
                )
                fullest = there - booked[start_ms] + max(booked.values())
                if fullest + amount > limits.get(kind, fullest + amount):
                    return True
        return False

    def booked_at(self, quota: str, kind: str, at_ms: int) -> int:
        """What windows ahead charge to a quota at a moment."""
        return sum(
            dict(w.made.demand).get(kind, 0)
            for w in self.windows.values()
            if not w.open
            and w.made.start_ms <= at_ms < w.made.end_ms
            and quota in self.chain(w.made.agent_type)
        )

    def over_quota(self, wish: Wish, members: int, until_ms: int) -> list[tuple[str, str]]:
        """(quota, kind) of each limit that does not allow it."""
        return [
            (quota, kind)
            for quota in self.chain(wish.agent_type)
            for kind, amount in wish.demand
            if (limit := dict(self.quotas[quota].limits).get(kind)) is not None
            and self.charged(quota, kind)
            + self.booked_peak(quota, kind, until_ms)
            + amount * members
            > limit
        ]
