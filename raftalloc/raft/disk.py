"""The disk of production beneath the Raft log: files of this machine, and one thread that writes and syncs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.system import SystemDisk, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES: Final = 1 << 24
_MODE: Final = 0o644


class SystemLogFile:
    """A file by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Takes the descriptor over."""
        self._descriptor = descriptor

    def size(self) -> int:
        """Bytes, what was preallocated included."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file."""
        parts: list[bytes] = []
        while count > 0:
            part = os.pread(self._descriptor, min(count, _READ_BYTES), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write_at(self, offset: int, content: bytes) -> None:
        """All of `content`; a short write is gone on with, and then says why it was short."""
        written = os.pwrite(self._descriptor, content, offset)
        while written < len(content):
            rest = memoryview(content)[written:]
            written += os.pwrite(self._descriptor, rest, offset + written)

    def sync(self) -> None:
        """Wait for fdatasync. The interpreter is let go meanwhile."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go, without a sync."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


_Job = tuple["Callable[[], None]", "Callable[[OSError | None], None]", asyncio.AbstractEventLoop]


class SystemLogDisk:
    """Files of this machine. The thread starts with the first `submit`, and ends with `close`."""

    def __init__(self) -> None:
        """Touches nothing."""
        self._files = SystemDisk()
        self._jobs: queue.SimpleQueue[_Job | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def make_directory(self, path: str) -> None:
        """Also its parents."""
        self._files.make_directory(path)

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""
        return self._files.list(path)

    def create(self, path: str, size: int) -> SystemLogFile:
        """A new file whose blocks are reserved, so that a full disk shows here and not later."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except BaseException:
            os.close(descriptor)
            raise
        return SystemLogFile(descriptor)

    def open(self, path: str, *, writable: bool) -> SystemLogFile:
        """A file that is there."""
        flags = os.O_RDWR if writable else os.O_RDONLY
        return SystemLogFile(os.open(path, flags | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        """In one step."""
        Path(old).replace(new)

    def remove(self, path: str) -> None:
        """The name; the space follows."""
        Path(path).unlink()

    def sync_directory(self, path: str) -> None:
        """Names made, renamed and removed in it are on the disk when this returns."""
        sync_directory(path)

    def lock(self, path: str) -> Callable[[], None]:
        """Hold `path` for this process; the kernel lets go when the process dies, however it does."""
        return self._files.lock(path)

    def submit(self, work: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """Hand `work` to the thread; `done` is called on the loop that runs now."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="raft-log", daemon=True)
            self._thread.start()
        self._jobs.put((work, done, asyncio.get_running_loop()))

    def drain(self) -> None:
        """Block until everything submitted has run."""
        if self._thread is not None:
            reached = threading.Event()
            self._jobs.put(reached)
            reached.wait()

    def close(self) -> None:
        """Let the thread finish what it was given, and end."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, threading.Event):
                job.set()
                continue
            work, done, loop = job
            answer = _outcome(work, done)
            # A loop that was closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(answer)


def _outcome(
    work: Callable[[], None], done: Callable[[OSError | None], None]
) -> Callable[[], None]:
    """Run `work`; what is to be called on the loop then."""
    bug: Exception
    try:
        work()
    except OSError as error:
        failed = error
        return lambda: done(failed)
    except Exception as error:  # noqa: BLE001 - the boundary of the thread: raised again on the loop
        bug = error
    else:
        return lambda: done(None)

    def crash() -> None:
        raise bug

    return crash
