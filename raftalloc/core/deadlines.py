"""What the state calls for at a later time, earliest first.

A heap of (time, sort, subject), derived from the tables and rebuilt after a restore. An item whose subject has another
deadline by now is stale and passed over; so the heap may hold more than the state, but what fires, and in which order,
depends on the state alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

# At one moment what ends goes before what begins, so that room is there when it is wanted.
ALLOCATION = 0
RESERVATION_END = 1
DRAIN = 2
RESERVATION_START = 3
WAIT = 4
AGE = 5
SEEK = 6

Item = tuple[int, int, int | str]
"""(time in ms, sort, subject id; of a drain the node id)."""


class Deadlines:
    """The heap. `current(sort, subject)` answers the subject's deadline now, 0 where it has none."""

    def __init__(self, current: Callable[[int, int | str], int]) -> None:
        """Start with none."""
        self._heap: list[Item] = []
        self._current = current

    def push(self, at_ms: int, sort: int, subject: int | str) -> None:
        """Something is due at at_ms; 0: never."""
        if at_ms:
            heapq.heappush(self._heap, (at_ms, sort, subject))

    def first(self) -> Item | None:
        """What is due first, or None."""
        while self._heap:
            at_ms, sort, subject = self._heap[0]
            if self._current(sort, subject) == at_ms:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def clear(self) -> None:
        """Forget all, before a rebuild."""
        self._heap.clear()
