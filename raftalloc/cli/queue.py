"""`raftalloc queue`: how requests that wait are served, and who waits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from raftalloc.api.v1 import queue_pb2, types_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected

app = typer.Typer(no_args_is_help=True, help="How waiting requests are served, and who waits.")

PAGE: int = 50


class Order(StrEnum):
    """In which order the queue is served."""

    FIFO = "fifo"
    PRIORITY = "priority"
    FAIR_SHARE = "fair_share"
    PRIORITY_WITH_FAIRSHARE = "priority_with_fairshare"

    @property
    def message(self) -> queue_pb2.QueueSettings.Order.ValueType:
        """As the API has it."""
        return queue_pb2.QueueSettings.Order.Value(f"ORDER_{self.name}")


@app.command("show")
@connected
def show_queue(connection: Connection) -> None:
    """Show how the queue is served, and how many wait."""
    answer = connection.ask(lambda client: client.queue.get_queue())
    connection.show(answer, lambda: _draw(answer.settings, answer.waiting_count))


@app.command("set")
@connected
def set_queue(
    connection: Connection,
    order: Annotated[Order | None, typer.Option(help="Whose turn it is.")] = None,
    ageing: Annotated[
        str, typer.Option(help="A request rises by a class for each, such as 30m; 0: never.")
    ] = "",
) -> None:
    """Change how the queue is served; what is left out stays."""
    request = queue_pb2.SetQueueRequest()
    if order is not None:
        request.order = order.message
    if ageing:
        request.ageing_ms = arguments.duration(ageing, field="ageing")
    answer = connection.ask(lambda client: client.queue.set_queue(request))
    connection.show(answer, lambda: _draw(answer.settings))


@app.command("list")
@connected
def list_queue(
    connection: Connection,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = PAGE,
    after: Annotated[int, typer.Option(min=0, help="Behind this position.")] = 0,
) -> None:
    """List who waits, next first, with what decides the place."""
    show_list(connection, queue_pb2.ListQueueRequest(page_size=limit, page_after=after))


def show_list(connection: Connection, request: queue_pb2.ListQueueRequest) -> None:
    """Print what a request lists."""
    answer = connection.ask(lambda client: client.queue.list_queue(request))
    connection.show(answer, lambda: _draw_rows(answer))


def _draw(settings: queue_pb2.QueueSettings, waiting: int | None = None) -> None:
    order = queue_pb2.QueueSettings.Order.Name(settings.order).removeprefix("ORDER_").lower()
    output.say(f"order {order}" + ("" if waiting is None else f", {waiting} waiting"))
    if settings.ageing_ms:
        output.say(f"a waiting request rises by a class every {output.span(settings.ageing_ms)}")
    else:
        output.say("a waiting request never rises: it may starve")


def _draw_rows(answer: queue_pb2.ListQueueResponse) -> None:
    rows = (
        (
            str(row.request.position),
            str(row.request.id),
            row.request.agent_id,
            row.request.agent_type,
            output.enum_name(types_pb2.Priority.Name(row.request.priority)),
            "overdue" if row.standing > types_pb2.PRIORITY_CRITICAL else str(row.standing),
            f"{row.share_millionths / 10_000:.1f}%",
            output.amounts(row.request.resources),
        )
        for row in answer.rows
    )
    columns = ("POS#", "REQUEST#", "AGENT", "TYPE", "PRIORITY", "CLASS", "SHARE#", "RESOURCES")
    output.console().print(output.table("", columns, rows))
