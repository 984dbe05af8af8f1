"""`raftalloc demo`, and `python -m raftalloc.cli.demo` for scripts/demo."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from raftalloc.cli import output
from raftalloc.cli.connection import answering, guarded
from raftalloc.cli.demo.show import Show, draw_report
from raftalloc.cli.demo.stage import Plan, Scene, run
from raftalloc.cli.group import DEFAULT_DIRECTORY, LocalGroup
from raftalloc.cli.output import Exit
from raftalloc.cli.up import ending
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console

    from raftalloc.cli.demo.report import Report

FULL_SECONDS: Final = 60.0
QUICK_SECONDS: Final = 20.0
FULL_AGENTS: Final = 200
QUICK_AGENTS: Final = 100
NODES: Final = 1000
STDOUT: Final = "-"

Quick = Annotated[bool, typer.Option("--quick", help="A run of less than a minute.")]
Nodes = Annotated[int, typer.Option(min=20, help="Nodes of the fleet.")]
Agents = Annotated[int | None, typer.Option(min=5, help="Agents; left out: 200, or 100 if quick.")]
Seconds = Annotated[
    float | None, typer.Option(min=1, help="Of load; left out: 60, or 20 if quick.")
]
Seed = Annotated[int, typer.Option(help="Of the workload.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the data directory of a run that passed.")]
Parent = Annotated[
    Path, typer.Option("--directory", "-d", metavar="DIR", help="Where its data directory is made.")
]


@guarded
def demo(
    as_json: bool,
    quick: Quick = False,
    nodes: Nodes = NODES,
    agents: Agents = None,
    seconds: Seconds = None,
    seed: Seed = 1,
    keep: Keep = False,
    directory: Parent = Path(DEFAULT_DIRECTORY),
) -> None:
    """Start three replicas, let agents work, kill the leader, and account for every grant.

    Exits with 0 only if nothing was lost, granted twice or overcommitted and the replicas are equal. What a failed run
    leaves is kept.
    """
    plan = _plan(quick, nodes, agents, seconds, seed)
    perform(plan, directory, report_to=STDOUT if as_json else "", keep=keep)


def script(
    quick: Quick = False,
    json_file: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write the report there; - is stdout.")
    ] = "",
    nodes: Nodes = NODES,
    agents: Agents = None,
    seconds: Seconds = None,
    seed: Seed = 1,
    keep: Keep = False,
    directory: Parent = Path(DEFAULT_DIRECTORY),
) -> None:
    """Start three replicas, let agents work, kill the leader, and account for every grant."""
    with answering(as_json=json_file == STDOUT):
        plan = _plan(quick, nodes, agents, seconds, seed)
        perform(plan, directory, report_to=json_file, keep=keep)


def main() -> None:
    """What `python -m raftalloc.cli.demo` runs."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(script)
    app(prog_name="scripts/demo")


def perform(plan: Plan, parent: Path, *, report_to: str, keep: bool) -> None:
    """Run, report, and leave with the exit code."""
    if report_to not in ("", STDOUT) and not Path(report_to).resolve().parent.is_dir():
        raise InvalidRequest("json", f"{report_to} is in no directory", "make the directory first")
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=parent))
    console = output.console(error=report_to == STDOUT)
    try:
        report = asyncio.run(_played(plan, directory, console))
    except BaseException:
        console.print(f"no verdict; the data, with the log of each replica, is kept in {directory}")
        raise
    if report is None:
        shutil.rmtree(directory)
        console.print("stopped; the replicas have been ended and their data removed")
        raise typer.Exit(int(Exit.INTERRUPTED))
    kept = keep or not report.passed
    if report_to:
        _write(_text(report, directory if kept else None), report_to)
    draw_report(report, console)
    if kept:
        console.print(f"the data of this run is kept in {directory}")
    else:
        shutil.rmtree(directory)
    if not report.passed:
        raise typer.Exit(int(Exit.NO))


def _plan(quick: bool, nodes: int, agents: int | None, seconds: float | None, seed: int) -> Plan:
    return Plan(
        nodes=nodes,
        agents=agents or (QUICK_AGENTS if quick else FULL_AGENTS),
        seconds=seconds or (QUICK_SECONDS if quick else FULL_SECONDS),
        seed=seed,
    )


async def _played(plan: Plan, directory: Path, console: Console) -> Report | None:
    """Play it through; None after Ctrl-C. The replicas are ended either way."""
    group = LocalGroup.create(directory, cluster_id="demo", any_ports=True)
    scene = Scene(plan, group)
    show = Show(scene, console)
    with ending() as ended:
        async with group, show.running():
            playing = asyncio.create_task(run(scene, show.say))
            stopping = asyncio.create_task(ended.wait())
            await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            playing.cancel()
            await asyncio.wait((playing, stopping))
            if playing.cancelled():
                return None
            report = playing.result()
    if not report.passed:
        _keep(report, scene, directory)
    return report


def _keep(report: Report, scene: Scene, directory: Path) -> None:
    """Beside the data of a run that failed: its report, and what the callers were told."""
    (directory / "report.json").write_text(_text(report, directory), encoding="utf-8")
    told = asdict(scene.told)
    told["released"] = sorted(scene.told.released)
    (directory / "told.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def _write(text: str, to: str) -> None:
    if to == STDOUT:
        sys.stdout.write(text)
    else:
        Path(to).write_text(text, encoding="utf-8")


def _text(report: Report, kept: Path | None) -> str:
    """kept: where the run's data is, if it is kept."""
    record = {**report.plain(), "kept_in": str(kept) if kept else ""}
    return json.dumps(record, indent=2) + "\n"
