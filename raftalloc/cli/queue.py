"""`raftalloc queue`: how requests that wait are served, and who waits."""

from __future__ import annotations

from dataclasses import dataclass
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


class Backfill(StrEnum):
    """Whether a later request may start before one that waits for room."""

    GREEDY = "greedy"
    EASY = "easy"
    CONSERVATIVE = "conservative"

    @property
    def message(self) -> queue_pb2.QueueSettings.Backfill.ValueType:
        """As the API has it."""
        return queue_pb2.QueueSettings.Backfill.Value(f"BACKFILL_{self.name}")


class Preemption(StrEnum):
    """Whom a waiting request may end."""

    NONE = "none"
    LOWER_PRIORITY = "lower_priority"

    @property
    def message(self) -> queue_pb2.QueueSettings.Preemption.ValueType:
        """As the API has it."""
        return queue_pb2.QueueSettings.Preemption.Value(f"PREEMPTION_{self.name}")


@app.command("show")
@connected
def show_queue(connection: Connection) -> None:
    """Show how the queue is served, and how many wait."""
    answer = connection.ask(lambda client: client.queue.get_queue())
    connection.show(answer, lambda: _draw(answer.settings, answer.waiting_count))


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How the queue is to be served; what is left out stays."""

    order: Annotated[Order | None, typer.Option(help="Whose turn it is.")] = None
    ageing: Annotated[
        str, typer.Option(help="A request rises by a class for each, such as 30m; 0: never.")
    ] = ""
    backfill: Annotated[
        Backfill | None, typer.Option(help="Whether later requests may start before earlier ones.")
    ] = None
    backfill_depth: Annotated[
        int | None, typer.Option(min=1, max=256, help="Lines that are protected, if conservative.")
    ] = None
    preemption: Annotated[
        Preemption | None, typer.Option(help="Whom a waiting request may end.")
    ] = None
    grace: Annotated[str, typer.Option(help="How long victims have, such as 30s.")] = ""
    min_run: Annotated[str, typer.Option(help="Who has run for less is no victim.")] = ""
    preemptions_per_hour: Annotated[
        int | None, typer.Option(min=0, help="Victims of one agent type; 0: any number.")
    ] = None

    def request(self) -> queue_pb2.SetQueueRequest:
        """As the API has it."""
        request = queue_pb2.SetQueueRequest(
            backfill_depth=self.backfill_depth, preemptions_per_hour=self.preemptions_per_hour
        )
        if self.order is not None:
            request.order = self.order.message
        if self.backfill is not None:
            request.backfill = self.backfill.message
        if self.preemption is not None:
            request.preemption = self.preemption.message
        for field, text in (
            ("ageing", self.ageing),
            ("grace", self.grace),
            ("min_run", self.min_run),
        ):
            if text:
                setattr(request, f"{field}_ms", arguments.duration(text, field=field))
        return request


@app.command("set")
@connected
def set_queue(connection: Connection, options: QueueOptions) -> None:
    """Change how the queue is served; what is left out stays."""
    answer = connection.ask(lambda client: client.queue.set_queue(options.request()))
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
    order = output.enum_name(queue_pb2.QueueSettings.Order.Name(settings.order)).lower()
    output.say(f"order {order}" + ("" if waiting is None else f", {waiting} waiting"))
    if settings.ageing_ms:
        output.say(f"a waiting request rises by a class every {output.span(settings.ageing_ms)}")
    else:
        output.say("a waiting request never rises: it may starve")
    backfill = output.enum_name(queue_pb2.QueueSettings.Backfill.Name(settings.backfill)).lower()
    deep = settings.backfill == queue_pb2.QueueSettings.BACKFILL_CONSERVATIVE
    output.say(f"backfill {backfill}" + (f", {settings.backfill_depth} lines" if deep else ""))
    if settings.preemption != queue_pb2.QueueSettings.PREEMPTION_LOWER_PRIORITY:
        output.say("nobody is preempted")
        return
    output.say(
        f"lower priorities are preempted after {output.span(settings.min_run_ms)} of running, with "
        f"{output.span(settings.grace_ms)} of grace, {_most(settings)} of one agent type in an hour"
    )


def _most(settings: queue_pb2.QueueSettings) -> str:
    most = settings.preemptions_per_hour
    return f"at most {most}" if most else "any number"


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
            _start(row),
            output.amounts(row.request.resources),
        )
        for row in answer.rows
    )
    columns = (
        "POS#",
        "REQUEST#",
        "AGENT",
        "TYPE",
        "PRIORITY",
        "CLASS",
        "SHARE#",
        "STARTS BY",
        "RESOURCES",
    )
    output.console().print(output.table("", columns, rows))


def _start(row: queue_pb2.ListQueueResponse.Row) -> str:
    """The promised start, if there is one."""
    if not row.promised_start_ms:
        return "-"
    return output.moment(row.promised_start_ms) + (" (preempting)" if row.claim else "")
