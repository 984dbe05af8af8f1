"""The event log as a stream: first what is stored, then what happens, each event once and in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from raftalloc.core.events import Event
    from raftalloc.ports import Clock, EventStore
    from raftalloc.service.engine import Engine


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; what is empty or 0 does not filter. `types` are names of core.events."""

    types: tuple[str, ...] = ()
    agent_id: str = ""
    workflow_id: str = ""
    subject: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """One event, where and when. sequence: its number within the entry, counted before filtering."""

    index: int
    sequence: int
    at_ms: int
    event: Event


@dataclass(frozen=True, slots=True)
class Seens:
    """Some events; every one up to and including `index` has been given. Without events: a sign of life."""

    events: tuple[Seen, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of events. next_index: where to go on; head_index + 1 at the end."""

    events: tuple[Seen, ...]
    next_index: int
    head_index: int
    lowest_index: int


class Watches:
    """Every stream and page of events that this replica gives out."""

    def __init__(
        self,
        *,
        engine: Engine,
        store: EventStore,
        clock: Clock,
        watchers_max: int = 1024,
        buffer_entries: int = 4096,
        life_seconds: float = 5.0,
    ) -> None:
        """`buffer_entries`: how far a reader may fall behind. `life_seconds`: between signs of life."""
        raise NotImplementedError

    def watch(self, from_index: int, wanted: EventFilter) -> AsyncGenerator[Seens, None]:
        """Events from `from_index` on (0: from now on), and then as they happen.

        Raises Compacted at once where the index has left the store, Overloaded when there are too many watchers or this one
        reads too slowly, ReplicaFailed when the replica stops.
        """
        raise NotImplementedError

    async def read(self, from_index: int, limit: int, wanted: EventFilter) -> Page:
        """Events of up to `limit` entries from `from_index` on (0: from the lowest). Raises Compacted."""
        raise NotImplementedError

    def close(self) -> None:
        """End every stream with ReplicaFailed."""
        raise NotImplementedError
