"""Whose turn it is in a line, where windows booked ahead tell its requests apart.

Requests of one line differ only in how long they run. Without windows ahead that makes no difference, and it is always
the first's turn. With windows ahead a long run may be blocked by one that a shorter run, further back, would not reach:
then it is the turn of the next that runs shorter than any that was blocked, at its own place in the queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from raftalloc.core import lines
from raftalloc.core.events import Queued
from raftalloc.core.headroom import Blocked, try_start
from raftalloc.core.lines import Line
from raftalloc.core.placement import Ask
from raftalloc.core.state import State

_FOR_EVER = 1 << 62
_BY_THIS_AND_THAT = Blocked(lines.UNKNOWN, 1)
"""One was blocked by this and another by that: the line is looked at whenever anything is freed."""


@dataclass(slots=True)
class _Walk:
    """One line being walked down. behind: what stands after request_id; shortest_ms: of the runs blocked so far."""

    line: Line
    request_id: int
    behind: Iterator[int]
    shortest_ms: int


class Turns:
    """The lines that are being walked down, within one pass over the queue."""

    def __init__(self, state: State) -> None:
        """Begin with the first of every line."""
        self._state = state
        self._walks: dict[int, _Walk] = {}

    def of(self, line: Line) -> int:
        """The request whose turn it is."""
        walk = self._walks.get(line.slot)
        return walk.request_id if walk else line.first

    def go_on(self, line: Line, queued: Queued, ask: Ask, stop: Blocked | None) -> Blocked | None:
        """After a try: what blocks the line by now, or None while there is another of it to try."""
        walk = self._walks.get(line.slot)
        if stop is None and walk is None:
            return None
        if stop is not None and walk is None:
            apart = self._stop_of_a_short_run(line, queued, ask, stop)
            if apart is not None:
                return apart
            walk = self._walks[line.slot] = self._walk(line, queued)
        assert walk is not None, "a line is walked down from here on"
        if stop is not None:
            walk.shortest_ms = min(walk.shortest_ms, _run_ms(queued))
        return self._step(walk)

    def end(self) -> None:
        """Every line stands where its first does again."""
        for walk in self._walks.values():
            if walk.line.requests:
                self._state.queue.lines.set_turn(walk.line.slot, walk.line.first)

    def _stop_of_a_short_run(
        self, line: Line, queued: Queued, ask: Ask, stop: Blocked
    ) -> Blocked | None:
        """What blocks the line where none behind can do better; None where a run that ends at once would fit now."""
        state = self._state
        ahead = state.reservations.any_booked() or bool(state.promises.by_id)
        if len(line.requests) == 1 or not ahead:
            return stop
        short = try_start(state, replace(queued, duration_ms=1), ask)
        if not isinstance(short, Blocked):
            return None
        same = (short.line, short.quota_row) == (stop.line, stop.quota_row)
        return stop if same else _BY_THIS_AND_THAT

    def _walk(self, line: Line, queued: Queued) -> _Walk:
        behind = iter([ident for ident in line.requests if ident > queued.request_id])
        return _Walk(line, queued.request_id, behind, _FOR_EVER + 1)

    def _step(self, walk: _Walk) -> Blocked | None:
        requests = self._state.queue.requests
        for ident in walk.behind:
            if _run_ms(requests[ident].queued) < walk.shortest_ms:
                walk.request_id = ident
                self._state.queue.lines.set_turn(walk.line.slot, ident)
                return None
        return _BY_THIS_AND_THAT


def _run_ms(queued: Queued) -> int:
    return queued.duration_ms or _FOR_EVER
