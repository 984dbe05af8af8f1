"""`raftalloc replay`: a recorded workload, through the machine itself or against a running group."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from raftalloc.cli import output
from raftalloc.cli.arguments import Policy
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.output import Exit
from raftalloc.cli.packed import run_protocol
from raftalloc.cli.patience import Patience
from raftalloc.cli.replayed import draw_report
from raftalloc.config import tls_of_client
from raftalloc.core.commands import COUNT_MAX
from raftalloc.errors import InvalidRequest, RaftallocError
from raftalloc.replay import pacing
from raftalloc.replay.connection import Connection as GroupConnection
from raftalloc.replay.fleet import read_fleet
from raftalloc.replay.group import GroupReplay, fitting_speed
from raftalloc.replay.picture import draw
from raftalloc.replay.report import report_of
from raftalloc.replay.trace import read_trace
from raftalloc.replay.workload import make_workload

if TYPE_CHECKING:
    from raftalloc.replay.fleet import NodeSpec
    from raftalloc.replay.workload import Workload

CALL_SECONDS_MIN: Final = 60.0
"""A replay goes on through elections and restarts: a call is given up after a minute, no sooner."""


class Protocol(StrEnum):
    """A published way to measure packing."""

    FGD = "fgd"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a trace is replayed."""

    nodes: Annotated[
        str,
        typer.Option(metavar="FILE|uniform:N,cpu=C,memory=G", help="The fleet, or N equal nodes."),
    ]
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Drive the machine itself, in the trace's own time.")
    ] = False
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Against a group: trace seconds in one second. Default: it fits ten minutes.",
        ),
    ] = None
    policy: Annotated[Policy, typer.Option(help="Which node is taken.")] = Policy.BEST_FIT
    gangs: Annotated[
        bool, typer.Option("--gangs", help="The tasks of a row start all together or not at all.")
    ] = False
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N rows of the file.")
    ] = None
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Embedded: fold the events again and check every law."),
    ] = False
    keep: Annotated[
        bool, typer.Option("--keep", help="Against a group: leave nodes and grants there.")
    ] = False
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="A published protocol instead: fgd fills the fleet and counts GPUs."),
    ] = None
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Of the protocol: runs per policy.")
    ] = 3
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", dir_okay=False, help="Draw the utilisation over time."),
    ] = None


@connected
def replay(
    connection: Connection,
    trace: Annotated[str, typer.Argument(metavar="TRACE.csv", help="Its form: docs/traces.md.")],
    options: ReplayOptions,
) -> None:
    """Replay a recorded workload, and report waits, refusals and utilisation (docs/traces.md).

    Ctrl-C ends it early and reports what was done until then; a second one ends it at once.
    """
    _check(options)
    fleet = read_fleet(options.nodes)
    if options.protocol is not None:
        tasks = list(read_trace(trace, limit=options.limit))
        run_protocol(connection, fleet, tasks, seeds=options.seeds)
        return
    workload = make_workload(
        read_trace(trace, limit=options.limit),
        policy=int(options.policy.message),
        gangs=options.gangs,
        members_max=COUNT_MAX if options.embedded else pacing.MEMBERS_MAX,
    )
    if not workload.submissions:
        raise InvalidRequest(trace, "asks for nothing", "give at least one row with a demand")
    failure: RaftallocError | None = None
    with Patience() as patience:
        if options.embedded:
            report = _embedded(fleet, workload, options, patience)
        else:
            report, failure = _against_group(connection, fleet, workload, options, patience)
    report["gangs"] = options.gangs
    if options.picture is not None:
        course = report["utilisation_over_time"]
        picture = draw(
            f"{Path(trace).name}: share of the capacity that is used",
            course["step_s"],
            course["kinds"],
        )
        options.picture.write_text(picture, encoding="utf-8")
    _show(connection, report, failure)


def _check(options: ReplayOptions) -> None:
    """Options that go together. Raises InvalidRequest."""
    if options.embedded and (options.speed is not None or options.keep):
        name = "keep" if options.keep else "speed"
        raise InvalidRequest(name, "has no meaning with --embedded", "leave one of them out")
    if options.verify and not options.embedded:
        raise InvalidRequest(
            "verify", "needs --embedded", "a group is checked by `raftalloc status --digest`"
        )
    if options.speed is not None and not 0 < options.speed < 1e9:
        raise InvalidRequest("speed", f"{options.speed} is no speed", "give a number above 0")


def _embedded(
    fleet: list[NodeSpec], workload: Workload, options: ReplayOptions, patience: Patience
) -> dict[str, Any]:
    # Imported where it is wanted: with numpy and the core it takes longer than all other commands together.
    from raftalloc.replay.embedded import EmbeddedReplay

    run = EmbeddedReplay(fleet, workload, keep_blocks=options.verify)

    def progress(submitted: int, at_ms: int) -> None:
        note = f"at {output.span(at_ms)} of the trace"
        patience.show("replaying", submitted, workload.members, note)

    finished = run.run(progress, lambda: patience.stopped)
    return report_of(run.tally, run.facts(policy=str(options.policy), finished=finished))


def _against_group(
    connection: Connection,
    fleet: list[NodeSpec],
    workload: Workload,
    options: ReplayOptions,
    patience: Patience,
) -> tuple[dict[str, Any], RaftallocError | None]:
    """The report of what was done, and what ended it, if something did."""

    async def replaying() -> tuple[dict[str, Any], RaftallocError | None]:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        patience.on_stop = lambda: loop.call_soon_threadsafe(stop.set)
        timeout = max(connection.timeout, CALL_SECONDS_MIN)
        tls = tls_of_client(connection.endpoints)
        async with GroupConnection(connection.endpoints, tls=tls, timeout=timeout) as group:
            speed = options.speed or fitting_speed(workload)
            run = GroupReplay(group, fleet, workload, speed=speed, keep=options.keep)
            finished, failure = False, None
            try:
                finished = await run.run(patience.show, stop)
            except RaftallocError as error:
                failure = error
            facts = run.facts(policy=str(options.policy), finished=finished)
            return report_of(run.audit.tally, facts), failure

    return asyncio.run(replaying())


def _show(connection: Connection, report: dict[str, Any], failure: RaftallocError | None) -> None:
    """Print the report, and exit with what it comes to."""
    if failure is not None:
        report["error"] = output.error_record(failure)
    if connection.as_json:
        output.show_json(report)
    else:
        draw_report(report)
        if failure is not None:
            output.show_error(failure, as_json=False)
    if failure is not None:
        raise typer.Exit(int(output.exit_of(failure)))
    if report["interrupted"]:
        raise typer.Exit(int(Exit.INTERRUPTED))
    if report["lost"] or report.get("duplicated") or report.get("violations"):
        raise typer.Exit(int(Exit.NO))
