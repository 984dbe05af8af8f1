"""`raftalloc reservation`: capacity held for a window in the future."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import reservations_pb2, types_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected, group_now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Capacity held for a window in the future.")

ReservationId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The reservation's id.")]


@app.command("list")
@connected
def list_reservations(
    connection: Connection,
    workflow: Annotated[str, typer.Option(help="Of this workflow.")] = "",
) -> None:
    """List booked and open reservations."""
    show_list(connection, reservations_pb2.ListReservationsRequest(workflow_id=workflow))


def show_list(connection: Connection, request: reservations_pb2.ListReservationsRequest) -> None:
    """Print what a request lists."""
    answer = connection.ask(lambda client: client.reservations.list(request))
    connection.show(answer, lambda: output.console().print(_table(answer.reservations)))


@app.command("show")
@connected
def show_reservation(connection: Connection, reservation_id: ReservationId) -> None:
    """Show one reservation."""
    request = reservations_pb2.GetReservationRequest(id=reservation_id)
    answer = connection.ask(lambda client: client.reservations.get(request))
    connection.show(answer, lambda: _draw(answer.reservation))


@app.command("create")
@connected
def create(
    connection: Connection,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="Whom it is for.")],
    resources: Annotated[
        list[str], typer.Argument(metavar="KIND=AMOUNT", help="E.g. cpu=8 memory=16 gpu=1.")
    ],
    start: Annotated[
        str, typer.Option(metavar="TIME", help="2026-12-01T09:00:00Z, or +10m from now.")
    ],
    duration: Annotated[str, typer.Option(metavar="DURATION", help="How long: 2h.")],
    agent: Annotated[str, typer.Option(help="The agent it is for.")] = "",
    agent_type: Annotated[str, typer.Option("--type", help="The quota it is charged to.")] = "",
    priority: Annotated[
        arguments.Priority, typer.Option(case_sensitive=False, help="How urgent.")
    ] = arguments.Priority.MEDIUM,
    gpu_model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="An accepted GPU model; repeatable.")
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option("--constraint", "-c", metavar="KEY=A,B", help="As for submit; repeatable."),
    ] = None,
) -> None:
    """Book one guaranteed window; `submit --reservation ID` draws from it while it is open."""
    request = reservations_pb2.ReserveRequest(
        workflow_id=workflow,
        agent_id=agent,
        agent_type=agent_type,
        priority=priority.message,
        resources=arguments.resources(resources),
        gpu_models=gpu_model or [],
        constraints=arguments.constraints(constraint or []),
        duration_ms=arguments.duration(duration, field="duration"),
    )

    async def ask(client: Client) -> reservations_pb2.ReserveResponse:
        now_ms = await group_now_ms(client)
        request.start_ms = arguments.moment(start, field="start", now_ms=now_ms)
        return await client.reservations.reserve(request)

    answer = connection.ask(ask)
    connection.show(answer, lambda: _draw(answer.reservation))


@app.command("cancel")
@connected
def cancel(connection: Connection, reservation_id: ReservationId) -> None:
    """End a reservation; what was drawn from it ends too."""
    request = reservations_pb2.CancelReservationRequest(id=reservation_id)
    answer = connection.ask(lambda client: client.reservations.cancel(request))
    note = f"index {answer.index}"
    connection.show(answer, lambda: output.say(f"{reservation_id} is cancelled", note=note))


def _state(reservation: reservations_pb2.Reservation) -> str:
    return output.enum_name(reservations_pb2.Reservation.State.Name(reservation.state))


def _table(reservations: Iterable[reservations_pb2.Reservation]) -> Table:
    rows = (
        (
            str(each.id),
            _state(each),
            each.workflow_id,
            output.amounts(each.resources),
            each.node_id or "-",
            output.moment(each.start_ms),
            output.span(each.end_ms - each.start_ms),
        )
        for each in reservations
    )
    columns = ("ID#", "STATE", "WORKFLOW", "RESOURCES", "NODE", "START", "LENGTH")
    return output.table("", columns, rows)


def _draw(reservation: reservations_pb2.Reservation) -> None:
    priority = output.enum_name(types_pb2.Priority.Name(reservation.priority))
    rows = [
        ("reservation", str(reservation.id)),
        ("state", f"{_state(reservation)} {reservation.end_reason}".strip()),
        ("workflow", reservation.workflow_id),
        ("agent", reservation.agent_id),
        ("charged to", reservation.agent_type),
        ("priority", priority),
        ("resources", output.amounts(reservation.resources)),
        ("not drawn", output.amounts(reservation.remaining)),
        ("node", reservation.node_id),
        ("start", output.moment(reservation.start_ms)),
        ("end", output.moment(reservation.end_ms)),
        ("index", str(reservation.index or "")),
    ]
    output.console().print(output.table("", ("", ""), [row for row in rows if row[1]]))
