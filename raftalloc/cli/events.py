"""`raftalloc events`: the append-only allocation event log."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import events_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected, group_now_ms
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="The allocation event log.")

Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Granted, Queued, Ended ...; may be repeated."),
]
Agent = Annotated[str, typer.Option(help="Of this agent.")]
Workflow = Annotated[str, typer.Option(help="Of this workflow.")]
Subject = Annotated[
    int, typer.Option(metavar="ID", help="Of this allocation, request or reservation.")
]
Index = Annotated[
    int, typer.Option("--from", metavar="INDEX", min=0, help="Log index to start at.")
]
TAIL_EVENTS = 10
TAIL_BACK_ENTRIES = 20_000
"""How far `tail` looks back for them: most entries of an idle group are ticks, which have no events."""
READ_EVENTS = 100
PAGE_ENTRIES = 500


@app.command("tail")
@connected
def tail(
    connection: Connection,
    start: Index = 0,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Begin with so many that have happened.")
    ] = TAIL_EVENTS,
    types: Types = None,
    agent: Agent = "",
    workflow: Workflow = "",
    subject: Subject = 0,
) -> None:
    """Show the latest events, and then new ones as they happen, until Ctrl-C. --json: one event a line."""
    filtered = _filter(types, agent, workflow, subject)

    async def follow(client: Client) -> None:
        index = start
        if not start:
            latest, index = await _latest(client, lines, filtered)
            for event in latest:
                show_event(event, as_json=connection.as_json)
        request = events_pb2.WatchRequest(from_index=index, filter=filtered)
        async with contextlib.aclosing(client.events.watch(request)) as responses:
            async for response in responses:
                for event in response.events:
                    show_event(event, as_json=connection.as_json)

    connection.ask(follow)


async def _latest(
    client: Client, count: int, filtered: events_pb2.EventFilter
) -> tuple[list[events_pb2.Event], int]:
    """The latest `count` events at most, oldest first, and the index to go on at."""
    status = await client.admin.status()
    near = events_pb2.ReadRequest(from_index=max(status.stored_index, 1), page_size=1)
    bounds = await client.events.read(near)  # of the replica that answers the other pages too
    head = bounds.head_index
    lowest = max(bounds.lowest_index, head + 1 - TAIL_BACK_ENTRIES, 1)
    found: list[events_pb2.Event] = []
    begin = head + 1
    while len(found) < count and begin > lowest:
        end, begin = begin, max(begin - PAGE_ENTRIES, lowest)
        found = await _between(client, begin, end, filtered) + found
    return found[max(len(found) - count, 0) :], head + 1


async def _between(
    client: Client, begin: int, end: int, filtered: events_pb2.EventFilter
) -> list[events_pb2.Event]:
    """The events of the entries from `begin` up to, but not with, `end`."""
    found: list[events_pb2.Event] = []
    while begin < end:
        request = events_pb2.ReadRequest(from_index=begin, page_size=end - begin, filter=filtered)
        answer = await client.events.read(request)
        found += answer.events
        if answer.next_index <= begin:
            break
        begin = answer.next_index
    return [event for event in found if event.index < end]


@app.command("read")
@connected
def read(
    connection: Connection,
    start: Index = 0,
    limit: Annotated[
        int, typer.Option(min=0, help="At most so many events; 0 is all.")
    ] = READ_EVENTS,
    types: Types = None,
    agent: Agent = "",
    workflow: Workflow = "",
    subject: Subject = 0,
) -> None:
    """Show events that have happened, from an index on, and end. --json: one event a line."""
    filtered = _filter(types, agent, workflow, subject)

    async def read_all(client: Client) -> None:
        index, shown = start or await _lowest_index(client), 0
        while True:
            page = events_pb2.ReadRequest(from_index=index, page_size=PAGE_ENTRIES, filter=filtered)
            answer = await client.events.read(page)
            for event in answer.events:
                show_event(event, as_json=connection.as_json)
                shown += 1
                if shown == limit:
                    return
            if answer.next_index > answer.head_index or answer.next_index <= index:
                return
            index = answer.next_index

    connection.ask(read_all)


async def _lowest_index(client: Client) -> int:
    status = await client.admin.status()
    return max(status.lowest_index, 1)


@app.command("history")
@connected
def history(
    connection: Connection,
    agent: Agent = "",
    workflow: Workflow = "",
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Only what was granted since: 24h.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = READ_EVENTS,
) -> None:
    """List the allocations of an agent or workflow, ended ones too, newest first."""
    if not agent and not workflow:
        raise InvalidRequest(
            "agent", "is missing, and so is workflow", "give --agent or --workflow"
        )
    back_ms = arguments.duration(since, field="since")

    async def ask(client: Client) -> events_pb2.HistoryResponse:
        request = events_pb2.HistoryRequest(agent_id=agent, workflow_id=workflow)
        if back_ms:
            request.from_ms = max(await group_now_ms(client) - back_ms, 0)
        answer = events_pb2.HistoryResponse()
        async for row in client.events.history_all(request):
            if limit and len(answer.rows) == limit:
                answer.next_page_before = answer.rows[-1].index
                break
            answer.rows.append(row)
        return answer

    answer = connection.ask(ask)
    connection.show(answer, lambda: _draw_history(answer, limit))


def _draw_history(answer: events_pb2.HistoryResponse, limit: int) -> None:
    rows = (
        (
            str(row.allocation_id),
            row.agent_id,
            row.workflow_id or "-",
            output.amounts(row.resources),
            row.node_id or "-",
            output.span(row.waited_ms),
            output.moment(row.granted_ms),
            output.span(row.ended_ms - row.granted_ms) if row.ended_ms else "live",
            row.end_reason or "-",
        )
        for row in answer.rows
    )
    columns = (
        "ID#",
        "AGENT",
        "WORKFLOW",
        "RESOURCES",
        "NODE",
        "WAITED#",
        "GRANTED",
        "HELD#",
        "ENDED BY",
    )
    output.console().print(output.table("", columns, rows))
    if answer.next_page_before:
        output.say("", note=f"the newest {limit}; --limit 0 lists all")


def show_event(event: events_pb2.Event, *, as_json: bool) -> None:
    """One event on one line. JSON: its details as an object."""
    if as_json:
        line = output.plain(event)
        line["detail"] = json.loads(event.detail_json)
        del line["detail_json"]
        output.show_json(line, line=True)
        return
    about = " ".join(
        part
        for part in (
            str(event.subject or ""),
            event.agent_id,
            event.workflow_id,
            event.node_id,
            _words(event),
        )
        if part
    )
    place = f"{event.index}/{event.sequence}"
    output.say(f"{output.moment(event.at_ms)} {place:>10} {event.type:<16} {about}")


def _words(event: events_pb2.Event) -> str:
    """What tells this event from others of its type."""
    detail = json.loads(event.detail_json)
    amounts = detail.get("demand") or detail.get("capacity") or detail.get("limits") or {}
    words = [output.amounts(amounts)] if amounts else []
    words += [
        str(detail[name]) for name in ("reason", "code", "state", "replica_id") if detail.get(name)
    ]
    return " ".join(words)


def _filter(
    types: list[str] | None, agent: str, workflow: str, subject: int
) -> events_pb2.EventFilter:
    return events_pb2.EventFilter(
        types=types or [], agent_id=agent, workflow_id=workflow, subject=subject
    )
