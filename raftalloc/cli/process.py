"""A replica as a process of this machine: started, found again by its pid, signalled, waited for.

A pid alone does not name a process, since the system gives it out again; with the time the process was started it
does. Both are kept, so that `raftalloc down` never signals a stranger.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_STARTED_FIELD: Final = 19
"""Of /proc/<pid>/stat, counted after the name: clock ticks from boot to start (proc(5), field 22)."""
_STATE_FIELD: Final = 0
_GONE: Final = ("Z", "X")
_RESET: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Process:
    """One process.

    started_ticks: when, in clock ticks since boot. exit_code: once it has ended, where it was a child of ours.
    """

    pid: int
    started_ticks: int
    exit_code: int | None = None

    @classmethod
    def spawn(cls, module: str, arguments: Sequence[str], log: Path) -> Process:
        """Run `python -m module arguments...`, output appended to `log`, in a session of its own.

        Its own session: Ctrl-C in a terminal reaches us alone, and we end the replicas in order.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", module, *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), appending, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=_RESET,
        )
        return cls(pid, _started_ticks(pid))

    def alive(self) -> bool:
        """Whether it still runs. Reaps it where it was ours."""
        if self.exit_code is not None:
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # started by another command
            return self.started_ticks != 0 and _started_ticks(self.pid) == self.started_ticks
        if pid == 0:
            return True
        self.exit_code = os.waitstatus_to_exitcode(status)
        return False

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if it had already ended."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def _started_ticks(pid: int) -> int:
    """0 where there is no such process, or only what is left of one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[_STATE_FIELD] in _GONE else int(fields[_STARTED_FIELD])
