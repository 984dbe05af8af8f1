"""The ports of production: this machine's time, randomness, files, sockets and processes. Linux is the platform."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
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

    from raftalloc.ports import StreamOwner

READ_BUFFER_BYTES: Final = 256 << 10
WRITE_BUFFER_BYTES: Final = 256 << 10
"""Of one connection; what is above waits with its owner."""
UNACKNOWLEDGED_MILLISECONDS: Final = 10_000
LISTEN_BACKLOG: Final = 512
ACCEPTS_A_TURN: Final = 32
ACCEPT_PAUSE_SECONDS: Final = 0.2
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
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


class SystemStream(asyncio.BufferedProtocol):
    """A TCP connection on the event loop."""

    def __init__(self, owner: StreamOwner, buffer: memoryview) -> None:
        """`buffer`: what arrives is put there, and looked at before anything else can be."""
        self._owner = owner
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self.is_full = False

    @property
    def is_to_itself(self) -> bool:
        """See ports.Stream."""
        assert self._transport is not None
        name = self._transport.get_extra_info
        return bool(name("sockname") == name("peername"))

    def write(self, data: bytes) -> None:
        """See ports.Stream."""
        assert self._transport is not None
        self._transport.write(data)

    def abort(self) -> None:
        """See ports.Stream."""
        assert self._transport is not None
        self._transport.abort()

    # What follows is asyncio's.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Small messages are not held back, and what nobody acknowledges ends the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS
        )
        self._owner.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """One for all connections of this loop: nothing is kept in it."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self._owner.received(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        """Too much waits to be sent."""
        self.is_full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.is_full = False
        self._owner.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._owner.closed("closed by the other side" if exc is None else str(exc))


class SystemNet:
    """TCP of this machine."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._buffer = memoryview(bytearray(READ_BUFFER_BYTES))
        self._dialling: set[asyncio.Task[None]] = set()

    def listen(
        self,
        host: str,
        port: int,
        admit: Callable[[str], StreamOwner | None],
        failed: Callable[[OSError], None],
    ) -> Callable[[], None]:
        """See ports.Net."""
        return _Listener(host, port, admit, failed, self._buffer).close

    def connect(self, host: str, port: int, owner: StreamOwner) -> Callable[[], None]:
        """See ports.Net."""
        ipaddress.ip_address(host)  # or asyncio would look it up
        loop = asyncio.get_running_loop()

        async def dial() -> None:
            try:
                await loop.create_connection(lambda: SystemStream(owner, self._buffer), host, port)
            except OSError as error:
                owner.closed(str(error))

        task = loop.create_task(dial())
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

        def give_up() -> None:
            task.cancel()

        return give_up

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


class _Listener:
    """A listening socket. Whatever goes wrong with one connection, it goes on listening."""

    def __init__(
        self,
        host: str,
        port: int,
        admit: Callable[[str], StreamOwner | None],
        failed: Callable[[OSError], None],
        buffer: memoryview,
    ) -> None:
        """Raises OSError where the address cannot be taken."""
        self._admit, self._failed, self._buffer = admit, failed, buffer
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(LISTEN_BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._go_on()

    def close(self) -> None:
        """Listen no more; those that are there stay. May be called twice."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        for task in self._tasks:
            task.cancel()

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._take)

    def _take(self) -> None:
        """Those who wait, but not all of them at once: others have to have their turn."""
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors, most likely: the one who waits stays first in line, so look again only in a while.
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._go_on)
                self._failed(error)
                return
            owner = self._admit(str(address[0]))
            if owner is None:
                # With a reset, so that the kernel keeps nothing of it.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                connection.close()
            else:
                self._serve(connection, owner)

    def _serve(self, connection: socket.socket, owner: StreamOwner) -> None:
        async def take_over() -> None:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(
                lambda: SystemStream(owner, self._buffer), connection
            )

        def taken_over(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                connection.close()
            elif error := task.exception():
                connection.close()
                owner.closed(str(error))

        task: asyncio.Task[object] = self._loop.create_task(take_over())
        self._tasks.add(task)
        task.add_done_callback(taken_over)


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
