from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.server.streams import ordered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Run


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_answers_keep_the_order_of_requests_whichever_is_ready_first(run: Run):
    async def answer(number: int) -> int:
        for _ in range(20 - number):
            await asyncio.sleep(0)
        return number

    async def scene() -> list[int]:
        return [each async for each in ordered(numbers(20), answer, 8)]

    assert run(scene()) == list(range(20))


def test_no_more_than_the_limit_are_under_way(run: Run):
    under_way: list[int] = []
    most = 0

    async def answer(number: int) -> int:
        nonlocal most
        under_way.append(number)
        most = max(most, len(under_way))
        await asyncio.sleep(0.001)
        under_way.remove(number)
        return number

    async def scene() -> int:
        return len([each async for each in ordered(numbers(40), answer, 4)])

    assert run(scene()) == 40
    assert most == 4


def test_a_failure_comes_where_its_answer_would_have_and_ends_the_rest(run: Run):
    async def answer(number: int) -> int:
        if number == 3:
            raise ValueError("no")
        await asyncio.sleep(0.001 if number < 3 else 60)
        return number

    async def scene() -> list[int]:
        answers = ordered(numbers(10), answer, 8)
        before = [await anext(answers) for _ in range(3)]
        with pytest.raises(ValueError, match="no"):
            await anext(answers)
        return before

    assert run(scene()) == [0, 1, 2]


def test_a_failure_to_read_requests_is_heard_after_the_answers_before_it(run: Run):
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("gone")

    async def answer(number: int) -> int:
        return number

    async def scene() -> list[int]:
        answers = ordered(broken(), answer, 8)
        before = [await anext(answers)]
        with pytest.raises(ConnectionError):
            await anext(answers)
        return before

    assert run(scene()) == [1]


def test_leaving_early_cancels_what_is_under_way(run: Run):
    cancelled: list[int] = []

    async def answer(number: int) -> int:
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def scene() -> None:
        answers = ordered(numbers(4), answer, 8)
        assert await anext(answers) == 0
        await answers.aclose()

    run(scene())
    assert cancelled == [1, 2, 3]
