"""`raftalloc backup` of a live group into a file, and `raftalloc restore` of it to a new one."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import admin_pb2, events_pb2
from raftalloc.cli import output
from raftalloc.cli.connection import Connection, connected, guarded, open_client
from raftalloc.cli.patience import Patience
from raftalloc.config import load_config
from raftalloc.errors import Unavailable
from raftalloc.server.restore import restore as make
from raftalloc.storage.backups import FORMAT, BackupWriter, Head
from raftalloc.system import SystemClock

if TYPE_CHECKING:
    from raftalloc.client.client import Client

PAGE_BLOCKS = 1000


@connected
def backup(
    connection: Connection,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; it must not exist.")],
) -> None:
    """Write state and events of the group, as of now, into one file, while it goes on."""

    async def ask(client: Client) -> admin_pb2.StatusResponse:
        return await client.admin.status()

    async def whole(_client: Client) -> dict[str, output.Plain]:
        async with open_client((leader,), connection.timeout) as client:
            return await _write(client, file)

    leader = connection.ask(ask).leader_address
    if not leader:
        raise Unavailable("no replica leads at the moment; try again")
    record = {**connection.ask(whole), "bytes": file.stat().st_size}
    if connection.as_json:
        output.show_json(record)
    else:
        output.say(
            f"{file}: the group {record['cluster_id']} at index {record['index']}",
            note=f"{record['blocks']} entries with their events, {record['bytes']} bytes",
        )


async def _write(client: Client, file: Path) -> dict[str, output.Plain]:
    status = await client.admin.status()
    at_index = status.digest_index
    blocks = 0
    with Patience() as patience, BackupWriter(file) as writer:
        index = await _write_state(client, writer, status, at_index)
        position = 0
        while position <= index:
            request = events_pb2.ReadBlocksRequest(from_index=position, page_size=PAGE_BLOCKS)
            page = await client.events.read_blocks(request)
            found = [(each.index, each.block) for each in page.blocks if each.index <= index]
            writer.blocks(found)
            blocks += len(found)
            position = page.next_index
            patience.show("events", min(position, index), index, "")
    return {
        "file": str(file),
        "cluster_id": status.cluster_id,
        "index": index,
        "blocks": blocks,
    }


async def _write_state(
    client: Client, writer: BackupWriter, status: admin_pb2.StatusResponse, at_index: int
) -> int:
    """Answers the index that the state is of."""
    part = await client.admin.read_state(admin_pb2.ReadStateRequest(at_index=at_index))
    index, total = part.index, part.total_bytes
    head = Head(
        format=FORMAT,
        cluster_id=status.cluster_id,
        index=index,
        chain=part.chain_digest,
        state_bytes=total,
        made_ms=SystemClock().wall_ms(),
        version=version("raftalloc"),
    )
    writer.head(head)
    written = 0
    while True:
        writer.state(part.part)
        written += len(part.part)
        if written >= total:
            return index
        request = admin_pb2.ReadStateRequest(at_index=index, offset=written)
        part = await client.admin.read_state(request)


@guarded
def restore(
    as_json: bool,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `raftalloc backup` wrote.")],
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="Of the new group.")
    ],
) -> None:
    """Make the data directories of a new group from a backup. Nothing of it may run, nor its directories exist.

    All of them are made here, at once; where a replica is to run elsewhere, move its directory there.
    """
    loaded = load_config(config)
    with Patience() as patience:
        steps = len(loaded.replicas) + 1
        step = iter(range(steps))
        found = make(
            file,
            loaded,
            lambda what: patience.show("restoring", next(step), steps, what),
        )
    if as_json:
        output.show_json(dataclasses.asdict(found))
        return
    output.say(
        f"group {found.cluster_id}: {', '.join(found.directories)}",
        note=f"the group {found.from_cluster_id} at index {found.index}, content digest {found.content_digest}",
    )
