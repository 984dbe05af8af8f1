"""What followed each grant of a log: how long after it its holder renewed it, gave it back, asked for more.

One pass over the blocks, before they are decided again: a grant that comes earlier or later in another run is followed
by the same things, as long after it. Also, which commands had no effect: retries that were answered from memory.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.core.commands import Allocate, Reserve, Tick
from raftalloc.core.events import (
    Answered,
    EntrySkipped,
    Granted,
    Queued,
    Refused,
    ReservationMade,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.commands import Asked
    from raftalloc.core.events import Happened

_ATTEMPTS: Final = ("KEY_EXPIRED", "KEY_REUSED", "KEYS_EXHAUSTED")
"""Refusals of an attempt, not of what it asks."""


class Following:
    """Fed with `take`, block by block."""

    def __init__(self) -> None:
        """Of an empty log."""
        self.arrivals = 0
        """Requests that came, retries apart; members of an array are one."""
        self._granted_ms: dict[int, int] = {}
        self._followed: dict[int, list[tuple[int, Asked]]] = {}
        self._idle: dict[tuple[int, int], None] = {}
        self._bases: list[int] = []

    def take(self, block: codec.Block) -> Sequence[Happened]:
        """One entry and its events; answers these."""
        happened = codec.decode_events(block.events)
        effects: dict[int, bool] = {}
        for item in happened:
            event = item.event
            if type(event) is Granted:
                self._granted_ms[event.allocation_id] = block.at_ms
            if type(event) is Granted or type(event) is Queued:
                self._note_base(event.request_id)
            elif type(event) is ReservationMade:
                self._note_base(event.reservation_id)
            if item.cause >= 0 and type(event) is not Answered:
                attempt = type(event) is Refused and event.code in _ATTEMPTS
                effects[item.cause] = effects.get(item.cause, False) or not attempt
        if is_skipped(happened):
            return happened
        refused = {item.cause for item in happened if type(item.event) is Refused}
        for row, asked in enumerate(codec.decode_entry(block.entry).asked):
            self._note(block, row, asked, has_effect=effects.get(row, False), refused=refused)
        return happened

    def granted_ms(self, allocation_id: int) -> int:
        """When the log granted it; 0: not in these blocks."""
        return self._granted_ms.get(allocation_id, 0)

    def of(self, allocation_id: int) -> Sequence[tuple[int, Asked]]:
        """(time, command) of everything that was done with an allocation, in order."""
        return self._followed.get(allocation_id, ())

    def is_idle(self, index: int, row: int) -> bool:
        """Whether a command of the log did nothing: a retry, or something about an allocation that was refused."""
        return (index, row) in self._idle

    def base_of(self, number: int) -> int:
        """The request (or reservation) that an id belongs to: the highest that is not above it."""
        place = bisect_right(self._bases, number)
        return self._bases[place - 1] if place else number

    def _note_base(self, number: int) -> None:
        # Ids rise, but a request that waited is granted after others were made.
        if not self._bases or number > self._bases[-1]:
            self._bases.append(number)

    def _note(
        self, block: codec.Block, row: int, asked: Asked, *, has_effect: bool, refused: set[int]
    ) -> None:
        command = asked.command
        allocation_id = getattr(command, "allocation_id", 0)
        if isinstance(command, Tick):
            return
        if allocation_id:
            if not has_effect or row in refused:
                self._idle[block.index, row] = None
            else:
                self._followed.setdefault(allocation_id, []).append((block.at_ms, asked))
        elif isinstance(command, Allocate | Reserve):
            if not has_effect:
                self._idle[block.index, row] = None
            elif isinstance(command, Allocate):
                self.arrivals += 1


def is_skipped(happened: Sequence[Happened]) -> bool:
    """Whether the entry of these events was passed over: nobody could apply it, and perhaps nobody can read it."""
    return any(type(item.event) is EntrySkipped for item in happened)
