"""The options that describe a request: `submit` makes it, `explain` asks what would become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.cli import arguments, terms
from raftalloc.errors import InvalidRequest

_PANEL = "The request"
DEFAULT_AGENT = "cli"


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """As typed."""

    agent: Annotated[
        str, typer.Option("--agent", "-a", help="Who asks.", rich_help_panel=_PANEL)
    ] = DEFAULT_AGENT
    agent_type: Annotated[
        str,
        typer.Option(
            "--type",
            help="The quota it is charged to; left out: the agent's name without its number.",
            rich_help_panel=_PANEL,
        ),
    ] = ""
    workflow: Annotated[
        str, typer.Option("--workflow", "-w", help="What it belongs to.", rich_help_panel=_PANEL)
    ] = ""
    priority: Annotated[
        arguments.Priority,
        typer.Option(
            "--priority", "-p", case_sensitive=False, help="How urgent.", rich_help_panel=_PANEL
        ),
    ] = arguments.Priority.MEDIUM
    gpu_model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="An accepted GPU model; repeatable.", rich_help_panel=_PANEL
        ),
    ] = None
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            "-c",
            metavar="KEY=A,B",
            help="On node attributes: zone=a,b zone!=c generation>3 nvme; all must hold.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    count: Annotated[
        int, typer.Option(min=1, help="So many equal allocations.", rich_help_panel=_PANEL)
    ] = 1
    gang: Annotated[
        bool, typer.Option("--gang", help="All of them or none.", rich_help_panel=_PANEL)
    ] = False
    duration: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Longest run time; it ends then.", rich_help_panel=_PANEL
        ),
    ] = None
    lease: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Must be renewed within it.", rich_help_panel=_PANEL),
    ] = None
    wait: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="May wait so long; left out: granted or refused now.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    policy: Annotated[
        arguments.Policy | None,
        typer.Option(
            case_sensitive=False,
            help="How a node is chosen; left out: as the group is configured.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    reservation: Annotated[
        int,
        typer.Option(
            metavar="ID",
            show_default=False,
            help="Draw from this reservation.",
            rich_help_panel=_PANEL,
        ),
    ] = 0
    non_preemptible: Annotated[
        bool,
        typer.Option(
            "--non-preemptible",
            help="Never ended to make room for a higher priority.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    pool: Annotated[str, typer.Option(help="Only nodes of this pool.", rich_help_panel=_PANEL)] = ""
    term: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TERM",
            help="label:app=web, tolerate:gpu=yes, spread:zone:app=web, near:rack:app=db, away:rack:app=db, "
            "else:gpu=2;T4, scorer:fgd=2, min:3, layout:pack:zone; repeatable (docs/policies.md).",
            rich_help_panel=_PANEL,
        ),
    ] = None


def request_of(resources: list[str], options: RequestOptions) -> allocator_pb2.AllocateRequest:
    """What was typed -> what is asked. Raises InvalidRequest."""
    if options.gang and options.count == 1:
        raise InvalidRequest("gang", "is for several members", "give --count too")
    return allocator_pb2.AllocateRequest(
        agent_id=options.agent,
        agent_type=options.agent_type,
        workflow_id=options.workflow,
        priority=options.priority.message,
        resources=arguments.resources(resources),
        gpu_models=options.gpu_model or [],
        constraints=arguments.constraints(options.constraint or []),
        count=options.count,
        gang=options.gang,
        duration_ms=arguments.duration(options.duration, field="duration"),
        lease_ttl_ms=arguments.duration(options.lease, field="lease"),
        wait_ms=arguments.duration(options.wait, field="wait"),
        policy=options.policy.message if options.policy else types_pb2.POLICY_UNSPECIFIED,
        reservation_id=options.reservation,
        non_preemptible=options.non_preemptible,
        terms=terms.terms_of(options.pool, options.term or []),
    )
