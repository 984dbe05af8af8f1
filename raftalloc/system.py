"""The ports of production: this machine's time, randomness, files, sockets and processes. Linux is the platform."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.errors import DataDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READ: Final = 1
WRITE: Final = 2
FRAME_BYTES_MAX: Final = (1 << 32) - 1
CHILD_STOP_SECONDS: Final = 30.0
_FRAME_HEAD: Final = struct.Struct(">I")
_PIPE_BUFFER_BYTES: Final = 1 << 20
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parent.parent)


class SystemClock:
    """This machine's clocks and the running event loop's timers."""

    def monotonic(self) -> float:
        """Seconds, never going back."""
        return time.monotonic()  # noqa: TID251 - the port's own implementation

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.Handle:
        """Call back on the running loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """Call back on the running loop's next turn."""
        return asyncio.get_running_loop().call_soon(callback)


class SystemRng:
    """The kernel's randomness."""

    def random(self) -> float:
        """In [0, 1)."""
        return int.from_bytes(os.urandom(6), "big") / (1 << 48)

    def token(self, bytes_count: int) -> bytes:
        """Unpredictable bytes."""
        return os.urandom(bytes_count)


class SystemDisk:
    """Files of this machine. A write is on the disk when it answers."""

    def read(self, path: str) -> bytes | None:
        """The content, or None where there is no such file."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Replace the file in one step: written beside, synced, renamed, the directory synced."""
        beside = Path(path + ".tmp")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_directory(str(Path(path).parent))

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def make_directory(self, path: str) -> None:
        """Also its parents."""
        Path(path).mkdir(parents=True, exist_ok=True)

    def remove_tree(self, path: str) -> None:
        """And everything below; no error where there is none."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            Path(path).unlink()

    def lock(self, path: str) -> Callable[[], None]:
        """Hold `path` for this process; the kernel lets go when the process dies, however it does."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise DataDirectoryError(
                f"{Path(path).parent}: in use by pid {holder}; stop that process, or use another directory"
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except OSError:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)


def sync_directory(path: str) -> None:
    """Names that were made, renamed or removed in a directory are on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LoopPoller:
    """pysyncobj's poller on the running event loop: no thread, no polling."""

    def __init__(self) -> None:
        """For the loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._on_event: Callable[[], None] = lambda: None
        self._on_error: Callable[[Exception], None] | None = None
        self._subscriptions: dict[int, object] = {}

    def attach(self, on_event: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
        """Who hears after each event, and of what a socket's callback raised."""
        self._on_event = on_event
        self._on_error = on_error

    def subscribe(self, descr: int, callback: Callable[[int, int], None], event_mask: int) -> None:
        """Call back on these events; errors come as readability, as the loop reports them."""
        token = self._subscriptions.setdefault(descr, object())
        if event_mask & READ:
            self._loop.add_reader(descr, self._happened, descr, callback, READ, token)
        if event_mask & WRITE:
            self._loop.add_writer(descr, self._happened, descr, callback, WRITE, token)
        else:
            self._loop.remove_writer(descr)

    def unsubscribe(self, descr: int) -> None:
        """No more calls."""
        self._subscriptions.pop(descr, None)
        # pysyncobj closes a socket before it says so; the selector then forgets it with an error.
        with contextlib.suppress(OSError):
            self._loop.remove_reader(descr)
        with contextlib.suppress(OSError):
            self._loop.remove_writer(descr)

    def poll(self, timeout: float) -> None:
        """Nothing: the loop polls."""

    def _happened(
        self, descr: int, callback: Callable[[int, int], None], mask: int, token: object
    ) -> None:
        # The socket may have been closed earlier in this turn of the loop, and its number given to another.
        if self._subscriptions.get(descr) is not token:
            return
        try:
            callback(descr, mask)
        except Exception as error:
            # The boundary of the event loop: whoever drives Raft decides what a fault in it means, which is to stop.
            if self._on_error is None:
                raise
            self._on_error(error)
            return
        self._on_event()


class SystemNet:
    """TCP of this machine."""

    def poller(self) -> LoopPoller:
        """A new one, for the running loop."""
        return LoopPoller()

    def can_bind(self, host: str, port: int) -> bool:
        """Whether the address is free."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                    return False
                raise
        return True


class SystemChild:
    """A process of ours, spoken to in frames: four bytes of length, big-endian, and the frame."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take over a process that was started with pipes."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input = process.stdin
        self._output = process.stdout

    async def send(self, frame: bytes) -> None:
        """Waits while the pipe is full; raises EOFError when the child has gone."""
        assert len(frame) <= FRAME_BYTES_MAX
        try:
            self._input.write(_FRAME_HEAD.pack(len(frame)) + frame)
            await self._input.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError(f"process {self.pid} has gone") from error

    async def receive(self) -> bytes:
        """The next frame; raises EOFError when the child has gone."""
        try:
            head = await self._output.readexactly(_FRAME_HEAD.size)
            return await self._output.readexactly(_FRAME_HEAD.unpack(head)[0])
        except asyncio.IncompleteReadError as error:
            raise EOFError(f"process {self.pid} has gone") from error

    async def stop(self) -> None:
        """Close its input, wait, and kill it if it will not end."""
        self._input.close()
        try:
            await asyncio.wait_for(self._process.wait(), CHILD_STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        # What it still said is read, so that its pipe closes too.
        await self._output.read()

    async def kill(self) -> None:
        """End it now, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._input.close()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid


class SystemSpawn:
    """Processes of this machine. Started fresh, never forked off a running interpreter."""

    async def child(self, module: str, arguments: Sequence[str]) -> SystemChild:
        """Run `python -m module arguments...`, with this package first on its path; stderr is ours."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_PACKAGE_ROOT,
            limit=_PIPE_BUFFER_BYTES,
        )
        return SystemChild(process)


def read_frame(descriptor: int) -> bytes | None:
    """The next frame of a pipe, blocking; None at its end. The child's side of SystemChild."""
    head = _read_exactly(descriptor, _FRAME_HEAD.size)
    if head is None:
        return None
    return _read_exactly(descriptor, _FRAME_HEAD.unpack(head)[0])


def write_frame(descriptor: int, frame: bytes) -> None:
    """Write one frame to a pipe, blocking."""
    rest = memoryview(_FRAME_HEAD.pack(len(frame)) + frame)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = os.read(descriptor, min(count, _PIPE_BUFFER_BYTES))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
