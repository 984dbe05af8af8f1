"""`raftalloc node`: the machines and the cluster-wide providers that resources come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import fleet_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected, group_now_ms
from raftalloc.core.quantities import text_of, unit_of
from raftalloc.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Machines and cluster-wide providers.")

NodeId = Annotated[str, typer.Argument(metavar="NODE", help="Its name.")]
LIST_ROWS = 200


@app.command("list")
@connected
def list_nodes(
    connection: Connection,
    providers: Annotated[bool, typer.Option("--providers", help="Providers only.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 is all.")] = LIST_ROWS,
) -> None:
    """List nodes and providers in order of registration, with what is used of what they have."""
    show_list(connection, fleet_pb2.ListNodesRequest(providers_only=providers), limit)


def show_list(connection: Connection, request: fleet_pb2.ListNodesRequest, limit: int) -> None:
    """Print what a request lists, at most `limit` rows (0: all)."""

    async def ask(client: Client) -> fleet_pb2.ListNodesResponse:
        answer = fleet_pb2.ListNodesResponse()
        async for node in client.fleet.list_all_nodes(request):
            if limit and len(answer.nodes) == limit:
                answer.next_page_after = answer.nodes[-1].node_id
                break
            answer.nodes.append(node)
        return answer

    answer = connection.ask(ask)

    def draw() -> None:
        output.console().print(_table(answer.nodes))
        if answer.next_page_after:
            output.say("", note=f"the first {limit}; --limit 0 lists all")

    connection.show(answer, draw)


@app.command("show")
@connected
def show_node(connection: Connection, node_id: NodeId) -> None:
    """Show one node or provider: kinds, devices, attributes."""

    async def ask(client: Client) -> fleet_pb2.Node:
        answer = await client.fleet.list_nodes(fleet_pb2.ListNodesRequest(node_id=node_id))
        if not answer.nodes:
            raise Rejected(
                "UNKNOWN_NODE",
                f"there is no node or provider {node_id}",
                field="node_id",
                remedy="see `raftalloc node list`",
            )
        return answer.nodes[0]

    node = connection.ask(ask)
    connection.show(node, lambda: _draw_node(node))


@app.command("register")
@connected
def register(
    connection: Connection,
    node_id: NodeId,
    capacity: Annotated[
        list[str] | None, typer.Argument(metavar="KIND=AMOUNT", help="E.g. cpu=16 memory=64.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--gpu", metavar="MODEL[:COUNT]", help="GPUs of a model; may be repeated."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", "-a", metavar="KEY=VALUE", help="May be repeated."),
    ] = None,
    taint: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Keeps away who does not tolerate it."),
    ] = None,
    soft_taint: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="They stay away from it while they can."),
    ] = None,
    provider: Annotated[
        bool, typer.Option("--provider", help="Cluster-wide: db_connections, api_quota ...")
    ] = False,
    static: Annotated[
        bool,
        typer.Option("--static/--heartbeat", help="Whether it is never lost, or must be heard of."),
    ] = True,
) -> None:
    """Add a node or provider, or bring one up to date. The same again changes nothing."""
    devices = arguments.devices(device or [])
    words = capacity or []
    request = fleet_pb2.RegisterNodeRequest(
        node_id=node_id,
        provider=provider,
        capacity=arguments.resources(words, field="capacity", zero=True)
        if words or not devices
        else {},
        devices=devices,
        attributes=arguments.attributes(attribute or []),
        static=static,
        taints=arguments.attributes(taint or []),
        soft_taints=arguments.attributes(soft_taint or []),
    )
    answer = connection.ask(lambda client: client.fleet.register_node(request))
    connection.show(answer, lambda: _draw_node(answer.node))


@app.command("heartbeat")
@connected
def heartbeat(
    connection: Connection,
    node_ids: Annotated[list[str], typer.Argument(metavar="NODE", help="Their names.")],
) -> None:
    """Say that nodes live. Exits with 1 if the group does not know one of them."""
    request = fleet_pb2.HeartbeatRequest(node_ids=node_ids)
    answer = connection.ask(lambda client: client.fleet.heartbeat(request))

    def draw() -> None:
        known = len(node_ids) - len(answer.unknown_node_ids)
        output.say(f"{known} heard of")
        for unknown in answer.unknown_node_ids:
            output.say(f"{unknown} is unknown", note="register it again")

    connection.show(answer, draw)
    if answer.unknown_node_ids:
        raise typer.Exit(int(output.Exit.NO))


@app.command("cordon")
@connected
def cordon(connection: Connection, node_id: NodeId) -> None:
    """Grant nothing more there; what runs there stays."""
    request = fleet_pb2.CordonRequest(node_id=node_id)
    answer = connection.ask(lambda client: client.fleet.cordon(request))
    connection.show(answer, lambda: _changed(f"{node_id} is cordoned", answer))


@app.command("uncordon")
@connected
def uncordon(connection: Connection, node_id: NodeId) -> None:
    """Grant there again; ends a drain too."""
    request = fleet_pb2.UncordonRequest(node_id=node_id)
    answer = connection.ask(lambda client: client.fleet.uncordon(request))
    connection.show(answer, lambda: _changed(f"{node_id} is ready", answer))


@app.command("drain")
@connected
def drain(
    connection: Connection,
    node_id: NodeId,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End what is left there then: +10m, 2026-12-01T09:00:00Z."
        ),
    ] = None,
) -> None:
    """Cordon it, and end what is still there at the deadline; without one, wait for the holders."""

    async def ask(client: Client) -> fleet_pb2.NodeChangeResponse:
        request = fleet_pb2.DrainRequest(node_id=node_id)
        if deadline is not None:
            now_ms = await group_now_ms(client)
            request.deadline_ms = arguments.moment(deadline, field="deadline", now_ms=now_ms)
        return await client.fleet.drain(request)

    answer = connection.ask(ask)
    connection.show(answer, lambda: _changed(f"{node_id} is draining", answer))


@app.command("remove")
@connected
def remove(
    connection: Connection,
    node_id: NodeId,
    force: Annotated[bool, typer.Option("--force", help="End what is there.")] = False,
) -> None:
    """Forget a node that nothing is on, or end what is there with --force."""
    request = fleet_pb2.RemoveNodeRequest(node_id=node_id, force=force)
    answer = connection.ask(lambda client: client.fleet.remove_node(request))
    connection.show(answer, lambda: _changed(f"{node_id} is removed", answer))


def _changed(words: str, answer: fleet_pb2.NodeChangeResponse) -> None:
    output.say(words, note=f"index {answer.index}")


def _table(nodes: Iterable[fleet_pb2.Node]) -> Table:
    rows = (
        (
            node.node_id,
            "provider" if node.provider else "node",
            output.enum_name(fleet_pb2.Node.State.Name(node.state)),
            str(node.allocations_count),
            _shares(node),
            " ".join(sorted({device.model for device in node.devices})),
        )
        for node in nodes
    )
    return output.table("", ("NODE", "SORT", "STATE", "LIVE#", "USED OF CAPACITY", "GPUS"), rows)


def _shares(node: fleet_pb2.Node) -> str:
    return " ".join(
        f"{kind}={text_of(kind, node.used.get(kind, 0))}/{text_of(kind, capacity)}"
        for kind, capacity in sorted(node.capacity.items())
    )


def _draw_node(node: fleet_pb2.Node) -> None:
    out = output.console()
    state = output.enum_name(fleet_pb2.Node.State.Name(node.state))
    sort = "provider" if node.provider else "node"
    output.say(f"{node.node_id}: {sort}, {state}" + (", static" if node.static else ""))
    if node.drain_deadline_ms:
        output.say(f"drained at {output.moment(node.drain_deadline_ms)}")
    output.say(f"{node.allocations_count} allocations live")
    rows = [
        (
            kind,
            text_of(kind, node.used.get(kind, 0)),
            text_of(kind, node.reserved.get(kind, 0)),
            text_of(kind, capacity),
            unit_of(kind),
        )
        for kind, capacity in sorted(node.capacity.items())
    ]
    out.print(output.table("", ("KIND", "USED#", "RESERVED#", "CAPACITY#", "UNIT"), rows))
    if node.devices:
        devices = [
            (str(number), device.model, f"{device.used / 10:g} %")
            for number, device in enumerate(node.devices)
        ]
        out.print(output.table("", ("DEVICE#", "MODEL", "USED#"), devices))
    for key, value in sorted(node.attributes.items()):
        output.say(f"{key}={value}")
