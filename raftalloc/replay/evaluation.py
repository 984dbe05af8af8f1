"""What would have been: the arrivals of a log that was lived, decided again under other settings.

Both runs are counted alike, the lived one from its events. The other begins with the same state and is given the same
entries at the same indices and times; as long as it has decided the same, it is the same log, to the last byte of the
chain. From where it differs it goes its own way:

  arrivals        every request comes when it came, and from whom, with its conditions, but for what is to be changed
  what follows    releases, renewals and the like of a grant come as long after it as in the log (following.py)
  ids             of requests and reservations are those that this run gave to what the log asked then and there
  time            what is due happens when it is due: the run ticks by itself
  everything else nodes, quotas, lost nodes, changes of leader: as they came
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, machine, views
from raftalloc.core.commands import (
    LEAVE,
    Allocate,
    Asked,
    Cancel,
    CancelReservation,
    Command,
    Entry,
    OpenSession,
    Origin,
    Reserve,
    SetQueue,
    Tick,
)
from raftalloc.core.events import Granted
from raftalloc.errors import DataDirectoryError
from raftalloc.replay.account import Account
from raftalloc.replay.following import is_skipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.events import Happened
    from raftalloc.core.records import Outcome
    from raftalloc.core.state import State
    from raftalloc.replay.following import Following

PROPOSER: Final = "evaluation"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be otherwise. policy: of placement; 0: as it was. queue: what is not LEAVE there."""

    policy: int = 0
    queue: SetQueue = field(default_factory=SetQueue)

    def wanted(self) -> dict[str, int]:
        """Setting of the queue -> what it is to be."""
        names = (item.name for item in fields(self.queue) if item.name != "initial")
        given = {name: getattr(self.queue, name) for name in names}
        return {name: value for name, value in given.items() if value != LEAVE}


class LivedRun:
    """The log as it was, folded. `take` block by block; then `finish`."""

    def __init__(self, state: State, chain: bytes) -> None:
        """`state` is used up."""
        self.state = state
        self.chain = chain
        self.account = Account(state)

    def take(self, block: codec.Block, happened: Sequence[Happened]) -> None:
        """An entry and its events. Raises DataDirectoryError where the chain does not continue."""
        self.chain = codec.next_chain(self.chain, block.index, block.entry, block.events)
        if self.chain != block.chain:
            raise DataDirectoryError(f"the log is damaged or not whole at index {block.index}")
        machine.fold(self.state, happened, index=block.index, at_ms=block.at_ms)
        if not is_skipped(happened):
            self.account.add(codec.decode_entry(block.entry), happened)

    def finish(self, at_ms: int) -> None:
        """The log ends at this time."""
        self.account.finish(at_ms)


