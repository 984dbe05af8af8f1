"""The figures of one run of a log: waits, use, refusals, preemptions, and how evenly the fleet was shared out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.analytics.fairness import Shares, jain_ppm
from raftalloc.analytics.tally import Tally
from raftalloc.core import views
from raftalloc.core.commands import PRIORITY_NAMES, Allocate
from raftalloc.core.events import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.commands import Entry
    from raftalloc.core.events import Happened
    from raftalloc.core.state import State

MILLION: Final = 1_000_000
ALL: Final = 1 << 62


class Account:
    """Fed with `add`, entry by entry, from the state it was begun with."""

    def __init__(self, state: State) -> None:
        """What there is at the beginning is not counted, but it is used."""
        self._tally = Tally()
        self._shares = Shares()
        if state.now_ms:
            self._tally.usage.advance(state.now_ms)
            self._shares.advance(state.now_ms)
        for node in views.nodes(state, limit=ALL):
            self._tally.usage.register(node.node_id, node.capacity)
        for each in views.allocations(state, limit=ALL):
            self._tally.begin(each.allocation_id, each.demand)
            self._shares.begin(each.allocation_id, each.agent_type, each.demand)

    def add(self, entry: Entry, happened: Sequence[Happened]) -> None:
        """One entry, and what it came to. Of refusals those of requests count."""
        commands = [asked.command for asked in entry.asked]
        counts = [one.count if isinstance(one, Allocate) else 1 for one in commands]
        told = [
            item
            for item in happened
            if type(item.event) is not Refused
            or (item.cause >= 0 and isinstance(commands[item.cause], Allocate))
        ]
        self._tally.add(entry.at_ms, told, counts)
        self._shares.add(entry.at_ms, happened)

    def finish(self, at_ms: int) -> None:
        """The log ends here."""
        self._tally.usage.advance(at_ms)
        self._tally.usage.close_mean()
        self._shares.advance(at_ms)

    def figures(self, state: State) -> dict[str, object]:
        """As JSON has them: times in seconds, shares 0..1. `state`: at the end."""
        rows = views.waiting_requests(state, limit=ALL)
        tally, usage = self._tally, self._tally.usage
        dominant = self._shares.dominant_ppm(usage.capacity_ms())
        return {
            "granted": tally.placed,
            "waiting": sum(each.count - each.started for each in rows),
            "live": tally.live,
            "refused": dict(sorted(tally.rejected.items())),
            "withdrawn": dict(sorted(tally.withdrawn.items())),
            "ended": dict(sorted(tally.ended.items())),
            "preempted": tally.preempted,
            "waits_s": {
                PRIORITY_NAMES[each]: self._waits(each) for each in tally.waits.priorities()
            },
            "utilisation": {kind: usage.mean_ppm(kind) / MILLION for kind in usage.kinds()},
            "fairness": {
                "jain": jain_ppm(list(dominant.values())) / MILLION,
                "dominant_share": {name: share / MILLION for name, share in dominant.items()},
            },
        }

    def _waits(self, priority: int) -> dict[str, float]:
        waits = self._tally.waits
        return {
            "granted": waits.count(priority),
            "mean": waits.mean_ms(priority) / 1000,
            "p50": waits.quantile_ms(priority, 50) / 1000,
            "p99": waits.quantile_ms(priority, 99) / 1000,
        }
