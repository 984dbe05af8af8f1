"""`raftalloc policy`: how else the log could have gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftalloc.cli import arguments, output
from raftalloc.cli.arguments import Policy
from raftalloc.cli.connection import Connection, connected, group_now_ms, open_client
from raftalloc.cli.patience import Patience
from raftalloc.cli.queue import Backfill, Order, Preemption
from raftalloc.core.commands import LEAVE, SetQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftalloc.replay.evaluation import Change

app = typer.Typer(no_args_is_help=True, help="How else the log could have gone.")


@app.command("evaluate")
@connected
def evaluate(
    connection: Connection,
    policy: Annotated[
        Policy | None, typer.Option(help="Which node is taken; left out: as each request asked.")
    ] = None,
    queue_policy: Annotated[
        Order | None, typer.Option(help="Whose turn it is; left out: as it was set.")
    ] = None,
    ageing: Annotated[
        str, typer.Option(metavar="DURATION", help="A class for each; left out: as it was set.")
    ] = "",
    backfill: Annotated[Backfill | None, typer.Option(help="Left out: as it was set.")] = None,
    preemption: Annotated[Preemption | None, typer.Option(help="Left out: as it was set.")] = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="INDEX|TIME", help="4711, 2026-12-01T09:00:00Z or -24h. Default: all there is."
        ),
    ] = "",
    directory: Annotated[
        str,
        typer.Option(metavar="DIR", help="A replica's data directory, in place of the group."),
    ] = "",
) -> None:
    """Decide the log's own arrivals again under other settings, and show both runs side by side. Changes nothing.

    Without another policy the log is decided again as it was, and must come out the same to the last byte.
    """
    # Imported where it is wanted: with numpy and the core it takes longer than all other commands together.
    from raftalloc.replay.evaluation import Change

    change = Change(
        policy=int(policy.message) if policy else 0,
        queue=SetQueue(
            order=int(queue_policy.message) if queue_policy else LEAVE,
            ageing_ms=arguments.duration(ageing, field="ageing") if ageing else LEAVE,
            backfill=int(backfill.message) if backfill else LEAVE,
            preemption=int(preemption.message) if preemption else LEAVE,
        ),
    )
    with Patience() as patience:
        patience.on_stop = _stop
        report = asyncio.run(_evaluated(connection, change, directory, since, patience))
    if connection.as_json:
        output.show_json(report)
    else:
        _draw(report)
    if change == Change() and not report["same"]:
        raise typer.Exit(int(output.Exit.NO))


def _stop() -> None:
    raise KeyboardInterrupt


async def _evaluated(
    connection: Connection, change: Change, directory: str, since: str, patience: Patience
) -> dict[str, Any]:
    from raftalloc.replay.evaluate import evaluate as evaluated
    from raftalloc.replay.history import DirectoryHistory, GroupHistory

    def progress(index: int, at_ms: int) -> None:
        patience.show("evaluating", index, index, output.moment(at_ms))

    if directory:
        history = DirectoryHistory(directory)
        try:
            index, time_ms = _moment(since, await history.end_ms())
            return await evaluated(history, change, index=index, time_ms=time_ms, progress=progress)
        finally:
            await history.close()
    async with open_client(connection.endpoints, connection.timeout) as client:
        index, time_ms = _moment(since, await group_now_ms(client))
        group = GroupHistory(client)
        return await evaluated(group, change, index=index, time_ms=time_ms, progress=progress)


def _moment(since: str, now_ms: int) -> tuple[int, int]:
    """`--since` as index or time; what counts back does so from `now_ms`."""
    if not since or since.isdecimal():
        return int(since or "0"), 0
    return 0, arguments.moment(since, field="since", now_ms=now_ms)


def _draw(report: Mapping[str, Any]) -> None:
    span = output.span(report["to_ms"] - report["from_ms"])
    output.say(
        f"indices {report['from_index']} to {report['to_index']}, {span},"
        f" {report['arrivals']} requests"
    )
    if report["same"]:
        output.say("decided again, it is the same log to the last byte", note=report["chain"][:16])
    else:
        output.say(f"it goes another way from index {report['diverged_at']} on")
    lived, other = report["lived"], report["other"]
    rows = [
        ("placement", "as asked", report["policy"]),
        ("queue", "as set", report["queue_policy"]),
        *((name, str(lived[name]), str(other[name])) for name in _COUNTS),
        *((name, _counts(lived[name]), _counts(other[name])) for name in _REASONS),
        *(_waits(priority, lived, other) for priority in _both(lived, other, "waits_s")),
        *(
            (
                f"used {kind}",
                _percent(lived["utilisation"], kind),
                _percent(other["utilisation"], kind),
            )
            for kind in _both(lived, other, "utilisation")
        ),
        ("Jain's index", f"{lived['fairness']['jain']:.3f}", f"{other['fairness']['jain']:.3f}"),
        *_shares(lived["fairness"]["dominant_share"], other["fairness"]["dominant_share"]),
    ]
    output.console().print(output.table("", ("", "AS IT WAS#", "OTHERWISE#"), rows))
    for assumption in report["assumptions"]:
        output.say("", note=f"assumed: {assumption}")


_COUNTS = ("granted", "waiting", "live", "preempted")
_REASONS = ("refused", "withdrawn", "ended")


def _both(lived: Mapping[str, Any], other: Mapping[str, Any], name: str) -> list[str]:
    """The keys of either, in order."""
    return list(dict.fromkeys([*lived[name], *other[name]]))


def _waits(
    priority: str, lived: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[str, str, str]:
    name = f"waits {priority} mean / p50 / p99"
    return name, _seconds(lived["waits_s"].get(priority)), _seconds(other["waits_s"].get(priority))


def _seconds(waits: Mapping[str, float] | None) -> str:
    if waits is None:
        return "-"
    return " / ".join(
        output.span(round(waits[name] * 1000)) if waits[name] else "0s"
        for name in ("mean", "p50", "p99")
    )


def _shares(lived: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys([*lived, *other])
    ranked = sorted(names, key=lambda name: -max(lived.get(name, 0), other.get(name, 0)))[:10]
    return [(f"share of {name}", _percent(lived, name), _percent(other, name)) for name in ranked]


def _percent(shares: Mapping[str, float], name: str) -> str:
    return f"{shares[name]:.2%}" if name in shares else "-"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
