"""The command behind `scripts/bench`; `--help` says the rest. Nothing here is a timed test: it measures and prints."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from raftalloc.cli.output import Exit
from raftalloc.errors import RaftallocError
from tests.bench import failover, floor, idle, machine, placement, raft
from tests.bench.children import ChildFailed
from tests.bench.figures import Figures
from tests.bench.registry import Bench, Context
from tests.chaos.__main__ import until_ended

STDOUT: Final = "-"
BENCHES: Final[dict[str, Bench]] = {
    each.BENCH.name: each.BENCH for each in (floor, raft, failover, idle, placement)
}
RUNS: Final = 3
SECONDS: Final = 3.0
QUICK_SECONDS: Final = 0.5


def main() -> int:
    """Parse, measure, report; the exit code."""
    arguments = _parse()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory)).resolve()
    figures, found = Figures(), machine.described(directory)
    context = Context(
        figures=figures,
        directory=directory,
        runs=1 if arguments.quick else arguments.runs,
        seconds=QUICK_SECONDS if arguments.quick else SECONDS,
        peers=arguments.peers,
        quick=arguments.quick,
        say=_say,
    )
    try:
        ended = asyncio.run(until_ended(_measure(context, arguments.benches)))
    except (RaftallocError, ChildFailed) as error:
        _say(f"{error}\nthe data is kept in {directory}")
        return int(Exit.LOCAL)
    shutil.rmtree(directory)
    _say(", ".join(f"{name} {value}" for name, value in found.items()))
    for line in figures.table():
        _say(line)
    _write(arguments.json, {**figures.plain(), "machine": found})
    return int(Exit.INTERRUPTED) if ended else int(Exit.OK)


async def _measure(context: Context, names: list[str]) -> None:
    benches = [BENCHES[name] for name in names]
    try:
        for bench in benches:
            context.say(f"{bench.name}: {bench.says}")
            await bench.measure(context)
    finally:
        for bench in benches:
            bench.relate(context.figures)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures, and prints beside it what else was measured in the same run.",
        epilog="\n".join(f"  {bench.name:<10} {bench.says}" for bench in BENCHES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benches", nargs="+", choices=tuple(BENCHES), metavar="BENCH")
    parser.add_argument("--json", default="", metavar="FILE", help="the figures; - is stdout")
    parser.add_argument("--peers", action="store_true", help="others beside us, where they are")
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each case (default {RUNS})")
    parser.add_argument(
        "--directory", type=Path, default=Path("local"), help="where data is made (default local)"
    )
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs is at least 1")
    return arguments


def _write(path: str, report: dict[str, object]) -> None:
    text = json.dumps(report, indent=2) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    elif path:
        Path(path).write_text(text, encoding="utf-8")


def _say(line: str) -> None:
    """To people, who may also read while a report goes to stdout."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
