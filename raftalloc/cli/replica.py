"""`raftalloc replica`: the members of the group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli import output
from raftalloc.cli.connection import Connection, connected

if TYPE_CHECKING:
    from raftalloc.client.client import Client

app = typer.Typer(no_args_is_help=True, help="The members of the group.")

LOOK_SECONDS: Final = 0.2
Id = Annotated[str, typer.Argument(metavar="REPLICA", help="Its id, as in its cluster.toml.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait until it votes; 0: do not wait.")
]


@app.command("list")
@connected
def list_(connection: Connection) -> None:
    """Who is in the group, who votes, and how far each is."""
    answer = connection.ask(lambda client: client.admin.list_replicas())
    connection.show(answer, lambda: _table(answer))


@app.command("add")
@connected
def add(
    connection: Connection,
    replica_id: Id,
    raft: Annotated[str, typer.Option("--raft", help="Its Raft address, host:port.")],
    grpc: Annotated[str, typer.Option("--grpc", help="Its API address, host:port.")],
    http: Annotated[str, typer.Option("--http", help="Its HTTP address, host:port.")],
    wait: Wait = 60.0,
) -> None:
    """Take a replica into the group. It learns first, and votes once it has caught up."""
    request = admin_pb2.AddReplicaRequest(
        replica_id=replica_id, raft_address=raft, address=grpc, http_address=http
    )
    answer = connection.ask(lambda client: client.admin.add_replica(request))
    _learned(connection, replica_id, answer.index, wait)


@app.command("remove")
@connected
def remove(connection: Connection, replica_id: Id) -> None:
    """Let a replica go; stop it afterwards. A leader that goes hands over."""
    request = admin_pb2.RemoveReplicaRequest(replica_id=replica_id)
    answer = connection.ask(lambda client: client.admin.remove_replica(request))
    words = f"{replica_id} is no member any more: stop it"
    connection.show(answer, lambda: output.say(words, note=f"index {answer.index}"))


@app.command("replace")
@connected
def replace(connection: Connection, replica_id: Id, wait: Wait = 60.0) -> None:
    """Give a replica's seat to the empty data directory that it comes back with."""
    request = admin_pb2.ReplaceReplicaRequest(replica_id=replica_id)
    answer = connection.ask(lambda client: client.admin.replace_replica(request))
    _learned(connection, replica_id, answer.index, wait)


def _learned(connection: Connection, replica_id: str, index: int, wait: float) -> None:
    """Wait until it votes, saying how far it is."""

    async def watch(client: Client) -> admin_pb2.ListReplicasResponse:
        left = wait
        while True:
            answer = await client.admin.list_replicas()
            if left <= 0 or any(m.replica_id == replica_id and m.voter for m in answer.members):
                return answer
            left -= LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    answer = connection.ask(watch)
    connection.show(answer, lambda: _say(answer, replica_id, index))


def _say(answer: admin_pb2.ListReplicasResponse, replica_id: str, index: int) -> None:
    member = next((each for each in answer.members if each.replica_id == replica_id), None)
    if member is not None and member.voter:
        output.say(f"{replica_id} has caught up, and votes", note=f"index {index}")
        return
    at = 0 if member is None else member.match_index
    words = (
        f"{replica_id} learns: it has {at} of {answer.last_index}; it votes once it has caught up"
    )
    output.say(words, note=f"index {index}")


def _table(answer: admin_pb2.ListReplicasResponse) -> None:
    rows = (
        (
            each.replica_id,
            "leader" if each.leader else "voter" if each.voter else "learner",
            each.address,
            each.raft_address,
            f"{each.match_index} of {answer.last_index}",
            "-" if each.leader else f"{each.heard_ms} ms ago",
        )
        for each in answer.members
    )
    columns = ("REPLICA", "ROLE", "API", "RAFT", "INDEX", "HEARD")
    output.console().print(output.table("", columns, rows))
