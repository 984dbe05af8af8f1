"""The `raftalloc` command: nouns and verbs put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from raftalloc.cli import (
    admin,
    allocation,
    at,
    backup,
    certs,
    events,
    explain,
    log,
    node,
    policy,
    queue,
    quota,
    replay,
    replica,
    reservation,
    status,
    submit,
    top,
    up,
    usage,
    watch,
    whatif,
)
from raftalloc.cli.demo.command import demo
from raftalloc.cli.output import EXIT_MEANINGS

_EXITS = "\n".join(f"{int(code):>5}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
_GROUP = "The group"
_WORK = "Requests"
_THINGS = "What there is"

app = typer.Typer(
    name="raftalloc",
    help="Atomic, fenced, replayable allocation of unlike resources, on Raft.",
    epilog=f"Exit codes:\n{_EXITS}\n\nEvery command takes --json; docs/cli.md describes them all.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command, panel in (
    ("up", up.up, _GROUP),
    ("down", up.down, _GROUP),
    ("status", status.status, _GROUP),
    ("top", top.top, _GROUP),
    ("demo", demo, _GROUP),
    ("backup", backup.backup, _GROUP),
    ("restore", backup.restore, _GROUP),
    ("submit", submit.submit, _WORK),
    ("watch", watch.watch, _WORK),
    ("explain", explain.explain, _WORK),
    ("what-if", whatif.what_if, _WORK),
    ("replay", replay.replay, _WORK),
    ("usage", usage.usage, _THINGS),
):
    app.command(name, rich_help_panel=panel)(command)
for name, noun in (
    ("allocation", allocation.app),
    ("node", node.app),
    ("quota", quota.app),
    ("queue", queue.app),
    ("reservation", reservation.app),
    ("at", at.app),
    ("policy", policy.app),
    ("events", events.app),
    ("admin", admin.app),
    ("replica", replica.app),
    ("log", log.app),
    ("certs", certs.app),
):
    app.add_typer(noun, name=name, rich_help_panel=_THINGS)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"raftalloc {version('raftalloc')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Atomic, fenced, replayable allocation of unlike resources, on Raft."""


def main() -> None:
    """What the `raftalloc` script runs."""
    app()
