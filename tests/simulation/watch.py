"""Leaders that should have noticed that they lead no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.raft.membership import voters_of
from tests.simulation.member import TIMING

if TYPE_CHECKING:
    from tests.simulation.member import Life
    from tests.simulation.world import World

LOOK_SECONDS = 0.1
STALE_SECONDS = 2.0
"""Late answers may keep a leader in its belief for so long after another was elected."""
CUT_OFF_SECONDS = TIMING.election_max_ms / 1000 / 0.95 + 2 * LOOK_SECONDS
"""The time in which a leader that nobody answers must notice, with a slow clock."""


async def watch_leaders(world: World) -> None:
    """Who goes on leading though nobody answers it, or another was elected long ago. Until it is cancelled."""
    since: dict[Life, float] = {}
    while True:
        await world.sleep(LOOK_SECONDS)
        now, highest = world.loop.now, max(world.raft.leaders, default=0)
        lives = [life for life in world.lives.values() if _leads(life)]
        since = {life: since.get(life, now) for life in lives if life.raft.term < highest}
        for life, at in since.items():
            if now - at > STALE_SECONDS:
                story = f"{life.replica_id} leads in term {life.raft.term}, long after {highest}"
                world.violate("stale-leader", story)
        for life in lives:
            if now - _last_heard(life, now) > CUT_OFF_SECONDS:
                world.violate("cut-off", f"{life.replica_id} leads on, and nobody answers it")


def _leads(life: Life) -> bool:
    return life.raft.role == "leader" and not life.clock.is_paused


def _last_heard(life: Life, now: float) -> float:
    """When a majority of its group had answered it last, or it could not listen."""
    voters = voters_of(life.raft.members)
    heard = sorted(
        now if name == life.replica_id else life.heard_at.get(name, 0.0) for name in sorted(voters)
    )
    return max(heard[(len(voters) - 1) // 2], life.clock.resumed_at, life.leads_since)
