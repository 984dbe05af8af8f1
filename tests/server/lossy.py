"""A TCP proxy that loses what it carries: links are cut before a request arrives, and after it was answered."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.ports import Rng

CHUNK_BYTES = 64 << 10


@dataclass
class Losses:
    """How often: of a chunk towards the replica, of one towards the caller, of either that nothing goes on at all."""

    requests: float = 0.03
    answers: float = 0.06
    silence: float = 0.004


class LossyProxy:
    """From one port to another; `cuts` counts by what was lost. `losses` None: it loses nothing."""

    def __init__(self, dice: Rng, to_port: int) -> None:
        self.losses: Losses | None = Losses()
        self.cuts = {"requests": 0, "answers": 0, "silence": 0}
        self._dice = dice
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", port)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await self._link(reader, writer)
        finally:
            self._links.discard(task)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            return
        ways = [
            asyncio.create_task(self._carry(reader, to_writer, "requests")),
            asyncio.create_task(self._carry(to_reader, writer, "answers")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            to_writer.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.losses is not None:
                    if self._dice.random() < self.losses.silence:
                        self.cuts["silence"] += 1
                        await asyncio.sleep(1.2)
                        return
                    if self._dice.random() < getattr(self.losses, what):
                        self.cuts[what] += 1
                        return
                writer.write(chunk)
                await writer.drain()
