"""The report of a replay for people: a few tables, and the course of each kind as a line of blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from raftalloc.cli import output
from raftalloc.cli.output import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_COLUMNS: Final = 48


def draw_report(report: Mapping[str, Any]) -> None:
    """Print it on stdout."""
    console = output.console()
    console.print(output.table("replay", ("", ""), _figures(report)), "")
    waits = [
        (priority, *(_seconds(wait[name]) for name in ("p50", "p90", "p99")))
        for priority, wait in report["waits_s"].items()
    ]
    console.print(output.table("waits", ("priority", "p50#", "p90#", "p99#"), waits), "")
    course = report["utilisation_over_time"]["kinds"]
    kinds = [
        (kind, f"{mean:.1%}", f"{report['utilisation_peak'][kind]:.1%}", drawn_line(course[kind]))
        for kind, mean in report["utilisation"].items()
    ]
    console.print(
        output.table("utilisation", ("kind", "mean#", "peak#", "over time, of its peak"), kinds)
    )


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("mode", f"{report['mode']}, {report['policy']}" + (", gangs" * report["gangs"])),
        ("submitted", f"{report['submitted']:,} tasks in {report['rows']:,} rows"),
        ("placed", f"{report['placed']:,}"),
        ("rejected", _by_reason(report["rejected"])),
        ("skipped", _by_reason(report["skipped"])),
        ("still waiting", f"{report['waiting']:,}"),
        ("preempted", f"{report['preempted']:,}"),
        ("lost", f"{report['lost']:,}"),
        ("replayed", _seconds(report["trace_s"]) + f" in {_seconds(report['wall_s'])}"),
        ("allocations/s", f"{report['allocations_per_s']:,.0f}"),
    ]
    if report["gpu_allocated_percent"] is not None:
        rows.append(("GPUs allocated", f"{report['gpu_allocated_percent']:.2f} % at most at once"))
    if report["mode"] == "group":
        rows.append(("speed", f"{report['speed']:,.1f}, behind by {report['behind_s']} s at most"))
        rows.append(("failovers", f"{report['failovers']:,}, {report['retries']:,} retries"))
    if "violations" in report:
        rows.append(("violations", "; ".join(report["violations"]) or "none"))
    if report["interrupted"]:
        rows.append(("interrupted", "this is what was done until then"))
    return rows


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "none"


def _seconds(seconds: float) -> str:
    return span(round(seconds * 1000)) if seconds else "0s"


def drawn_line(shares: Sequence[float]) -> str:
    """At most _COLUMNS blocks, each the mean of the steps it stands for; a full one is the highest of them."""
    if not shares:
        return ""
    width = min(_COLUMNS, len(shares))
    cuts = [len(shares) * column // width for column in range(width + 1)]
    means = [sum(shares[first:end]) / (end - first) for first, end in pairwise(cuts)]
    top = max(means)
    return "".join(_BLOCKS[round(8 * mean / top)] for mean in means) if top > 0 else ""
