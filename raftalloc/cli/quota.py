"""`raftalloc quota`: what an agent type, and the groups it belongs to, may hold at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import quotas_pb2
from raftalloc.cli import arguments, output
from raftalloc.cli.connection import Connection, connected
from raftalloc.core.quantities import text_of, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="What agent types may hold at once.")

AgentType = Annotated[str, typer.Argument(metavar="TYPE", help="The agent type, or a group.")]


@app.command("list")
@connected
def list_quotas(
    connection: Connection,
    everything: Annotated[
        bool, typer.Option("--all", help="Also agent types that nobody set a quota for.")
    ] = False,
) -> None:
    """List quotas, with what is used of them."""
    show_list(connection, quotas_pb2.ListQuotasRequest(with_implicit=everything))


def show_list(connection: Connection, request: quotas_pb2.ListQuotasRequest) -> None:
    """Print what a request lists."""
    answer = connection.ask(lambda client: client.quotas.list_quotas(request))
    connection.show(answer, lambda: output.console().print(quota_table(answer.quotas)))


@app.command("show")
@connected
def show_quota(connection: Connection, agent_type: AgentType) -> None:
    """Show what one agent type or group uses and may use."""
    request = quotas_pb2.GetQuotaUsageRequest(agent_type=agent_type)
    answer = connection.ask(lambda client: client.quotas.get_quota_usage(request))
    connection.show(answer, lambda: _draw(answer.quota))


@app.command("set")
@connected
def set_quota(
    connection: Connection,
    agent_type: AgentType,
    limits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND=AMOUNT",
            help="Every limit; a kind left out is not limited, 0 forbids it.",
        ),
    ] = None,
    parent: Annotated[str, typer.Option(help="The group it belongs to; root if left out.")] = "",
    weight: Annotated[
        str, typer.Option(help="Of its share in the queue, such as 2 or 0.5; stays if left out.")
    ] = "",
) -> None:
    """Set the limits of an agent type or group, in place of all it had."""
    request = quotas_pb2.SetQuotaRequest(
        agent_type=agent_type,
        parent=parent,
        limits=arguments.resources(limits, field="limits", zero=True) if limits else {},
        weight=arguments.thousandths(weight, field="weight") if weight else 0,
    )
    answer = connection.ask(lambda client: client.quotas.set_quota(request))
    connection.show(answer, lambda: _draw(answer.quota))


@app.command("delete")
@connected
def delete_quota(connection: Connection, agent_type: AgentType) -> None:
    """Forget a quota that nothing is charged to."""
    request = quotas_pb2.DeleteQuotaRequest(agent_type=agent_type)
    answer = connection.ask(lambda client: client.quotas.delete_quota(request))
    connection.show(
        answer,
        lambda: output.say(f"{agent_type} is deleted", note=f"index {answer.index}"),
    )


def quota_table(quotas: Iterable[quotas_pb2.QuotaUsage]) -> Table:
    """One quota a row."""
    rows = (
        (
            quota.agent_type + (" (implicit)" if quota.implicit else ""),
            quota.parent or "-",
            str(quota.allocations_count),
            f"{quota.weight / 1000:g}",
            f"{quota.share_millionths / 10_000:.1f}%",
            " ".join(f"{kind.kind}={_used(kind)}/{_limit(kind)}" for kind in quota.kinds) or "-",
        )
        for quota in quotas
    )
    return output.table("", ("TYPE", "PARENT", "LIVE#", "WEIGHT#", "SHARE#", "USED OF LIMIT"), rows)


def _draw(quota: quotas_pb2.QuotaUsage) -> None:
    above = f" under {quota.parent}" if quota.parent else ""
    output.say(f"{quota.agent_type}{above}, {quota.allocations_count} allocations live")
    rows = [(kind.kind, _used(kind), _limit(kind), unit_of(kind.kind)) for kind in quota.kinds]
    output.console().print(output.table("", ("KIND", "USED#", "LIMIT#", "UNIT"), rows))


def _used(kind: quotas_pb2.QuotaUsage.Kind) -> str:
    return text_of(kind.kind, kind.used)


def _limit(kind: quotas_pb2.QuotaUsage.Kind) -> str:
    return text_of(kind.kind, kind.limit) if kind.limited else "none"
