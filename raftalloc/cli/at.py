"""`raftalloc at`: what there was at an index or at a time, as the lists of now show it."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer

from raftalloc.api.v1 import (
    allocator_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    usage_pb2,
)
from raftalloc.cli import allocation, node, quota, reservation, usage
from raftalloc.cli.allocation import LIST_ROWS, State
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.moment import IndexOption, Moment, TimeOption
from raftalloc.cli.queue import PAGE
from raftalloc.cli.queue import show_list as show_queue
from raftalloc.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="What there was at an index, or at a time.")

Dated = TypeVar(
    "Dated",
    allocator_pb2.ListRequest,
    fleet_pb2.ListNodesRequest,
    queue_pb2.ListQueueRequest,
    quotas_pb2.ListQuotasRequest,
    reservations_pb2.ListReservationsRequest,
    usage_pb2.UtilizationRequest,
)
"""Requests that may name a moment."""
Limit = Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")]
Agent = Annotated[str, typer.Option(help="Of this agent.")]
AgentType = Annotated[str, typer.Option("--type", help="Of this agent type.")]
Workflow = Annotated[str, typer.Option(help="Of this workflow.")]


@app.callback()
def which(context: typer.Context, index: IndexOption = 0, time: TimeOption = "") -> None:
    """What there was at an index, or at a time: `raftalloc at --index N nodes`, or `raftalloc at nodes --index N`."""
    context.obj = Moment(index, time)


@app.command("allocations")
@connected
def allocations(
    connection: Connection,
    context: typer.Context,
    moment: Moment,
    agent: Agent = "",
    agent_type: AgentType = "",
    workflow: Workflow = "",
    node_id: Annotated[str, typer.Option("--node", help="On this node.")] = "",
    state: Annotated[State, typer.Option(help="Which.")] = State.ANY,
    limit: Limit = LIST_ROWS,
) -> None:
    """List what was live and what waited, in order of id."""
    request = allocator_pb2.ListRequest(
        agent_id=agent,
        agent_type=agent_type,
        workflow_id=workflow,
        node_id=node_id,
        state=state.message,
    )
    allocation.show_list(connection, _dated(connection, context, moment, request), limit)


@app.command("queue")
@connected
def queue(
    connection: Connection,
    context: typer.Context,
    moment: Moment,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = PAGE,
    after: Annotated[int, typer.Option(min=0, help="Behind this position.")] = 0,
) -> None:
    """List who waited, next first, with what decided the place."""
    request = queue_pb2.ListQueueRequest(page_size=limit, page_after=after)
    show_queue(connection, _dated(connection, context, moment, request))


@app.command("nodes")
@connected
def nodes(
    connection: Connection,
    context: typer.Context,
    moment: Moment,
    providers: Annotated[bool, typer.Option("--providers", help="Providers only.")] = False,
    limit: Limit = node.LIST_ROWS,
) -> None:
    """List nodes and providers, with what was used of what they had."""
    request = fleet_pb2.ListNodesRequest(providers_only=providers)
    node.show_list(connection, _dated(connection, context, moment, request), limit)


@app.command("quotas")
@connected
def quotas(
    connection: Connection,
    context: typer.Context,
    moment: Moment,
    everything: Annotated[
        bool, typer.Option("--all", help="Also agent types that nobody had set a quota for.")
    ] = False,
) -> None:
    """List quotas, with what was used of them."""
    request = quotas_pb2.ListQuotasRequest(with_implicit=everything)
    quota.show_list(connection, _dated(connection, context, moment, request))


@app.command("reservations")
@connected
def reservations(
    connection: Connection, context: typer.Context, moment: Moment, workflow: Workflow = ""
) -> None:
    """List the reservations that were booked or open."""
    request = reservations_pb2.ListReservationsRequest(workflow_id=workflow)
    reservation.show_list(connection, _dated(connection, context, moment, request))


@app.command("utilization")
@connected
def utilization(connection: Connection, context: typer.Context, moment: Moment) -> None:
    """Show what the fleet had of each kind, and what of it was used."""
    request = _dated(connection, context, moment, usage_pb2.UtilizationRequest())
    usage.show_usage(connection, request)


def _dated(connection: Connection, context: typer.Context, moment: Moment, request: Dated) -> Dated:
    """The request, of the moment named before or behind the noun. Raises InvalidRequest: not named, or twice."""
    before = context.find_object(Moment) or Moment()
    if before.is_given and moment.is_given:
        raise InvalidRequest("index", "a moment is named twice", "name it once")
    named = moment if moment.is_given else before
    if not named.is_given:
        remedy = "give --index N or --time 2026-12-01T09:00:00Z (or -2h)"
        raise InvalidRequest("index", "no moment is named", remedy)
    request.at_index, request.at_time_ms = named.resolved(connection)
    return request