class OtherRun:
    """The arrivals of a log, decided again. `take` block by block; then `finish`."""

    def __init__(self, state: State, chain: bytes, change: Change, following: Following) -> None:
        """`state` is used up."""
        self.state = state
        self.chain = chain
        self.diverged_at = 0
        """The index of the first entry that differs, or was decided otherwise; 0: none."""
        self.account = Account(state)
        self._change = change
        self._following = following
        self._same_below = state.next_id
        self._ids: dict[int, int] = {}
        self._origins: dict[int, int] = {}
        self._moved: dict[int, None] = {}
        self._later: list[tuple[int, int, int, Asked]] = []
        self._later_count = 0

    def take(self, block: codec.Block, happened: Sequence[Happened]) -> None:
        """An entry of the log, and what happened then."""
        if is_skipped(happened):
            if not self.diverged_at:
                machine.fold(self.state, happened, index=block.index, at_ms=block.at_ms)
                self.chain = block.chain
            return
        entry = codec.decode_entry(block.entry)
        if self._set_queue(block.index, entry):
            self._diverge(block.index)
        if self.diverged_at:
            self._until(entry.at_ms)
            rows = [
                (row, self._translated(block.index, row, one))
                for row, one in enumerate(entry.asked)
            ]
            kept = [(row, one) for row, one in rows if one is not None]
        else:
            kept = [(row, self._changed(one)) for row, one in enumerate(entry.asked)]
        if self.diverged_at and not kept:
            return
        index = max(block.index, self.state.index + 1)
        self._same_below = self._same_below if self.diverged_at else self.state.next_id
        decided = Entry(entry.at_ms, entry.proposer, tuple(one for _, one in kept))
        applied, data, events = self._apply(decided, index)
        if not self.diverged_at:
            self.chain = codec.next_chain(self.chain, index, data, events)
            if data != block.entry or events != block.events:
                self._diverge(block.index)
        self._learn(kept, applied, happened)

    def finish(self, at_ms: int) -> None:
        """The log ends at this time."""
        if self.diverged_at:
            self._until(at_ms + 1)
        self.account.finish(at_ms)

    # -- decide ------------------------------------------------------------------------------------

    def _apply(self, entry: Entry, index: int) -> tuple[machine.Applied, bytes, bytes]:
        """As on a replica, through the bytes; and count."""
        data = codec.encode_entry(entry)
        applied = machine.apply(self.state, codec.decode_entry(data), index)
        self.account.add(entry, applied.happened)
        if self.diverged_at:
            self._schedule(applied.happened, entry.at_ms)
        return applied, data, codec.encode_events(applied.happened)

    def _until(self, at_ms: int) -> None:
        """Whatever is due before: what follows from grants that came at another time, and ticks."""
        while True:
            due_ms = machine.next_due_ms(self.state) or at_ms
            if self._later and self._later[0][0] <= min(due_ms, at_ms - 1):
                later_ms, _, allocation_id, asked = heapq.heappop(self._later)
                command = self._of_here(asked.command, allocation_id)
                if command is None:
                    continue  # it has ended meanwhile
                self._alone(max(later_ms, self.state.now_ms), Asked(command, _plain(asked.origin)))
            elif due_ms < at_ms:
                self._alone(max(due_ms, self.state.now_ms), Asked(Tick()))
            else:
                return

    def _alone(self, at_ms: int, asked: Asked) -> None:
        self._apply(Entry(at_ms, PROPOSER, (asked,)), self.state.index + 1)

    def _set_queue(self, index: int, entry: Entry) -> bool:
        """Before requests come, let the queue be served as is asked, if it is not; answers whether it was not."""
        if not any(isinstance(asked.command, Allocate) for asked in entry.asked):
            return False
        settings, wanted = self.state.queue.settings, self._change.wanted()
        if all(getattr(settings, name) == value for name, value in wanted.items()):
            return False
        command = self._change.queue
        at_ms = max(self.state.now_ms, entry.at_ms)
        own = Entry(at_ms, PROPOSER, (Asked(command),))
        self._apply(own, max(self.state.index + 1, index))
        return True

    def _diverge(self, index: int) -> None:
        self.diverged_at = self.diverged_at or index

    # -- translate ---------------------------------------------------------------------------------

    def _changed(self, asked: Asked) -> Asked:
        """With what is to be changed."""
        command = asked.command
        if isinstance(command, Allocate) and self._change.policy:
            # Scorers of its own would stand in for any policy.
            terms = replace(command.terms, scorers=())
            policy = self._change.policy
            return Asked(replace(command, policy=policy, terms=terms), asked.origin)
        if isinstance(command, SetQueue):
            other = {
                name: LEAVE
                for name, value in self._change.wanted().items()
                if getattr(command, name) not in (value, LEAVE)
            }
            return Asked(replace(command, **other), asked.origin)  # type: ignore[arg-type]  # its numbers
        return asked

    def _translated(self, index: int, row: int, asked: Asked) -> Asked | None:
        """For a run that differs: None where the log's own run had no use for it, or it comes at another time."""
        asked = self._changed(asked)
        command: Command | None = asked.command
        if isinstance(command, Tick | OpenSession) or self._following.is_idle(index, row):
            return None
        allocation_id = getattr(command, "allocation_id", 0)
        if allocation_id:
            is_moved = allocation_id in self._moved
            command = None if is_moved else self._of_here(asked.command, allocation_id)
        elif isinstance(command, Cancel):
            command = replace(command, request_id=self._id(command.request_id))
        elif isinstance(command, CancelReservation) or (
            isinstance(command, Allocate) and command.reservation_id
        ):
            command = replace(command, reservation_id=self._id(command.reservation_id))
        return None if command is None else Asked(command, _plain(asked.origin))

    def _of_here(self, command: Command, allocation_id: int) -> Command | None:
        """A command about an allocation of the log, for the one that this run has in its place, if that is live."""
        live = views.allocation(self.state, self._id(allocation_id))
        if live is None:
            return None
        fields: dict[str, int] = {"allocation_id": live.allocation_id}
        if hasattr(command, "token"):
            fields["token"] = live.token
        return replace(command, **fields)  # type: ignore[arg-type]  # of whatever speaks of an allocation

    def _id(self, number: int) -> int:
        """The id that this run has for one of the log: 0 for what does not exist here."""
        if number < self._same_below:
            return number
        base = self._following.base_of(number)
        here = self._ids.get(base)
        return 0 if here is None else here + number - base

    def _learn(
        self,
        kept: Sequence[tuple[int, Asked]],
        applied: machine.Applied,
        happened: Sequence[Happened],
    ) -> None:
        """Which id of the log is which of ours; grants of this entry are then known for what they are."""
        there = made_by(happened)
        for (row, asked), outcome in zip(kept, applied.outcomes, strict=True):
            if isinstance(asked.command, Allocate | Reserve) and row in there and _made(outcome):
                self._ids[there[row]] = outcome.subject
                self._origins[outcome.subject] = there[row]
        if self.diverged_at:
            self._schedule(applied.happened, self.state.now_ms)

    def _schedule(self, happened: Sequence[Happened], at_ms: int) -> None:
        """What follows from these grants, where they come at another time than in the log."""
        for item in happened:
            event = item.event
            if type(event) is not Granted:
                continue
            base = self._origins.get(event.request_id)
            if event.request_id < self._same_below:
                base = event.request_id
            if base is None:
                continue  # not learned yet, or never granted in the log
            number = base + event.allocation_id - event.request_id
            granted_ms = self._following.granted_ms(number)
            if not granted_ms or granted_ms == at_ms or number in self._moved:
                continue
            self._moved[number] = None
            for followed_ms, asked in self._following.of(number):
                self._later_count += 1
                when = at_ms + followed_ms - granted_ms
                heapq.heappush(self._later, (when, self._later_count, number, asked))


def made_by(happened: Sequence[Happened]) -> dict[int, int]:
    """Row of an entry -> the request or reservation that its command made."""
    found: dict[int, int] = {}
    for item in happened:
        if item.cause >= 0 and item.cause not in found:
            event = item.event
            number = getattr(event, "request_id", 0) or getattr(event, "reservation_id", 0)
            if number and type(event).__name__ in ("Granted", "Queued", "ReservationMade"):
                found[item.cause] = number
    return found


def _made(outcome: Outcome) -> bool:
    return outcome.rejection is None or bool(outcome.subject)


def _plain(origin: Origin) -> Origin:
    """Who asked, without the attempt: retries of the log are left out already."""
    return Origin(origin.principal)
