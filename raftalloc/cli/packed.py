"""`raftalloc replay --protocol fgd`: our policies beside the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from raftalloc.cli import output
from raftalloc.cli.output import Exit
from raftalloc.cli.patience import Patience
from raftalloc.core.commands import BALANCED, BEST_FIT, FGD, FIRST_FIT, LEAST_WASTE, POLICY_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.cli.connection import Connection
    from raftalloc.replay.fleet import NodeSpec
    from raftalloc.replay.trace import Task

POLICIES = (FIRST_FIT, BEST_FIT, BALANCED, FGD, LEAST_WASTE)


def run_protocol(
    connection: Connection, fleet: list[NodeSpec], tasks: Sequence[Task], *, seeds: int
) -> None:
    """Run each policy with seeds 1..n, and print the table."""
    from raftalloc.replay.protocol import PUBLISHED, packing, row_of

    rows: list[dict[str, Any]] = []
    with Patience() as patience:
        for policy in POLICIES:
            runs = []
            for seed in range(1, seeds + 1):
                if patience.stopped:
                    raise typer.Exit(int(Exit.INTERRUPTED))
                note = f"{POLICY_NAMES[policy]}, seed {seed}"

                def progress(done: int, total: int, note: str = note) -> None:
                    patience.show("packing", done, total, note)

                runs.append(packing(fleet, tasks, policy, seed, progress=progress))
            rows.append(row_of(runs))
    published: list[dict[str, Any]] = [
        {"policy": name, "percent": percent} for name, percent in PUBLISHED
    ]
    report: dict[str, Any] = {
        "protocol": "fgd",
        "ties": "registration order, permuted once per seed",
        "published": published,
        "policies": rows,
    }
    if connection.as_json:
        output.show_json(report)
        return
    shown = [("published", name, f"{percent:.2f}", "", "") for name, percent in PUBLISHED]
    shown += [
        (
            "here",
            str(row["policy"]),
            f"{row['percent']:.2f}",
            f"{row['least']:.2f}",
            f"{row['most']:.2f}",
        )
        for row in rows
    ]
    title = f"GPUs allocated, percent; {seeds} seeds"
    columns = ("", "policy", "mean#", "least#", "most#")
    output.console().print(output.table(title, columns, shown))
