"""How evenly the fleet was shared out: the dominant share of each agent type over time, and Jain's index of them.

The dominant share of a type is the most it held of any kind, in the mean over time (Ghodsi et al., Dominant Resource
Fairness, NSDI 2011, section 4). Jain's index (Jain, Chiu, Hawe, DEC-TR-301, 1984) is 1 where all are equal and 1/n
where one of n has everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from raftalloc.core.events import Ended, Granted, Happened, Resized
from raftalloc.core.quantities import Vector

MILLION: Final = 1_000_000


class Shares:
    """Fed with `advance` to the time of the next change, then with the change."""

    def __init__(self) -> None:
        self._held: dict[str, Counter[str]] = {}
        self._sums: dict[str, Counter[str]] = {}
        self._live: dict[int, tuple[str, Vector]] = {}
        self._at_ms = 0

    def begin(self, allocation_id: int, agent_type: str, demand: Vector) -> None:
        """An allocation is live from now on."""
        self._live[allocation_id] = (agent_type, demand)
        held = self._held.setdefault(agent_type, Counter())
        for kind, amount in demand:
            held[kind] += amount

    def end(self, allocation_id: int) -> None:
        """It is live no more."""
        agent_type, demand = self._live.pop(allocation_id, ("", ()))
        for kind, amount in demand:
            self._held[agent_type][kind] -= amount

    def advance(self, at_ms: int) -> None:
        """Nothing changed until now; the first call begins."""
        span_ms = at_ms - self._at_ms if self._at_ms else 0
        self._at_ms = max(at_ms, self._at_ms)
        if span_ms <= 0:
            return
        for agent_type, held in self._held.items():
            sums = self._sums.setdefault(agent_type, Counter())
            for kind, amount in held.items():
                sums[kind] += amount * span_ms

    def add(self, at_ms: int, happened: Sequence[Happened]) -> None:
        """The events of one entry."""
        self.advance(at_ms)
        for one in happened:
            event = one.event
            if type(event) is Granted:
                self.begin(event.allocation_id, event.agent_type, event.demand)
            elif type(event) is Resized and event.allocation_id in self._live:
                agent_type, _ = self._live[event.allocation_id]
                self.end(event.allocation_id)
                self.begin(event.allocation_id, agent_type, event.demand)
            elif type(event) is Ended:
                self.end(event.allocation_id)

    def dominant_ppm(self, capacity_ms: Mapping[str, int]) -> dict[str, int]:
        """Type -> its dominant share in parts per million. capacity_ms: kind -> capacity x ms over the same time."""
        found = {}
        for agent_type, sums in sorted(self._sums.items()):
            shares = [
                total * MILLION // capacity_ms[kind]
                for kind, total in sums.items()
                if capacity_ms.get(kind)
            ]
            found[agent_type] = max(shares, default=0)
        return found


def jain_ppm(shares: Sequence[int]) -> int:
    """Jain's index in parts per million; of nothing, or of nothing but zeros, a million: nobody is worse off."""
    squares = sum(share * share for share in shares)
    if not squares:
        return MILLION
    return sum(shares) ** 2 * MILLION // (len(shares) * squares)
