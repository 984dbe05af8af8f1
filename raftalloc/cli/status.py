"""`raftalloc status`: how the replicas are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli import output
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.group import leader_of
from raftalloc.cli.output import Exit
from raftalloc.errors import OutcomeUnknown, RaftallocError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from raftalloc.client.client import Client

ASK_SECONDS = 2.0
"""A replica that takes longer to say how it is counts as down."""

Statuses = dict[str, admin_pb2.StatusResponse | RaftallocError]
"""By endpoint: what it says, or why it says nothing."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the statuses come to. differing: replicas whose digests at the same index differ."""

    leader: str
    up: int
    total: int
    differing: bool
    unsound: str

    @property
    def exit(self) -> Exit:
        """0: a leader and no complaint; down replicas are no complaint while there is a leader."""
        if not self.leader:
            return Exit.UNAVAILABLE
        return Exit.NO if self.differing or self.unsound else Exit.OK


@connected
def status(
    connection: Connection,
    digest: Annotated[
        bool,
        typer.Option(
            "--digest", help="Also compare the replicas' states, and check the conservation laws."
        ),
    ] = False,
) -> None:
    """Show how every replica is, and the group as a whole.

    Exits with 0 if the group has a leader, 3 if not, 1 if replicas differ or (with --digest) a conservation law breaks.
    """
    statuses = connection.ask(lambda client: ask_all(client, with_digest=digest))
    found = health(statuses)
    if connection.as_json:
        output.show_json(
            {
                "leader": found.leader,
                "replicas_up": found.up,
                "replicas_total": found.total,
                "digests_differ": found.differing,
                "replicas": {
                    endpoint: {"error": output.error_record(answer)}
                    if isinstance(answer, RaftallocError)
                    else output.plain(answer)
                    for endpoint, answer in statuses.items()
                },
            }
        )
    else:
        _draw(statuses, found)
    if found.exit is not Exit.OK:
        raise typer.Exit(int(found.exit))


async def ask_all(client: Client, *, with_digest: bool = False) -> Statuses:
    """Every endpoint's status, and that of the replicas they name; asked at the same time."""
    known = list(client.endpoints)
    statuses = await _ask(client, known, with_digest=with_digest)
    named = {
        replica.address
        for answer in statuses.values()
        if not isinstance(answer, RaftallocError)
        for replica in answer.replicas
    }
    more = sorted(named - set(known))
    if more:
        statuses |= await _ask(client, more, with_digest=with_digest)
    return statuses


async def _ask(client: Client, endpoints: list[str], *, with_digest: bool) -> Statuses:
    async def one(endpoint: str) -> admin_pb2.StatusResponse | RaftallocError:
        request = admin_pb2.StatusRequest(with_digest=with_digest)
        try:
            return await client.admin.status(request, endpoint=endpoint, timeout=ASK_SECONDS)
        except RaftallocError as error:
            return error

    answers = await asyncio.gather(*(one(endpoint) for endpoint in endpoints))
    return dict(zip(endpoints, answers, strict=True))


def health(statuses: Mapping[str, admin_pb2.StatusResponse | RaftallocError]) -> Health:
    """What the statuses come to."""
    answers = [each for each in statuses.values() if not isinstance(each, RaftallocError)]
    digests: dict[int, set[tuple[str, str]]] = {}
    for answer in answers:
        if answer.content_digest:
            digest = (answer.chain_digest, answer.content_digest)
            digests.setdefault(answer.digest_index, set()).add(digest)
    unsound = [each.invariants for each in answers if each.invariants not in ("", "ok")]
    return Health(
        leader=leader_of(statuses),
        up=len(answers),
        total=len(statuses),
        differing=any(len(each) > 1 for each in digests.values())
        or any(each.divergence or each.differing for each in answers),
        unsound=unsound[0] if unsound else "",
    )


def replicas_table(statuses: Mapping[str, admin_pb2.StatusResponse | RaftallocError]) -> Table:
    """One replica a row."""
    rows = [
        (endpoint, "-", "down", "", "", "", "", "", _why(answer))
        if isinstance(answer, RaftallocError)
        else (
            endpoint,
            answer.replica_id,
            answer.role,
            str(answer.term),
            str(answer.applied_index),
            str(answer.commit_index - answer.applied_index),
            str(answer.snapshot_index or "-"),
            output.span(answer.uptime_ms),
            _follows(answer),
        )
        for endpoint, answer in statuses.items()
    ]
    columns = (
        "ENDPOINT",
        "REPLICA",
        "ROLE",
        "TERM#",
        "APPLIED#",
        "BEHIND#",
        "SNAPSHOT#",
        "UP#",
        "",
    )
    return output.table("", columns, rows)


def _follows(answer: admin_pb2.StatusResponse) -> str:
    if answer.divergence:
        return "DIFFERS"
    if not answer.leader_id:
        return "no leader"
    return "" if answer.leader_id == answer.replica_id else f"follows {answer.leader_id}"


def _why(error: RaftallocError) -> str:
    """In short: where nobody listens, gRPC tells a long story. Not of certificates: there something is to be done."""
    text = str(error)
    if "TLS" in text or ".pem" in text or "certificate" in text:
        return text.partition(": ")[2] or text
    return "does not answer" if isinstance(error, Unavailable | OutcomeUnknown) else text


def _draw(statuses: Statuses, found: Health) -> None:
    output.console().print(replicas_table(statuses))
    answers = [each for each in statuses.values() if not isinstance(each, RaftallocError)]
    if answers:
        latest = max(answers, key=lambda answer: answer.applied_index)
        output.say(
            f"group {latest.cluster_id}: {found.up} of {found.total} replicas up,"
            f" {latest.nodes_total} nodes, {latest.allocations_live} live, {latest.requests_waiting} waiting,"
            f" {latest.grants_total} grants so far",
            note=f"clock {output.moment(latest.clock_ms)}",
        )
    if not found.leader:
        output.say("no leader", note="more than half of the replicas must be up", error=True)
    if found.differing:
        output.say("the replicas DIFFER: their digests at the same index are not equal", error=True)
    for answer in answers:
        if answer.divergence:
            story = f"{answer.replica_id} serves no more: {answer.divergence}"
            output.say(story, note="docs/operations.md says how it is made anew", error=True)
    if found.unsound:
        output.say(f"a conservation law is broken: {found.unsound}", error=True)
    for answer in answers:
        if answer.content_digest:
            digest = f"{answer.chain_digest[:16]} {answer.content_digest[:16]}"
            output.say(
                f"{answer.replica_id} at {answer.digest_index}: {digest}, invariants {answer.invariants}"
            )
