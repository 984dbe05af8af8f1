"""How a run looks while it goes: a live screen on a terminal, else lines."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from raftalloc.cli.demo.tally import quantile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.console import Console, RenderableType

    from raftalloc.cli.demo.report import Report
    from raftalloc.cli.demo.stage import Scene

FRAME_SECONDS: Final = 0.25
LINE_SECONDS: Final = 5.0
RECENT_CALLS: Final = 2000


class Show:
    """Shows one Scene on one console."""

    def __init__(self, scene: Scene, console: Console) -> None:
        """`console`: stdout, or stderr where stdout is for JSON."""
        self._scene = scene
        self._console = console
        self._started = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
        )
        self._nodes = self._progress.add_task("nodes registered", total=scene.plan.nodes)
        self._load = self._progress.add_task(
            "seconds of load", total=scene.plan.seconds, start=False
        )

    def say(self, words: str) -> None:
        """A step of the run."""
        at = asyncio.get_running_loop().time() - self._started if self._started else 0.0
        self._scene.steps.append((at, words))
        if not self._console.is_terminal:
            self._console.print(f"{at:6.1f} s  {escape(words)}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep showing while inside."""
        self._started = asyncio.get_running_loop().time()
        task = asyncio.create_task(self._frames() if self._console.is_terminal else self._lines())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _frames(self) -> None:
        with Live(self._frame(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await asyncio.sleep(FRAME_SECONDS)
                    live.update(self._frame(), refresh=True)
            finally:
                live.update(self._frame(), refresh=True)

    async def _lines(self) -> None:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            if self._scene.began and not self._scene.finished:
                counts = self._scene.tally.counts()
                words = ", ".join(f"{value} {name}" for name, value in counts.items() if value)
                self.say(words)

    def _frame(self) -> RenderableType:
        scene = self._scene
        self._progress.update(self._nodes, completed=min(scene.registered, scene.plan.nodes))
        if scene.began:
            worked = min(asyncio.get_running_loop().time() - scene.began, scene.plan.seconds)
            self._progress.start_task(self._load)
            self._progress.update(self._load, completed=worked)
        steps = Table.grid(padding=(0, 2))
        for at, words in scene.steps:
            steps.add_row(f"[dim]{at:6.1f} s[/]", escape(words))
        return Group(steps, self._progress, self._counters())

    def _counters(self) -> RenderableType:
        tally = self._scene.tally
        grid = Table.grid(padding=(0, 3))
        counts = list(tally.counts().items())
        for start in range(0, len(counts), 4):
            grid.add_row(*(f"[bold]{value}[/] {name}" for name, value in counts[start : start + 4]))
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(tally.by_kind.items()))
        recent = sorted((b - a) * 1000 for a, b in tally.calls[-RECENT_CALLS:])
        figures = f"latest answers: p50 {quantile(recent, 0.5):.1f} ms, p99 {quantile(recent, 0.99):.1f} ms"
        running = self._scene.group.running()
        replicas = "  ".join(
            f"[green]{name} up[/]" if name in running else f"[red]{name} DOWN[/]"
            for name in self._scene.group.replica_ids
        )
        return Panel(Group(replicas, grid, kinds, figures), title="agents", title_align="left")


def draw_report(report: Report, console: Console) -> None:
    """The verdict, for people."""
    failover = "never" if report.failover_ms is None else f"{report.failover_ms:.0f} ms"
    rows = [
        ("acknowledged grants", str(report.acknowledged), report.acknowledged > 0),
        ("lost", str(report.lost), report.lost == 0),
        ("duplicated", str(report.duplicated), report.duplicated == 0),
        ("over capacity", str(report.over_capacity), report.over_capacity == 0),
        ("replicas equal", "yes" if report.digests_equal else "NO", report.digests_equal),
        ("conservation laws", report.invariants, report.invariants == "ok"),
        (
            f"{report.killed} killed, {report.new_leader} led after",
            failover,
            report.failover_ms is not None,
        ),
        ("allocations/s", f"{report.allocations_per_s:.0f}", None),
        ("p50 / p99 of an answer", f"{report.p50_ms:.1f} / {report.p99_ms:.1f} ms", None),
        (
            "replicas, nodes, agents",
            f"{report.replicas}, {report.nodes}, {report.agents}",
            None,
        ),
        ("log", f"{report.index} entries, {report.events} events a replica", None),
    ]
    grid = Table.grid(padding=(0, 3))
    for name, value, good in rows:
        colour = {True: "green", False: "bold red", None: "default"}[good]
        grid.add_row(escape(name), f"[{colour}]{escape(value)}[/]")
    title = "[bold green]passed[/]" if report.passed else "[bold red]FAILED[/]"
    console.print(Panel(grid, title=title, title_align="left", expand=False))
    for fault in report.faults[:20]:
        console.print(f"[red]{escape(fault)}[/]")
