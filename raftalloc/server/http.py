"""A tiny HTTP server for what does not speak gRPC: Prometheus, load balancers, people with curl.

    /metrics   Prometheus' text format
    /healthz   200 while the process works; 503 once the replica has stopped itself
    /readyz    200 while the replica can serve: a leader is known and what is committed is applied; else 503 and why

One request a connection; a request head is at most 8 KiB and has 5 seconds; GET and HEAD.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.telemetry.logs import get_logger
from raftalloc.telemetry.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES_MAX: Final = 8 << 10
LINGER_BYTES_MAX: Final = 64 << 10
REQUEST_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 64
_TEXT: Final = "text/plain; charset=utf-8"
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    code: int
    body: bytes
    content_type: str = _TEXT


class HttpServer:
    """Serves one replica's pages. health and ready answer the empty string, or what is wrong."""

    def __init__(
        self,
        *,
        metrics: Callable[[], bytes],
        health: Callable[[], str],
        ready: Callable[[], str],
    ) -> None:
        """Nothing is opened before `start`."""
        self._pages: dict[str, Callable[[], Page]] = {
            "/metrics": lambda: Page(200, metrics(), CONTENT_TYPE),
            "/healthz": lambda: _verdict(health()),
            "/readyz": lambda: _verdict(ready()),
        }
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError where the address is taken."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=HEAD_BYTES_MAX)

    async def close(self) -> None:
        """Listen no more, and end the connections there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = dict(self._connections)
        for writer in connections.values():
            writer.close()
        await asyncio.gather(*connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from beginning to end."""
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task of its own"
        self._connections[task] = writer
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                too_many = len(self._connections) > CONNECTIONS_MAX
                page, method = await self._answer(reader)
                if too_many:
                    page = Page(503, b"too many connections\n")
                writer.write(_response(page, with_body=method != "HEAD"))
                await _linger(reader, writer)
        except (TimeoutError, ConnectionError):
            # A caller who is slow or gone has no more to be told.
            log.debug("HTTP connection dropped")
        finally:
            del self._connections[task]
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[Page, str]:
        """Read one request; what to answer, and its method."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return Page(431, f"at most {HEAD_BYTES_MAX} bytes of head\n".encode()), "GET"
        except asyncio.IncompleteReadError:
            return Page(400, b"the request is not whole\n"), "GET"
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return Page(400, b"this is no HTTP/1.x request\n"), "GET"
        method, path = words[0].decode("latin-1"), words[1].decode("latin-1").partition("?")[0]
        if method not in ("GET", "HEAD"):
            return Page(405, b"GET or HEAD\n"), method
        make = self._pages.get(path)
        if make is None:
            return Page(404, f"there are {', '.join(self._pages)}\n".encode()), method
        try:
            return make(), method
        except Exception:  # the boundary of a connection: logged, and the caller hears of it
            log.exception("HTTP page failed", path=path)
            return Page(500, b"internal error; the log has more\n"), method


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the caller read to the end: closing on bytes that are still unread would throw the answer away."""
    await writer.drain()
    if writer.can_write_eof() and not writer.is_closing():
        writer.write_eof()
    unread = LINGER_BYTES_MAX
    while unread > 0 and (chunk := await reader.read(HEAD_BYTES_MAX)):
        unread -= len(chunk)


def _verdict(problem: str) -> Page:
    return Page(503, f"{problem}\n".encode()) if problem else Page(200, b"ok\n")


def _response(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.code} {_REASONS[page.code]}\r\n"
        f"Content-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (page.body if with_body else b"")
