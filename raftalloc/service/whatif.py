"""What-if: commands on a fork of the state, by the code that the log is decided by.

A FORK is a copy of a state that goes its own way (`codec` to bytes and back: nothing is shared). A step is an entry of
its own, encoded and decoded as on a replica, at the fork's own time; letting time pass is what a leader does meanwhile:
a Tick at each time at which something is due. So what a fork answers is what the same entries would have come to.

How much may happen in one fork is bounded; what goes on for too long is also ended from outside (service/past.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, machine
from raftalloc.core.commands import Asked, Entry, Tick

if TYPE_CHECKING:
    from raftalloc.core.events import Happened
    from raftalloc.core.records import Outcome
    from raftalloc.core.state import State

ENTRIES_MAX: Final = 50_000
EVENTS_MAX: Final = 200_000
PROPOSER: Final = "what-if"


class TooMuch(Exception):
    """More would happen than a fork may do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of one step. outcome: of its command; None where time passed. at_ms: the fork's clock after it."""

    index: int
    at_ms: int
    outcome: Outcome | None
    happened: tuple[tuple[int, int, Happened], ...]
    """(index, time, event), in order."""


class Fork:
    """A copy of a state, and its clock."""

    def __init__(self, state: State, *, now_ms: int = 0) -> None:
        """`now_ms`: what time it is, where it is later than the state's. O(state)."""
        self.state = codec.decode_state(codec.encode_state(state))
        self.now_ms = max(now_ms, state.now_ms)
        self._entries_left = ENTRIES_MAX
        self._events_left = EVENTS_MAX

    def ask(self, asked: Asked) -> Taken:
        """One command, now. Raises TooMuch."""
        applied = self._apply(asked)
        return self._taken(applied.outcomes[0], self._dated(applied))

    def advance(self, length_ms: int) -> Taken:
        """Let time pass; what falls due on the way happens at its own time. Raises TooMuch."""
        until_ms = self.now_ms + length_ms
        happened: list[tuple[int, int, Happened]] = []
        while True:
            due_ms = machine.next_due_ms(self.state)
            if not due_ms or due_ms > until_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            happened += self._dated(self._apply(Asked(Tick())))
        self.now_ms = until_ms
        happened += self._dated(self._apply(Asked(Tick())))
        return self._taken(None, happened)

    def _apply(self, asked: Asked) -> machine.Applied:
        """As a replica does it: the entry takes the way through its bytes."""
        self._entries_left -= 1
        if self._entries_left < 0 or self._events_left < 0:
            raise TooMuch(
                f"more than {ENTRIES_MAX} entries or {EVENTS_MAX} events would come of it"
            )
        entry = codec.decode_entry(codec.encode_entry(Entry(self.now_ms, PROPOSER, (asked,))))
        applied = machine.apply(self.state, entry, self.state.index + 1)
        self._events_left -= len(applied.happened)
        return applied

    def _dated(self, applied: machine.Applied) -> list[tuple[int, int, Happened]]:
        return [(self.state.index, self.now_ms, item) for item in applied.happened]

    def _taken(self, outcome: Outcome | None, happened: list[tuple[int, int, Happened]]) -> Taken:
        return Taken(self.state.index, self.now_ms, outcome, tuple(happened))
