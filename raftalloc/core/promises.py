"""Starts that are promised to waiting requests: which rows, from when, for how long.

A promise is like a booked window, but made by the scheduler for one request that waits: nothing that stands behind the
holder in the queue may start where it would still be in the way at `start_ms` (backfill). A HELD promise is a
preemptor's claim on what its victims give back: nobody at all may take that, not even for a short time.

`unchecked` names promises whose rows have changed since they were last looked at; it is derived.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.events import Promised

PROMISES_MAX = 256
"""Held and not held; what would be one too many is not made."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, and what it takes: row id -> kind -> amount, row id -> device number -> units."""

    made: Promised
    takes: dict[str, dict[str, int]]
    devices: dict[str, dict[int, int]]

    def is_active(self, at_ms: int) -> bool:
        """Whether it takes its rows at a moment."""
        return self.made.start_ms <= at_ms and not 0 < self.made.end_ms <= at_ms


class Promises:
    """Promises by request, in the order in which they were made."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_id: dict[int, Promise] = {}
        self.unchecked: dict[int, None] = {}
        self._on_row: dict[str, dict[int, None]] = {}

    def make(self, made: Promised) -> None:
        """Promise; what was promised to the same request before is gone."""
        self.drop(made.request_id)
        promise = promise_of(made)
        self.by_id[made.request_id] = promise
        for node_id in promise.takes:
            self._on_row.setdefault(node_id, {})[made.request_id] = None

    def drop(self, request_id: int) -> Promise | None:
        """Promise nothing any more."""
        promise = self.by_id.pop(request_id, None)
        self.unchecked.pop(request_id, None)
        for node_id in promise.takes if promise else ():
            on_row = self._on_row[node_id]
            del on_row[request_id]
            if not on_row:
                del self._on_row[node_id]
        return promise

    def touch(self, node_id: str) -> None:
        """A row has changed: what is promised there must be looked at again."""
        self.unchecked.update(self._on_row.get(node_id, {}))

    def touch_all(self) -> None:
        """Everything may have changed."""
        self.unchecked.update(dict.fromkeys(self.by_id))


def promise_of(made: Promised) -> Promise:
    """What a promise takes, summed up over its members."""
    takes: dict[str, dict[str, int]] = {}
    devices: dict[str, dict[int, int]] = {}
    kinds, shares = len(made.demand), len(made.devices) // max(1, made.members)
    for member in range(made.members):
        suppliers = made.suppliers[member * kinds : (member + 1) * kinds]
        for (kind, amount), supplier in zip(made.demand, suppliers, strict=True):
            on_row = takes.setdefault(supplier, {})
            on_row[kind] = on_row.get(kind, 0) + amount
        for device, units in made.devices[member * shares : (member + 1) * shares]:
            on_node = devices.setdefault(made.nodes[member], {})
            on_node[int(device)] = on_node.get(int(device), 0) + units
    return Promise(made, takes, devices)
