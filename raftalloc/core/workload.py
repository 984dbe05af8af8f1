"""What is typically asked for: the demands that most live allocations have, as of an epoch.

fgd and least_waste ask it what a leftover is still good for. It is part of the state and changes by an event, so that
decisions between two epochs agree, on every replica and after a restore.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raftalloc.core.events import WorkloadSet
from raftalloc.core.terms import Typical

SHAPES_MAX = 32
"""Typical demands that are kept: on published GPU traces more do not place better."""


@dataclass(slots=True)
class Workload:
    """The latest WorkloadSet, and how often there was one: `epoch` tells caches apart and is not part of the bytes."""

    live: int = 0
    shapes: tuple[Typical, ...] = ()
    declared: bool = False
    epoch: int = field(default=0, compare=False)

    def set(self, event: WorkloadSet) -> None:
        """A new epoch."""
        self.live, self.shapes, self.declared = event.live, event.shapes, event.declared
        self.epoch += 1

    def is_stale(self, live: int) -> bool:
        """Whether the live allocations have become more or fewer by an eighth since it was counted."""
        return not self.declared and abs(live - self.live) * 8 > self.live
