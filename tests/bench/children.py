"""A process of a bench, spoken to in lines of JSON: what it is asked on stdin, what it answers on stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
_LINE_BYTES_MAX: Final = 1 << 20
_STOP_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0


class ChildFailed(Exception):
    """A process of a bench ended, or answered an error."""


class Child:
    """One process. Not for several questions at once."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        """See `start`."""
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, module: str, log: Path, **options: Any) -> Child:
        """Run `python -m module OPTIONS`, options as JSON; what it says on stderr goes to `log`."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                json.dumps(options),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, what: str, **arguments: Any) -> Any:
        """Its answer. Raises ChildFailed where there is none in ANSWER_SECONDS."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([what, arguments]).encode() + b"\n")
            await self._process.stdin.drain()
            line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_SECONDS)
        except (ConnectionError, TimeoutError):
            line = b""
        if not line:
            end = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise ChildFailed(
                f"process {self.pid} gave no answer to {what!r}; {self._log} says:\n{end}"
            )
        return json.loads(line)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> None:
        """Close its stdin, wait, kill it where it will not end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            await self.kill()


async def answer_lines(answer: Any) -> None:
    """The child's side: `await answer(what, arguments)` for each line of stdin, until its end."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        what, arguments = json.loads(line)
        found = json.dumps(await answer(what, arguments)).encode() + b"\n"
        os.write(1, found)


def own_cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    return time.process_time()
