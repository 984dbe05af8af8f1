"""When Raft ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.raft.driver import STALL_SECONDS, TICK_SECONDS, Driver

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Time that a test moves; call_soon is kept in `soon`, as a loop's next turn."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None], Timer]] = []

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a driver does not sleep")

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer()
        self.later.append((self.now + seconds, callback, timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> Timer:
        self.soon.append(callback)
        return Timer()

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()

    def pass_time(self, seconds: float) -> None:
        """To the end, with every timer and turn on the way."""
        end = self.now + seconds
        self.turn()
        while waiting := [each for each in self.later if not each[2].cancelled and each[0] <= end]:
            first = min(waiting, key=lambda each: each[0])
            self.later.remove(first)
            self.now = first[0]
            first[1]()
            self.turn()
        self.now = end


def driver_of(
    clock: Clock,
    ticks: list[bool],
    *,
    again: bool = False,
    alone: bool = False,
    seconds: float = 1.0,
) -> Driver:
    def tick(was_away: bool) -> float:
        ticks.append(was_away)
        return 0.0 if again and len(ticks) < 3 else seconds

    def fail(error: Exception) -> None:
        raise error

    return Driver(clock, alone=alone, tick=tick, on_error=fail)


def test_kicks_of_one_turn_are_one_tick():
    clock = Clock()
    ticks: list[bool] = []
    driver = driver_of(clock, ticks)
    driver.start()
    driver.kick()
    driver.kick()
    clock.turn()
    assert len(ticks) == 1


def test_a_tick_that_has_more_to_do_is_followed_by_another():
    clock = Clock()
    ticks: list[bool] = []
    driver = driver_of(clock, ticks, again=True)
    driver.start()
    for _ in range(5):
        clock.turn()
    assert len(ticks) == 3


def test_it_ticks_when_something_is_due_and_not_before():
    clock = Clock()
    ticks: list[bool] = []
    driver_of(clock, ticks, seconds=0.03).start()
    clock.pass_time(0.301)
    assert ticks == [False] * 11


def test_what_has_no_deadline_waits_for_a_tenth_of_a_second_at_most():
    clock = Clock()
    ticks: list[bool] = []
    driver_of(clock, ticks, seconds=60.0).start()
    clock.pass_time(1.001)
    assert len(ticks) == 11


def test_what_is_put_off_by_every_message_does_not_move_the_timer_each_time():
    clock = Clock()
    ticks: list[bool] = []
    driver = driver_of(clock, ticks, seconds=0.09)
    driver.start()
    for _ in range(100):
        clock.pass_time(0.01)
        driver.kick()
    clock.turn()
    assert len(ticks) == 101, "one for each message, and none beside"
    assert not [timer for _, _, timer in clock.later if timer.cancelled]


def test_what_is_due_sooner_moves_the_timer():
    clock = Clock()
    ticks: list[bool] = []
    due = [0.09, 0.01, 0.09, 0.09]

    def tick(was_away: bool) -> float:
        ticks.append(was_away)
        return due[len(ticks) - 1]

    driver = Driver(clock, alone=False, tick=tick, on_error=print)
    driver.start()
    clock.pass_time(0.02)
    driver.kick()
    clock.pass_time(0.015)
    assert len(ticks) == 3


def test_after_a_stall_the_sockets_are_heard_before_anyone_is_judged():
    clock = Clock()
    ticks: list[bool] = []
    driver = driver_of(clock, ticks)
    driver.start()
    clock.turn()
    clock.now += TICK_SECONDS + STALL_SECONDS * 1.1
    driver.kick()
    clock.turn()
    assert ticks == [False], "the tick is put off by one turn"
    clock.turn()
    assert ticks == [False, True]
    driver.kick()
    clock.turn()
    assert ticks == [False, True, False]


def test_a_lone_replica_has_nobody_to_hear():
    clock = Clock()
    ticks: list[bool] = []
    driver = driver_of(clock, ticks, alone=True)
    driver.start()
    clock.turn()
    clock.now += STALL_SECONDS * 2
    driver.kick()
    clock.turn()
    assert len(ticks) == 2


def test_what_a_tick_raises_is_told_once_and_ends_the_ticking():
    clock = Clock()
    errors: list[Exception] = []
    ticks: list[int] = []

    def tick(was_away: bool) -> float:
        ticks.append(1)
        raise ValueError("a bug")

    driver = Driver(clock, alone=False, tick=tick, on_error=errors.append)
    driver.start()
    clock.turn()
    driver.kick()
    clock.turn()
    assert len(ticks) == 1
    assert [str(error) for error in errors] == ["a bug"]
    assert clock.later[-1][2].cancelled
