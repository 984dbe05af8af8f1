"""What nothing can be faster than: one fdatasync, and a round trip over loopback, bare and in TLS."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from raftalloc.security.files import TlsFiles
from tests.bench.children import Child, answer_lines
from tests.bench.figures import Figures, quantiles_ms
from tests.bench.registry import Bench, Context
from tests.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "floor"
SYNC_BYTES: Final = {"fdatasync_200B": 200, "fdatasync_64KB": 65_536}
_FILE_BYTES: Final = 64 << 20
_MESSAGE: Final = bytes(100)


async def measure(context: Context) -> None:
    """Each once for every run."""
    for _ in range(context.runs):
        await measure_once(context)


async def measure_once(context: Context) -> None:
    """One value of each figure; other benches call it too, so that theirs stand beside those of the same minute."""
    seconds = min(context.seconds, 1.0)
    for name, size in SYNC_BYTES.items():
        p50, p99 = quantiles_ms(_syncs(context.directory / "floor", size, seconds))
        context.figures.add(NAME, f"{name}_p50", p50, "ms")
        context.figures.add(NAME, f"{name}_p99", p99, "ms")
    authority = Authority(context.directory / "floor-certs", "tests")
    files = authority.replica("a")
    log = context.directory / "floor.log"
    echo = await Child.start("tests.bench.floor", log, tls=astuple(files))
    try:
        ports = await echo.ask("ports")
        for name, tls, port in zip(("bare", "tls"), (None, files), ports, strict=True):
            p50, p99 = quantiles_ms(await _round_trips(port, seconds, tls))
            context.figures.add(NAME, f"round_trip_{name}_p50", p50, "ms")
            context.figures.add(NAME, f"round_trip_{name}_p99", p99, "ms")
    finally:
        await echo.stop()


def _syncs(path: Path, size: int, seconds: float) -> list[float]:
    """Write `size` bytes behind one another into a file whose blocks are there, and sync each time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    content, taken, at = bytes(size), [], 0
    try:
        os.posix_fallocate(descriptor, 0, _FILE_BYTES)
        os.fsync(descriptor)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            os.pwrite(descriptor, content, at)
            os.fdatasync(descriptor)
            taken.append(time.perf_counter() - began)
            at = (at + size) % (_FILE_BYTES - size)
    finally:
        os.close(descriptor)
        path.unlink()
    return taken


class _Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Asker(asyncio.Protocol):
    """Asks again when everything has come back, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self.taken: list[float] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until = time.perf_counter() + seconds
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if self._got == len(_MESSAGE):
            self.taken.append(time.perf_counter() - self._asked)
            self._ask()

    def _ask(self) -> None:
        self._got, self._asked = 0, time.perf_counter()
        if self._asked > self._until:
            self.over.set_result(None)
        else:
            self._transport.write(_MESSAGE)


async def _round_trips(port: int, seconds: float, tls: TlsFiles | None) -> list[float]:
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_connection(
        lambda: _Asker(seconds),
        "127.0.0.1",
        port,
        ssl=_context(ssl.PROTOCOL_TLS_CLIENT, tls) if tls else None,
    )
    await asker.over
    transport.close()
    return asker.taken


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.3 with certificates both ways, as members have it, in asyncio's own way."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def main(options: dict[str, Any]) -> None:
    """The process that echoes."""
    loop = asyncio.get_running_loop()
    tls = _context(ssl.PROTOCOL_TLS_SERVER, TlsFiles(*options["tls"]))
    servers = [
        await loop.create_server(_Echo, "127.0.0.1", 0, ssl=context) for context in (None, tls)
    ]

    async def answer(_what: str, _arguments: dict[str, Any]) -> Any:
        return [server.sockets[0].getsockname()[1] for server in servers]

    await answer_lines(answer)
    for server in servers:
        server.close()


def relate(_figures: Figures) -> None:
    """It is what others are related to."""


BENCH: Final = Bench(NAME, "one fdatasync, and a round trip over loopback", measure, relate)

if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
