"""Wall clocks that are wrong: one that jumps changes nothing, and a whole group that starts cold forgives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.core.commands import Asked, OpenSession, Origin
from raftalloc.core.records import DONE, GRANTED
from raftalloc.system import SystemClock
from tests.service.fakes import ask, node
from tests.service.test_group import CLOCK, Group

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.service.submit import Answer
    from tests.conftest import Run

HOUR_MS = 3_600_000


class JumpyClock(SystemClock):
    """Its wall clock can be set."""

    offset_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.offset_ms


def jumpy(path: Path) -> tuple[Group, dict[str, JumpyClock]]:
    group = Group(path, 3)
    clocks = {replica_id: JumpyClock() for replica_id in group.ids}
    group.clocks.update(clocks)
    return group, clocks


async def session_of(group: Group) -> int:
    opened = await group.submit(Asked(OpenSession(), Origin(key=f"{1:032x}")))
    return opened.outcomes[0].subject


async def allocated(group: Group, session: int) -> Answer:
    origin = Origin(session=session, sequence=1)
    return await group.submit(Asked(ask("a", cpu=1, lease_ttl_ms=20_000), origin))


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_wall_clock_that_jumps_by_an_hour_changes_nothing(tmp_path: Path, run: Run, jump_ms: int):
    async def story() -> None:
        group, clocks = jumpy(tmp_path)
        await group.start()
        await group.submit(Asked(node()))
        session = await session_of(group)
        before = await allocated(group, session)
        started = CLOCK.monotonic()
        # The leader's, then that of its successor, which takes over and leads on.
        for _ in range(2):
            leader = await group.leader()
            clocks[leader.replica_id].offset_ms += jump_ms
            await group.submit(Asked(ask("b", cpu=1)))
            await leader.raft.transfer("")
        after = await allocated(group, session)
        passed_ms = (CLOCK.monotonic() - started) * 1000
        assert after.outcomes[0].replayed, "neither lease nor session has run out"
        assert after.granted[0], "it lives"
        assert 0 <= after.at_ms - before.at_ms <= passed_ms + 1_000, "the group's time runs on"
        await group.digests()
        await group.stop()

    run(story())


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_whole_group_that_starts_cold_on_wrong_clocks_ends_no_lease_and_forgets_no_session(
    tmp_path: Path, run: Run, jump_ms: int
):
    async def story() -> None:
        group, clocks = jumpy(tmp_path)
        await group.start()
        await group.submit(Asked(node()))
        session = await session_of(group)
        before = await allocated(group, session)
        assert before.outcomes[0].status == GRANTED
        await group.stop()
        for clock in clocks.values():
            clock.offset_ms += jump_ms
        await group.start()
        after = await allocated(group, session)
        assert after.outcomes[0].replayed
        (allocation,) = after.granted[0]
        left_ms = allocation.expires_ms - after.at_ms
        assert left_ms > 15_000, "of 20 s, and the time nobody led, and the grace"
        assert after.at_ms >= before.at_ms, "time does not go back"
        fresh = await group.submit(
            Asked(ask("c", cpu=1), Origin(session=session, sequence=2)),
        )
        assert fresh.outcomes[0].status in (GRANTED, DONE)
        await group.digests()
        await group.stop()

    run(story())
