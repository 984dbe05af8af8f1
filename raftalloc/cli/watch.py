"""`raftalloc watch`: what becomes of allocations and waiting requests, until they end."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.cli import output
from raftalloc.cli.allocation import table_of
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.events import show_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftalloc.client.client import Client

_WAITING = types_pb2.Allocation.STATE_WAITING
_ENDED = types_pb2.Allocation.STATE_ENDED


class Until(StrEnum):
    """When to stop watching."""

    GRANTED = "granted"
    ENDED = "ended"


@connected
def watch(
    connection: Connection,
    ids: Annotated[
        list[int], typer.Argument(metavar="ID", min=1, help="Allocations or waiting requests.")
    ],
    until: Annotated[Until, typer.Option(help="Stop when each of them is that.")] = Until.ENDED,
) -> None:
    """Follow allocations and waiting requests until they have ended. --json: one event a line.

    Exits with 0 when each has come so far; with 1 if one was withdrawn, or has ended before it was to be `granted`.
    """

    async def follow(client: Client) -> bool:
        status = await client.admin.status()
        # What happens from here on is watched, what has happened before is asked for: nothing falls between.
        request = events_pb2.WatchRequest(from_index=status.applied_index + 1)
        found = [
            (await client.allocator.get(allocator_pb2.GetRequest(id=each))).allocation
            for each in ids
        ]
        if not connection.as_json:
            output.console().print(table_of(found))
        pending = Pending(found, until)
        if pending.left:
            async with contextlib.aclosing(client.events.watch(request)) as responses:
                async for response in responses:
                    for event in response.events:
                        if pending.concerns(event):
                            show_event(event, as_json=connection.as_json)
                    if not pending.left:
                        break
        return pending.came

    if not connection.ask(follow):
        raise typer.Exit(int(output.Exit.NO))


class Pending:
    """Those that have not come so far yet. `came`: whether the others did as they were to."""

    def __init__(self, found: Iterable[types_pb2.Allocation], until: Until) -> None:
        """From how they are now."""
        self._until = until
        self._requests: dict[int, int] = {}
        self._live: set[int] = set()
        self.came = True
        for allocation in found:
            if allocation.state == _WAITING:
                self._requests[allocation.id] = allocation.waiting_count
            elif allocation.state == _ENDED:
                self.came &= until is Until.ENDED
            elif until is Until.ENDED:
                self._live.add(allocation.id)

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self._requests) + len(self._live)

    def concerns(self, event: events_pb2.Event) -> bool:
        """Whether the event is about one of them; takes note of it."""
        detail = json.loads(event.detail_json)
        request_id, allocation_id = detail.get("request_id"), detail.get("allocation_id")
        match event.type:
            case "Granted" if request_id in self._requests:
                self._grant(request_id, allocation_id)
                return True
            case "Withdrawn" if request_id in self._requests:
                del self._requests[request_id]
                self.came = False
                return True
            case "Ended" if allocation_id in self._live:
                self._live.discard(allocation_id)
                return True
        return allocation_id in self._live

    def _grant(self, request_id: int, allocation_id: int) -> None:
        self._requests[request_id] -= 1
        if self._requests[request_id] <= 0:
            del self._requests[request_id]
        if self._until is Until.ENDED:
            self._live.add(allocation_id)
