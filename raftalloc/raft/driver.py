"""What makes Raft tick: the event loop, on every event, every proposal, and when the next thing is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Clock, Timer

TICK_SECONDS: Final = 0.1
"""At the latest, for what has no deadline of its own."""
TICK_SECONDS_ALONE: Final = 0.25
"""A lone replica ticks when something is proposed; besides, it has only its commit index to write down."""
STALL_SECONDS: Final = 0.1
"""Called so much later than was due, we first hear what waits in the sockets, and then give others a moment too."""
_EARLY_SECONDS: Final = 0.0005
"""A timer that fires so little before what is due is on time."""


class Driver:
    """Calls `tick` on the loop, never re-entered.

    Its argument says that this process was away, so that the silence it finds is not yet anyone's fault. It answers
    after how many seconds it is due again, 0 for at once. The timer is not moved when something is put off, as every
    heartbeat does: it fires, finds nothing due, and is set anew.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        alone: bool,
        tick: Callable[[bool], float],
        on_error: Callable[[Exception], None],
    ) -> None:
        """`on_error` hears what `tick` raised; there are no ticks after that."""
        self._clock = clock
        self._alone = alone
        self._tick = tick
        self._on_error = on_error
        self._timer: Timer | None = None
        self._running = False
        self._is_due = False
        self._is_put_off = False
        self._due_at = 0.0
        self._timer_at = 0.0

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._due_at = self._clock.monotonic()
        self._set_timer()
        self.kick()

    def set_alone(self, alone: bool) -> None:
        """Whether there is nobody to hear from between proposals."""
        self._alone = alone

    def stop(self) -> None:
        """No more ticks."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def kick(self) -> None:
        """A tick on the loop's next turn."""
        if self._running and not self._is_due:
            self._is_due = True
            self._clock.call_soon(self._turn)

    def _set_timer(self) -> None:
        """For what is due, unless it fires before that anyway."""
        now = self._clock.monotonic()
        if self._timer is not None:
            if now <= self._timer_at <= self._due_at:
                return
            self._timer.cancel()
        self._timer_at = self._due_at
        self._timer = self._clock.call_later(max(0.0, self._due_at - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._running:
            return
        if self._clock.monotonic() < self._due_at - _EARLY_SECONDS:
            self._set_timer()
        else:
            self.kick()

    def _turn(self) -> None:
        self._is_due = False
        if not self._running:
            return
        now = self._clock.monotonic()
        if not self._alone and not self._is_put_off and now - self._timer_at > STALL_SECONDS:
            # One turn of the loop later, every socket that had something to say has said it.
            self._is_put_off = True
            self.kick()
            return
        was_away, self._is_put_off = self._is_put_off, False
        try:
            seconds = self._tick(was_away)
        except Exception as error:  # noqa: BLE001 - the boundary of the event loop: Raft dies of it
            self.stop()
            self._on_error(error)
            return
        if not self._running:
            return
        if seconds <= 0:
            self.kick()
        at_most = TICK_SECONDS_ALONE if self._alone else TICK_SECONDS
        self._due_at = self._clock.monotonic() + min(max(seconds, 0.0) or at_most, at_most)
        self._set_timer()
