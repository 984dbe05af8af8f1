"""`raftalloc allocation`: what is granted and what waits."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="What is granted and what waits.")

AllocationId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The allocation's id.")]
Token = Annotated[
    int | None,
    typer.Option(metavar="TOKEN", help="Fencing token of the grant; looked up if left out."),
]
Agent = Annotated[str, typer.Option(help="The holder; looked up if left out.")]
LIST_ROWS = 100


class State(StrEnum):
    """Which allocations."""

    ANY = "any"
    LIVE = "live"
    WAITING = "waiting"

    @property
    def message(self) -> types_pb2.Allocation.State.ValueType:
        """As the API has it."""
        if self is State.ANY:
            return types_pb2.Allocation.STATE_UNSPECIFIED
        return types_pb2.Allocation.State.Value(f"STATE_{self.name}")


@app.command("list")
@connected
def list_allocations(
    connection: Connection,
    agent: Annotated[str, typer.Option(help="Of this agent.")] = "",
    agent_type: Annotated[str, typer.Option("--type", help="Of this agent type.")] = "",
    workflow: Annotated[str, typer.Option(help="Of this workflow.")] = "",
    node: Annotated[str, typer.Option(help="On this node.")] = "",
    request_id: Annotated[int, typer.Option("--request", help="Of this request.")] = 0,
    state: Annotated[State, typer.Option(help="Which.")] = State.ANY,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = LIST_ROWS,
) -> None:
    """List live allocations and waiting requests, in order of id."""
    request = allocator_pb2.ListRequest(
        agent_id=agent,
        agent_type=agent_type,
        workflow_id=workflow,
        node_id=node,
        request_id=request_id,
        state=state.message,
    )
    show_list(connection, request, limit)


def show_list(connection: Connection, request: allocator_pb2.ListRequest, limit: int) -> None:
    """Print what a request lists, at most `limit` rows (0: all)."""

    async def ask(client: Client) -> allocator_pb2.ListResponse:
        answer = allocator_pb2.ListResponse()
        async for allocation in client.allocator.list_all(request):
            if limit and len(answer.allocations) == limit:
                answer.next_page_after = answer.allocations[-1].id
                break
            answer.allocations.append(allocation)
        return answer

    answer = connection.ask(ask)

    def draw() -> None:
        output.console().print(table_of(answer.allocations))
        if answer.next_page_after:
            output.say("", note=f"the first {limit}; --limit 0 lists all")

    connection.show(answer, draw)


@app.command("show")
@connected
def show_allocation(connection: Connection, allocation_id: AllocationId) -> None:
    """Show one allocation or waiting request, live or ended."""
    answer = connection.ask(
        lambda client: client.allocator.get(allocator_pb2.GetRequest(id=allocation_id))
    )
    connection.show(answer, lambda: draw_allocation(answer.allocation))


@app.command("renew")
@connected
def renew(
    connection: Connection,
    allocation_id: AllocationId,
    token: Token = None,
    agent: Agent = "",
    extend: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Ask for a longer run time: 30m.")
    ] = None,
) -> None:
    """Extend a lease, and the run time with --extend."""
    extension_ms = arguments.duration(extend, field="extend")

    async def ask(client: Client) -> allocator_pb2.RenewResponse:
        holder, given = await _holder(client, allocation_id, token, agent)
        request = allocator_pb2.RenewRequest(
            allocation_id=allocation_id,
            fencing_token=given,
            agent_id=holder,
            extension_ms=extension_ms,
        )
        return await client.allocator.renew(request)

    answer = connection.ask(ask)
    connection.show(answer, lambda: draw_allocation(answer.allocation))


@app.command("resize")
@connected
def resize(
    connection: Connection,
    allocation_id: AllocationId,
    resources: Annotated[
        list[str],
        typer.Argument(metavar="KIND=AMOUNT...", help="All that it is to hold from now on."),
    ],
    token: Token = None,
    agent: Agent = "",
) -> None:
    """Make a live allocation larger or smaller, where it is."""
    wanted = arguments.resources(resources)

    async def ask(client: Client) -> allocator_pb2.ResizeResponse:
        holder, given = await _holder(client, allocation_id, token, agent)
        request = allocator_pb2.ResizeRequest(
            allocation_id=allocation_id, fencing_token=given, agent_id=holder, resources=wanted
        )
        return await client.allocator.resize(request)

    answer = connection.ask(ask)
    connection.show(answer, lambda: draw_allocation(answer.allocation))


@app.command("release")
@connected
def release(
    connection: Connection, allocation_id: AllocationId, token: Token = None, agent: Agent = ""
) -> None:
    """Give an allocation back."""

    async def ask(client: Client) -> allocator_pb2.ReleaseResponse:
        holder, given = await _holder(client, allocation_id, token, agent)
        request = allocator_pb2.ReleaseRequest(
            allocation_id=allocation_id, fencing_token=given, agent_id=holder
        )
        return await client.allocator.release(request)

    answer = connection.ask(ask)
    note = f"index {answer.index}"
    connection.show(answer, lambda: output.say(f"{allocation_id} is released", note=note))


@app.command("cancel")
@connected
def cancel(
    connection: Connection,
    request_id: Annotated[int, typer.Argument(metavar="REQUEST", min=1, help="The request's id.")],
    agent: Agent = "",
) -> None:
    """Withdraw what still waits of a request; what was granted of it stays."""

    async def ask(client: Client) -> allocator_pb2.CancelResponse:
        holder = agent
        if not holder:
            found = await client.allocator.get(allocator_pb2.GetRequest(id=request_id))
            holder = found.allocation.agent_id
        request = allocator_pb2.CancelRequest(request_id=request_id, agent_id=holder)
        return await client.allocator.cancel(request)

    answer = connection.ask(ask)
    words = f"{answer.cancelled_count} withdrawn of request {request_id}"
    connection.show(answer, lambda: output.say(words))


async def _holder(
    client: Client, allocation_id: int, token: int | None, agent: str
) -> tuple[str, int]:
    """Holder and token of an allocation: as given, else as the group has them."""
    if agent and token is not None:
        return agent, token
    found = await client.allocator.get(allocator_pb2.GetRequest(id=allocation_id))
    allocation = found.allocation
    return agent or allocation.agent_id, allocation.fencing_token if token is None else token


def table_of(allocations: Iterable[types_pb2.Allocation]) -> Table:
    """Allocations and waiting requests, one a row."""
    rows = (
        (
            str(allocation.id),
            state_of(allocation),
            allocation.agent_id,
            allocation.workflow_id or "-",
            priority_of(allocation),
            output.amounts(allocation.resources),
            where(allocation),
            str(allocation.fencing_token or "-"),
            output.moment(allocation.expires_ms or allocation.ends_ms or allocation.deadline_ms),
        )
        for allocation in allocations
    )
    columns = (
        "ID#",
        "STATE",
        "AGENT",
        "WORKFLOW",
        "PRIORITY",
        "RESOURCES",
        "WHERE",
        "TOKEN#",
        "UNTIL",
    )
    return output.table("", columns, rows)


def draw_allocation(allocation: types_pb2.Allocation) -> None:
    """One allocation, all there is to say."""
    kind = "request" if allocation.state == types_pb2.Allocation.STATE_WAITING else "allocation"
    rows = [
        (kind, str(allocation.id)),
        ("state", state_of(allocation)),
        ("agent", f"{allocation.agent_id} (type {allocation.agent_type})"),
        ("workflow", allocation.workflow_id),
        ("priority", priority_of(allocation)),
        ("resources", output.amounts(allocation.resources)),
        ("where", where(allocation)),
        ("devices", " ".join(str(number) for number in allocation.devices)),
        ("fencing token", str(allocation.fencing_token or "")),
        ("waiting since", output.moment(allocation.queued_ms)),
        ("members waiting", str(allocation.waiting_count or "")),
        ("withdrawn at", output.moment(allocation.deadline_ms)),
        ("granted", output.moment(allocation.granted_ms)),
        ("lease until", output.moment(allocation.expires_ms)),
        ("ends", output.moment(allocation.ends_ms)),
        ("ended", output.moment(allocation.ended_ms)),
        ("reservation", str(allocation.reservation_id or "")),
        ("index", str(allocation.index or "")),
    ]
    shown = [(name, value) for name, value in rows if value not in ("", "-")]
    output.console().print(output.table("", ("", ""), shown))


def state_of(allocation: types_pb2.Allocation) -> str:
    """`LIVE`, `WAITING 3` (its position), `ENDED RELEASED`."""
    name = output.enum_name(types_pb2.Allocation.State.Name(allocation.state))
    if allocation.state == types_pb2.Allocation.STATE_WAITING:
        return f"{name} {allocation.position}"
    if allocation.state == types_pb2.Allocation.STATE_ENDED:
        return f"{name} {allocation.end_reason}"
    return name


def priority_of(allocation: types_pb2.Allocation) -> str:
    """`HIGH`."""
    return output.enum_name(types_pb2.Priority.Name(allocation.priority))


def where(allocation: types_pb2.Allocation) -> str:
    """The node, and the providers beside it."""
    providers = sorted(set(allocation.suppliers.values()) - {allocation.node_id})
    return " + ".join([name for name in (allocation.node_id, *providers) if name]) or "-"
