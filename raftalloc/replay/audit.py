"""What the event log has, against what we were told.

Grants are counted from the log. Each acknowledged grant must be in it (else it is lost), each grant
of ours in it once, and of a request that we were told of. A request's members have consecutive ids,
so a bit for each member is all that has to be kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from raftalloc.analytics.tally import Tally
from raftalloc.api.v1 import allocator_pb2, events_pb2
from raftalloc.client.events import EventsService
from raftalloc.core.events import (
    Ended,
    Event,
    Granted,
    Happened,
    LeaderTook,
    NodeRegistered,
    NodeRemoved,
    Withdrawn,
)
from raftalloc.core.quantities import Vector
from raftalloc.replay.workload import Submission

TYPES: Final = {
    kind.__name__: kind
    for kind in (Granted, Ended, Withdrawn, LeaderTook, NodeRegistered, NodeRemoved)
}
"""The events that the tally has a use for."""
PAGE_ENTRIES: Final = 8
"""Entries read at once: some have thousands of events, and an answer has a size."""
IDLE_S: Final = 0.2
"""Between two looks at a log that has nothing new."""


class Audit:
    """Fed with answers (`answered`) and with the log (`follow`); asked at the end."""

    def __init__(self, users: Iterable[str]) -> None:
        """`users`: the agents of the workload; grants of others are not ours to count."""
        self.tally = Tally()
        self.index = 0
        self.acknowledged = 0
        self.duplicated = 0
        self._users = frozenset(users)
        self._told: dict[int, int] = {}
        self._logged: dict[int, int] = {}
        self._moved = asyncio.Event()

    def answered(self, submission: Submission, response: allocator_pb2.AllocateResponse) -> None:
        """One request's outcome, as it was told to us."""
        match response.WhichOneof("outcome"):
            case "granted":
                for allocation in response.granted.allocations:
                    bit = 1 << (allocation.id - allocation.request_id)
                    known = self._told.get(allocation.request_id, 0)
                    self._told[allocation.request_id] = known | bit
                self.acknowledged += len(response.granted.allocations)
            case "queued":
                self._told.setdefault(response.queued.request_id, 0)
            case _:
                self.tally.rejected[response.rejected.code] += submission.command.count

    async def follow(self, log: EventsService, after_index: int) -> None:
        """Read the log from there on, page by page, for ever."""
        self.index = after_index
        wanted = events_pb2.EventFilter(types=list(TYPES))
        while True:
            request = events_pb2.ReadRequest(
                from_index=self.index + 1, page_size=PAGE_ENTRIES, filter=wanted
            )
            page = await log.read(request, stale=True)
            self.take(page.events, page.next_index - 1)
            if page.next_index > page.head_index:
                await asyncio.sleep(IDLE_S)

    def take(self, messages: Sequence[events_pb2.Event], index: int) -> None:
        """Count events, whole entries in order, the last of which is `index`."""
        for _, together in groupby(messages, key=attrgetter("index")):
            entry = list(together)
            events = [event_of(message) for message in entry]
            ours = [event for event in events if self._is_ours(event)]
            self._log(ours)
            self.tally.add(entry[0].at_ms, [Happened(event, -1) for event in ours])
        self.index = max(self.index, index)  # this replica may be behind the last
        self._moved.set()

    async def reach(self, index: int) -> None:
        """Wait until everything up to this index has been counted."""
        while self.index < index:
            self._moved.clear()
            await self._moved.wait()

    @property
    def lost(self) -> int:
        """Grants that we were told of and the log does not have."""
        return sum(
            (told & ~self._logged.get(request_id, 0)).bit_count()
            for request_id, told in self._told.items()
        )

    @property
    def unacknowledged(self) -> int:
        """Grants in the log, of requests that no answer named."""
        return sum(
            logged.bit_count()
            for request_id, logged in self._logged.items()
            if request_id not in self._told
        )

    def _is_ours(self, event: Event) -> bool:
        return not isinstance(event, Granted | Withdrawn) or event.agent_id in self._users

    def _log(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Granted):
                bit = 1 << (event.allocation_id - event.request_id)
                logged = self._logged.get(event.request_id, 0)
                self.duplicated += bool(logged & bit)
                self._logged[event.request_id] = logged | bit


def event_of(message: events_pb2.Event) -> Event:
    """The core's event behind an event of the API. Fields that this build does not know are left."""
    kind: Callable[..., Event] = TYPES[message.type]
    names = TYPES[message.type].__dataclass_fields__
    detail = json.loads(message.detail_json)
    return kind(**{name: _value(value) for name, value in detail.items() if name in names})


def _value(value: object) -> object:
    """JSON's lists and objects as the core's tuples."""
    if isinstance(value, dict):
        return vector_of(value)
    if isinstance(value, list):
        return tuple(_value(item) for item in value)
    return value


def vector_of(amounts: dict[str, int]) -> Vector:
    """A map of the API as the core has it."""
    return tuple(sorted(amounts.items()))
