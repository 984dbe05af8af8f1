"""Those who knock at a Raft port and are not, or only pretend to be, members."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from typing import TYPE_CHECKING, Any, Self

import msgpack

from raftalloc.raft.frames import LENGTHS

if TYPE_CHECKING:
    from raftalloc.security.files import TlsFiles
    from tests.raft.replicas import Group

HUGE = struct.pack(">II", 2**32 - 1, 2**32 - 1)


def frame(message: object, body: bytes = b"") -> bytes:
    head = message if isinstance(message, bytes) else msgpack.packb(message)
    return LENGTHS.pack(len(head), len(body)) + head + body


def hello(**changes: Any) -> bytes:
    said = {
        "type": "hello",
        "version": 1,
        "oldest": 1,
        "cluster_id": "tests",
        "from": "c",
        "to": "a",
    }
    return frame({**said, **changes})


def context(files: TlsFiles | None) -> ssl.SSLContext:
    """As a client that trusts everybody, with a certificate or without."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if files is not None:
        made.load_cert_chain(files.certificate, files.key)
    return made


class Stranger:
    """A connection to the Raft port of a replica."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, group: Group, replica_id: str, tls: ssl.SSLContext | None) -> Self:
        host, port = group.peers[replica_id]
        return cls(*await asyncio.open_connection(host, port, ssl=tls))

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(OSError):
            await self.writer.drain()

    async def hear(self, seconds: float = 10.0) -> bytes:
        """All until the other side closes."""
        heard = b""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(seconds):
                while data := await self.reader.read(1 << 16):
                    heard += data
        return heard

    async def hear_frame(self) -> dict[str, Any]:
        head_bytes, body_bytes = LENGTHS.unpack(await self.reader.readexactly(LENGTHS.size))
        head: dict[str, Any] = msgpack.unpackb(await self.reader.readexactly(head_bytes))
        await self.reader.readexactly(body_bytes)
        return head

    async def leave(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


async def answer_to(
    group: Group, replica_id: str, tls: ssl.SSLContext | None, data: bytes
) -> bytes:
    """What a replica says to somebody who says `data`, until it closes."""
    try:
        stranger = await Stranger.at(group, replica_id, tls)
    except OSError:
        return b""
    try:
        await stranger.say(data)
        return await stranger.hear()
    finally:
        await stranger.leave()
