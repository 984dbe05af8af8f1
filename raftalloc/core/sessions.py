"""Idempotency: the outcome of every attempt that named itself, kept for its retries (design 9.17).

Two ways to name an attempt:
- (session, sequence): sessions are opened by a command, so an unknown session is an expired one and never a new one. Of
  each session the latest WINDOW sequences are kept; an older sequence is KEY_EXPIRED.
- a free-form key, hashed by the shell to 16 bytes. When its outcome goes, a tombstone stays behind for TOMBSTONE_MS.

Either way the answer to an attempt whose outcome is no longer kept is KEY_EXPIRED, never a second grant.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from raftalloc.core.events import Answered

WINDOW = 4096
"""Sequences of a session that are remembered."""
KEEP_MS = 600_000
"""How long an idle session, and the outcome of a free-form key, is kept, in log time."""
TOMBSTONE_MS = 86_400_000
GAP_MS_MIN = 1_000
"""A shorter time without a leader is not given back to sessions and keys: it is nothing beside KEEP_MS."""
SESSIONS_MAX = 16_384
KEYS_MAX = 262_144
"""Free-form keys, tombstones included. When they are used up new ones are refused: forgetting one could grant twice."""


@dataclass(slots=True)
class Session:
    """floor: sequences up to it are expired. outcomes: in order of arrival."""

    session: int
    principal: str
    used_ms: int
    floor: int = 0
    outcomes: OrderedDict[int, tuple[Answered, int]] = field(default_factory=OrderedDict)


class Sessions:
    """Sessions by id and keys by hash, each in order of last use. Outcomes are kept as (Answered, log index)."""

    def __init__(self) -> None:
        """Start with none."""
        self.sessions: OrderedDict[int, Session] = OrderedDict()
        self.keys: OrderedDict[str, tuple[Answered, int, int]] = OrderedDict()
        self.tombstones: OrderedDict[str, int] = OrderedDict()

    def open(self, session: int, principal: str, now_ms: int) -> None:
        """A new session."""
        self.sessions[session] = Session(session, principal, now_ms)

    def record(self, answered: Answered, index: int, now_ms: int) -> None:
        """Keep an outcome for its retries."""
        if answered.key:
            self.keys[answered.key] = (answered, index, now_ms)
        session = self.sessions.get(answered.session)
        if session is None:
            return
        session.used_ms = now_ms
        self.sessions.move_to_end(answered.session)
        session.outcomes[answered.sequence] = (answered, index)
        if len(session.outcomes) > WINDOW:
            sequence, _ = session.outcomes.popitem(last=False)
            session.floor = max(session.floor, sequence)
        session.floor = max(session.floor, answered.sequence - WINDOW)

    def expire(self, before_ms: int) -> None:
        """Forget sessions idle since before_ms, and outcomes of keys as old, which leave a tombstone."""
        while self.sessions:
            ident, session = next(iter(self.sessions.items()))
            if session.used_ms >= before_ms:
                break
            del self.sessions[ident]
        while self.keys:
            key, (_, _, at_ms) = next(iter(self.keys.items()))
            if at_ms >= before_ms:
                break
            del self.keys[key]
            self.tombstones[key] = at_ms
        while self.tombstones:
            key, at_ms = next(iter(self.tombstones.items()))
            if at_ms >= before_ms - TOMBSTONE_MS:
                break
            del self.tombstones[key]

    def give_back(self, gap_ms: int, now_ms: int) -> None:
        """Nobody could use a session, or repeat an attempt, for so long: it does not count. O(sessions + keys)."""
        for session in self.sessions.values():
            session.used_ms = min(session.used_ms + gap_ms, now_ms)
        for key, (answered, index, at_ms) in self.keys.items():
            self.keys[key] = (answered, index, min(at_ms + gap_ms, now_ms))
        for key, at_ms in self.tombstones.items():
            self.tombstones[key] = min(at_ms + gap_ms, now_ms)

    def oldest_ms(self) -> int:
        """When the session or key that expires first was last used; 0: there is none.

        A tombstone counts as used TOMBSTONE_MS later than its key was, so that it is forgotten so much later.
        """
        times = []
        if self.sessions:
            times.append(next(iter(self.sessions.values())).used_ms)
        if self.keys:
            times.append(next(iter(self.keys.values()))[2])
        if self.tombstones:
            times.append(next(iter(self.tombstones.values())) + TOMBSTONE_MS)
        return min(times, default=0)

    def keys_count(self) -> int:
        """Free-form keys, tombstones included."""
        return len(self.keys) + len(self.tombstones)
