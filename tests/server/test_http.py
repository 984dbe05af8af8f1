from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from raftalloc.server import http
from raftalloc.server.http import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from tests.conftest import Run


@asynccontextmanager
async def served(port: int, *, health: str = "", ready: str = "") -> AsyncIterator[None]:
    server = HttpServer(metrics=lambda: b"m 1\n", health=lambda: health, ready=lambda: ready)
    await server.start("127.0.0.1", port)
    try:
        yield
    finally:
        await server.close()


async def said(port: int, request: bytes, *, end: bool = False) -> tuple[int, bytes]:
    """Status and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if end:
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_pages_are_served(run: Run, free_ports: Callable[[int], list[int]]):
    (port,) = free_ports(1)

    async def scene() -> None:
        async with served(port):
            assert await said(port, get("/metrics")) == (200, b"m 1\n")
            assert await said(port, get("/healthz")) == (200, b"ok\n")
            assert await said(port, get("/readyz?verbose=1")) == (200, b"ok\n")
            assert await said(port, get("/metrics", "HEAD")) == (200, b"")

    run(scene())


def test_what_is_wrong_is_said_with_503(run: Run, free_ports: Callable[[int], list[int]]):
    (port,) = free_ports(1)

    async def scene() -> None:
        async with served(port, health="stopped: disk", ready="no leader is known"):
            assert await said(port, get("/healthz")) == (503, b"stopped: disk\n")
            assert await said(port, get("/readyz")) == (503, b"no leader is known\n")

    run(scene())


def test_bad_requests_are_refused(run: Run, free_ports: Callable[[int], list[int]]):
    (port,) = free_ports(1)

    async def scene() -> None:
        async with served(port):
            assert (await said(port, get("/nothing")))[0] == 404
            assert (await said(port, get("/metrics", "POST")))[0] == 405
            assert (await said(port, b"\x16\x03\x01 hello\r\n\r\n"))[0] == 400
            assert (await said(port, b"GET /metrics", end=True))[0] == 400
            assert (await said(port, b"GET /" + b"x" * 20_000 + b"\r\n\r\n"))[0] == 431

    run(scene())


def test_a_caller_who_says_nothing_is_dropped(
    run: Run, free_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
):
    (port,) = free_ports(1)
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.05)

    async def scene() -> None:
        async with served(port):
            assert await said(port, b"GET ") == (0, b"")
            assert (await said(port, get("/healthz")))[0] == 200

    run(scene())


def test_a_page_that_fails_is_500_and_the_server_goes_on(
    run: Run, free_ports: Callable[[int], list[int]]
):
    (port,) = free_ports(1)

    def broken() -> bytes:
        raise KeyError("secret")

    async def scene() -> None:
        server = HttpServer(metrics=broken, health=str, ready=str)
        await server.start("127.0.0.1", port)
        code, body = await said(port, get("/metrics"))
        assert code == 500
        assert b"secret" not in body
        assert (await said(port, get("/healthz")))[0] == 200
        await server.close()

    run(scene())


def test_too_many_connections_are_told_so(
    run: Run, free_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
):
    (port,) = free_ports(1)
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 1)

    async def scene() -> None:
        async with served(port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0.05)
            assert (await said(port, get("/healthz")))[0] == 503
            writer.write(get("/healthz"))
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

    run(scene())
