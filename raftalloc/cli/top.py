"""`raftalloc top`: a live view of the group, its fleet and its queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from raftalloc.api.v1 import allocator_pb2, quotas_pb2, usage_pb2
from raftalloc.cli import output
from raftalloc.cli.allocation import State, table_of
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.quota import quota_table
from raftalloc.cli.status import ASK_SECONDS, Statuses, ask_all, health, replicas_table
from raftalloc.cli.usage import summary, usage_table
from raftalloc.errors import RaftallocError, Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raftalloc.client.client import Client

WAITING_ROWS = 10
QUOTA_ROWS = 10


@dataclass(frozen=True, slots=True)
class View:
    """One look at everything. usage, waiting, quotas are None while there is no leader to ask; `problem` says so."""

    statuses: Statuses
    usage: usage_pb2.UtilizationResponse | None = None
    waiting: allocator_pb2.ListResponse | None = None
    quotas: quotas_pb2.ListQuotasResponse | None = None
    problem: str = ""

    def grants(self) -> int:
        """Grants since the group was made."""
        answers = [each for each in self.statuses.values() if not isinstance(each, RaftallocError)]
        return max((answer.grants_total for answer in answers), default=0)


@connected
def top(
    connection: Connection,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.2, metavar="SECONDS", help="Between looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look, and end.")] = False,
) -> None:
    """Watch replicas, resources, queue and quotas live, until Ctrl-C. --json: one look a line."""
    if once or connection.as_json:
        connection.ask(lambda client: _printed(client, connection, interval, once=once))
    else:
        connection.ask(lambda client: _live(client, interval))


async def _printed(client: Client, connection: Connection, interval: float, *, once: bool) -> None:
    while True:
        view = await _look(client)
        if connection.as_json:
            output.show_json(_plain(view), line=True)
        else:
            output.console().print(_drawn(view, 0.0))
        if once and view.problem:
            raise Unavailable(view.problem)
        if once:
            return
        await asyncio.sleep(interval)


async def _live(client: Client, interval: float) -> None:
    loop = asyncio.get_running_loop()
    view, looked = await _look(client), loop.time()
    screen = output.console()
    with Live(
        _drawn(view, 0.0), console=screen, screen=screen.is_terminal, auto_refresh=False
    ) as live:
        while True:
            await asyncio.sleep(interval)
            before, earlier = view.grants(), looked
            view, looked = await _look(client), loop.time()
            rate = (view.grants() - before) / (looked - earlier)
            live.update(_drawn(view, max(rate, 0.0)), refresh=True)


async def _look(client: Client) -> View:
    """Ask for everything at the same time."""
    statuses = await ask_all(client)
    everything = quotas_pb2.ListQuotasRequest(with_implicit=True)
    waiting = allocator_pb2.ListRequest(state=State.WAITING.message, page_size=WAITING_ROWS)
    try:
        usage, listed, quotas = await asyncio.gather(
            client.usage.utilization(stale=True, timeout=ASK_SECONDS),
            client.allocator.list(waiting, stale=True, timeout=ASK_SECONDS),
            client.quotas.list_quotas(everything, stale=True, timeout=ASK_SECONDS),
        )
    except RaftallocError as error:
        return View(statuses, problem=str(error))
    return View(statuses, usage, listed, quotas)


def _plain(view: View) -> dict[str, output.Plain]:
    found = health(view.statuses)
    return {
        "leader": found.leader,
        "replicas_up": found.up,
        "replicas_total": found.total,
        "problem": view.problem,
        "usage": output.plain(view.usage) if view.usage else None,
        "waiting": output.plain(view.waiting) if view.waiting else None,
        "quotas": output.plain(view.quotas) if view.quotas else None,
    }


def _drawn(view: View, grants_per_s: float) -> RenderableType:
    found = health(view.statuses)
    leader = f"leader {found.leader}" if found.leader else "NO LEADER"
    head = f"{leader}, {found.up} of {found.total} replicas up, {grants_per_s:.0f} grants/s"
    parts: list[RenderableType] = [Text(head, style="bold"), replicas_table(view.statuses)]
    if view.problem:
        parts.append(Text(view.problem, style="red"))
    if view.usage is not None:
        parts += [Text(), usage_table(view.usage), Text(summary(view.usage))]
    if view.waiting is not None and view.waiting.allocations:
        parts += [Text("\nWaiting, first come", style="bold"), table_of(view.waiting.allocations)]
    if view.quotas is not None and view.quotas.quotas:
        busy = [quota for quota in view.quotas.quotas if quota.allocations_count]
        parts += [Text(), quota_table(busy[:QUOTA_ROWS])] if busy else []
    return Group(*parts)
