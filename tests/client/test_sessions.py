from __future__ import annotations

import asyncio

from raftalloc.client.sessions import IDLE_S_MAX, WINDOW, Sessions


class Group:
    """Opens sessions 1, 2, 3 ...; time is what the test says."""

    def __init__(self) -> None:
        self.opened = 0
        self.now_s = 0.0

    async def open(self) -> int:
        await asyncio.sleep(0)
        self.opened += 1
        return self.opened

    def now(self) -> float:
        return self.now_s


def test_callers_that_come_together_share_the_session_that_the_first_one_opens() -> None:
    async def scene() -> None:
        group = Group()
        sessions = Sessions(group.open, group.now)
        stamps = await asyncio.gather(*(sessions.take(1) for _ in range(50)))
        assert group.opened == 1
        assert sorted(stamp.first for stamp in stamps) == list(range(1, 51))

    asyncio.run(scene())


def test_no_sequence_is_taken_that_would_push_a_call_under_way_out_of_the_window() -> None:
    async def scene() -> None:
        group = Group()
        sessions = Sessions(group.open, group.now)
        stuck = await sessions.take(1)
        for _ in range(WINDOW - 1):
            sessions.done(await sessions.take(1))
        assert group.opened == 1
        beyond = await sessions.take(1)
        assert (group.opened, beyond.session) == (2, 2)
        sessions.done(stuck)
        assert (await sessions.take(1)).session == 1

    asyncio.run(scene())


def test_a_session_that_idled_is_not_used_again_unless_a_call_is_under_way() -> None:
    async def scene() -> None:
        group = Group()
        sessions = Sessions(group.open, group.now)
        stamp = await sessions.take(1)
        group.now_s = IDLE_S_MAX + 1
        assert (await sessions.take(1)).session == stamp.session
        sessions.done(stamp)
        sessions = Sessions(group.open, group.now)
        sessions.done(await sessions.take(1))
        group.now_s += IDLE_S_MAX + 1
        assert (await sessions.take(1)).session == 3

    asyncio.run(scene())


def test_a_session_that_could_not_be_opened_is_opened_by_the_next_caller() -> None:
    async def scene() -> None:
        group = Group()
        failures = [RuntimeError("no leader")]

        async def open_session() -> int:
            if failures:
                raise failures.pop()
            return await group.open()

        sessions = Sessions(open_session, group.now)
        both = await asyncio.gather(sessions.take(1), sessions.take(1), return_exceptions=True)
        assert isinstance(both[0], RuntimeError)
        assert not isinstance(both[1], BaseException)

    asyncio.run(scene())
