"""One bit of one replica's state, turned over in memory: it must be noticed, and not spread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.core.state import State
    from tests.simulation.dice import Dice


@dataclass(slots=True)
class Flipped:
    """Whose state was hit, behind which index; who stopped for good since. Nobody, so far."""

    name: str = ""
    index: int = 0
    expelled: set[str] = field(default_factory=set)


def flip(state: State, dice: Dice) -> str:
    """Turn one bit over; answers where."""
    leases, sessions = state.leases, state.sessions.sessions
    bit = 1 << dice.randrange(12)
    where = dice.choice(("token", "next_id", "lease", "session"))
    if where == "lease" and leases.rows:
        row = leases.rows[dice.choice(sorted(leases.rows))]
        column = dice.choice(("priority", "request_id", "granted_ms", "ends_ms", "expires_ms"))
        leases.set(row, column, leases.get(row, column) ^ bit)
        return f"{column} of row {row}"
    if where == "session" and sessions:
        session = sessions[dice.choice(sorted(sessions))]
        session.used_ms ^= bit
        return f"used_ms of session {session.session}"
    if where == "token":
        state.token ^= bit
        return where
    state.next_id ^= bit
    return "next_id"
