"""`raftalloc admin`: the replicas themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli import output
from raftalloc.cli.connection import Connection, connected

if TYPE_CHECKING:
    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="The replicas themselves.")


@app.command("transfer")
@connected
def transfer(
    connection: Connection,
    to: Annotated[
        str, typer.Argument(metavar="[REPLICA]", help="Who shall lead; any other if left out.")
    ] = "",
) -> None:
    """Ask the leader to stand back in favour of another replica."""
    request = admin_pb2.TransferLeadershipRequest(to_replica_id=to)
    answer = connection.ask(lambda client: client.admin.transfer_leadership(request))
    connection.show(answer, lambda: output.say(f"{answer.leader_id} leads"))


@app.command("snapshot")
@connected
def snapshot(connection: Connection) -> None:
    """Write a state snapshot now, on the replica named with --endpoint, or the leader."""

    async def ask(client: Client) -> admin_pb2.SnapshotResponse:
        if len(client.endpoints) == 1:
            return await client.admin.snapshot(endpoint=client.endpoints[0])
        status = await client.admin.status()
        return await client.admin.snapshot(endpoint=status.leader_address)

    answer = connection.ask(ask)
    words = f"snapshot of index {answer.index}: {answer.bytes} bytes in {answer.path}"
    connection.show(answer, lambda: output.say(words))


@app.command("raise-rules")
@connected
def raise_rules(
    connection: Connection,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Of the rules.")],
) -> None:
    """Have the group decide by newer rules, after an upgrade of every replica. They never go back."""
    request = admin_pb2.RaiseRulesRequest(version=version)
    answer = connection.ask(lambda client: client.admin.raise_rules(request))
    words = f"the group decides by rules {answer.rules_version}"
    connection.show(answer, lambda: output.say(words, note=f"index {answer.index}"))
