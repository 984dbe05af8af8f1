"""Idempotency sessions of this client: which (session, sequence) names the next attempt (design 9.17).

A session keeps the outcomes of its latest WINDOW sequences. So a sequence is only taken from a session whose oldest
call under way lies within the window; where none has room, another session is opened. A session that was idle for so
long that the group may have forgotten it is not used again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

WINDOW: Final = 4096
IDLE_S_MAX: Final = 300.0
"""Half of what the group gives an idle session: log time may run ahead of ours."""


@dataclass(slots=True)
class _Session:
    """`under_way`: first sequences of calls that have no answer yet, in rising order."""

    session: int
    next_sequence: int
    used_at: float
    under_way: dict[int, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Sequences `first` .. `first + count - 1` of a session, for one call."""

    session: int
    first: int
    count: int


class Sessions:
    """Opens sessions as needed and hands out sequences. Many calls may share it, within one event loop."""

    def __init__(
        self, open_session: Callable[[], Awaitable[int]], now: Callable[[], float]
    ) -> None:
        """`open_session` asks the group for one. `now`: monotonic seconds."""
        self._open_session = open_session
        self._now = now
        self._sessions: dict[int, _Session] = {}
        self._opening = asyncio.Lock()

    async def take(self, count: int) -> Stamp:
        """`count` (1..WINDOW) fresh sequences of one session. `done` must follow."""
        assert 1 <= count <= WINDOW
        session = self._with_room(count)
        if session is None:
            async with self._opening:  # callers that came meanwhile share what the first one opens
                session = self._with_room(count)
                if session is None:
                    opened = await self._open_session()
                    session = _Session(opened, 1, self._now())
                    self._sessions[opened] = session
        first = session.next_sequence
        session.next_sequence += count
        session.under_way[first] = None
        session.used_at = self._now()
        return Stamp(session.session, first, count)

    def done(self, stamp: Stamp) -> None:
        """The call was answered, or given up."""
        session = self._sessions.get(stamp.session)
        if session is not None:
            session.under_way.pop(stamp.first, None)

    def forget(self, session: int) -> None:
        """The group no longer knows it."""
        self._sessions.pop(session, None)

    def _with_room(self, count: int) -> _Session | None:
        """A session that can take `count` more; those that idled too long are dropped on the way."""
        now = self._now()
        for session in list(self._sessions.values()):
            if not session.under_way and now - session.used_at > IDLE_S_MAX:
                del self._sessions[session.session]
                continue
            oldest = next(iter(session.under_way), session.next_sequence)
            if session.next_sequence + count - oldest <= WINDOW:
                return session
        return None
