"""`raftalloc submit`: asks for resources."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import allocator_pb2, events_pb2, types_pb2
from raftalloc.cli import output
from raftalloc.cli.allocation import table_of
from raftalloc.cli.asked import RequestOptions, request_of
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.output import Exit
from raftalloc.errors import InvalidRequest, Rejected

if TYPE_CHECKING:
    from raftalloc.client.client import Client


@connected
def submit(
    connection: Connection,
    resources: Annotated[
        list[str],
        typer.Argument(metavar="KIND=AMOUNT", help="E.g. cpu=4 memory=8 api_quota=1000."),
    ],
    options: RequestOptions,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="With --wait: stay until it is granted or withdrawn."),
    ] = False,
    key: Annotated[
        str,
        typer.Option(help="Idempotency key: the same again is answered as before, not repeated."),
    ] = "",
) -> None:
    """Ask for resources, on nodes and providers at once: granted whole, queued, or refused with the reason.

    Exits with 0 if all of it is granted, 7 if some of it waits, 1 if it is refused or withdrawn.
    """
    if follow and not options.wait:
        raise InvalidRequest("follow", "has nothing to follow", "give --wait too")
    request = request_of(resources, options)
    if key:
        request.idempotency.key = key

    async def ask(client: Client) -> allocator_pb2.AllocateResponse:
        answer = await client.allocator.allocate(request)
        queued = queued_of(answer)
        if follow and queued is not None:
            if not connection.as_json:
                _draw_queued(queued, error=True)
            answer = await _followed(client, request, answer, queued)
        return answer

    answer = connection.ask(ask)
    if answer.WhichOneof("outcome") == "rejected":
        raise refusal(answer.rejected)
    connection.show(answer, lambda: _draw(answer))
    if queued_of(answer) is not None:
        raise typer.Exit(int(Exit.QUEUED))


def queued_of(answer: allocator_pb2.AllocateResponse) -> allocator_pb2.Queued | None:
    """What of a request waits, if any."""
    if answer.WhichOneof("outcome") == "queued":
        return answer.queued
    if answer.granted.HasField("queued"):
        return answer.granted.queued
    return None


def refusal(rejection: types_pb2.Rejection) -> Rejected:
    """A Rejection, to be shown as the error it is."""
    return Rejected(
        rejection.code,
        rejection.message or rejection.code,
        field=rejection.field,
        remedy=rejection.remedy,
        numbers=rejection.numbers,
    )


async def _followed(
    client: Client,
    request: allocator_pb2.AllocateRequest,
    answer: allocator_pb2.AllocateResponse,
    queued: allocator_pb2.Queued,
) -> allocator_pb2.AllocateResponse:
    """The answer when nothing of the request waits any more."""
    granted = [allocation.id for allocation in answer.granted.allocations]
    withdrawn = ""
    waiting = queued.waiting_count
    watched = events_pb2.WatchRequest(
        from_index=answer.index,
        filter=events_pb2.EventFilter(types=["Granted", "Withdrawn"], agent_id=request.agent_id),
    )
    async with contextlib.aclosing(client.events.watch(watched)) as responses:
        async for response in responses:
            for event in response.events:
                detail = json.loads(event.detail_json)
                if detail["request_id"] != queued.request_id:
                    continue
                if event.type == "Withdrawn":
                    withdrawn, waiting = detail["reason"], 0
                elif detail["allocation_id"] not in granted:
                    granted.append(detail["allocation_id"])
                    waiting -= 1
            if waiting <= 0:
                break
    if not granted:
        raise _withdrawal(queued, withdrawn)
    return await _granted(client, granted, answer.index)


def _withdrawal(queued: allocator_pb2.Queued, reason: str) -> Rejected:
    why = f"; in its way stood: {queued.why.message}" if queued.why.message else ""
    return Rejected(
        reason,
        f"request {queued.request_id} was withdrawn ({reason}){why}",
        remedy=queued.why.remedy or "let it wait longer",
        numbers=queued.why.numbers,
    )


async def _granted(
    client: Client, allocation_ids: list[int], index: int
) -> allocator_pb2.AllocateResponse:
    answer = allocator_pb2.AllocateResponse(index=index)
    for allocation_id in allocation_ids:
        found = await client.allocator.get(allocator_pb2.GetRequest(id=allocation_id))
        answer.granted.allocations.append(found.allocation)
    return answer


def _draw(answer: allocator_pb2.AllocateResponse) -> None:
    if answer.granted.allocations:
        output.console().print(table_of(answer.granted.allocations))
    queued = queued_of(answer)
    if queued is not None:
        _draw_queued(queued)
    if answer.replayed:
        output.say("", note="the answer to an earlier attempt with this key")


def _draw_queued(queued: allocator_pb2.Queued, *, error: bool = False) -> None:
    """error: on stderr, since the answer is still to come."""
    count = f"{queued.waiting_count} of " if queued.waiting_count > 1 else ""
    output.say(
        f"{count}request {queued.request_id} waits, number {queued.position} in the queue,"
        f" until {output.moment(queued.deadline_ms)}",
        note=queued.why.message,
        error=error,
    )
