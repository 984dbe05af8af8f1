"""Long work: a bar that shows how far it is, and Ctrl-C that ends it in good order.

The bar is drawn on stderr, where that is a terminal. The first Ctrl-C asks the work to stop, the second stops it.
"""

from __future__ import annotations

import signal
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from raftalloc.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_SHOW_EVERY_S: Final = 0.1


class Patience:
    """Used as a context manager around the work, in the main thread. `stopped`: Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.stopped = False
        self.on_stop: Callable[[], object] | None = None
        console = output.console(error=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, note="")
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        signal.signal(signal.SIGINT, self._before)

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """How far it is. May be called as often as one likes."""
        now = perf_counter()
        if now - self._shown_at >= _SHOW_EVERY_S:
            self._shown_at = now
            self._bar.update(self._task, description=what, completed=done, total=total, note=note)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        if self.on_stop is not None:
            self.on_stop()
