"""The command behind `scripts/chaos`; `--help` says the rest.

It ends with 1 where anything was lost, doubled, given beyond capacity, or did not come back, and keeps the data of such
a run; with 130 after Ctrl-C; with 6 where something of this machine stands in the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.cli.output import Exit
from raftalloc.cli.up import ending
from raftalloc.errors import RaftallocError
from tests.chaos import etcd, power
from tests.chaos.course import Plan, run
from tests.chaos.faults import FAULTS
from tests.chaos.report import Report, table

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

STDOUT: Final = "-"
ROUNDS: Final = 20


def main() -> int:
    """Parse, run, report; the exit code."""
    arguments = _parse()
    report = Report(arguments.seed)
    arguments.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=arguments.directory)).resolve()
    try:
        ended = asyncio.run(until_ended(_course(arguments, directory, report)))
    except (RaftallocError, power.NoPowerDisk) as error:
        _say(f"{error}; no verdict, the data is kept in {directory}")
        return int(Exit.LOCAL)
    _write(arguments.json, report)
    for line in table(report):
        _say(line)
    if ended:
        _say(
            "stopped: the replicas have been ended, and what was acknowledged was not accounted for"
        )
        shutil.rmtree(directory)
        return int(Exit.INTERRUPTED)
    if report.violations:
        _say(f"the data, with the log of each replica, is kept in {directory}")
        return int(Exit.NO)
    shutil.rmtree(directory)
    return int(Exit.OK)


async def _course(arguments: argparse.Namespace, directory: Path, report: Report) -> None:
    plan = Plan(
        arguments.faults.split(","),
        arguments.rounds,
        arguments.seed,
        arguments.agents,
        without_sync=arguments.without_sync,
    )
    await run(plan, directory, report, _say)
    if arguments.etcd == "auto" and "kill" in plan.faults and etcd.on_path():
        for name in etcd.SETTINGS:
            rounds = await etcd.run(name, plan, directory / f"etcd-{name}", _say)
            report.etcd[name] = etcd.figures(rounds)


async def until_ended(course: Coroutine[Any, Any, None]) -> bool:
    """Whether Ctrl-C or SIGTERM ended it; its processes are ended either way."""
    with ending() as ended:
        playing = asyncio.create_task(course)
        stopping = asyncio.create_task(ended.wait())
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        playing.cancel()
        await asyncio.wait((playing, stopping))
        if playing.cancelled():
            return True
        playing.result()
        return False


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chaos", description="A group of real processes under faults, and the full account."
    )
    parser.add_argument("--faults", default="kill", help=f"in turn, of {','.join(FAULTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"faults (default {ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="of load and pauses (default 1)")
    parser.add_argument("--agents", type=int, default=40, help="at work (default 40)")
    parser.add_argument("--json", default="", metavar="FILE", help="the report; - is stdout")
    parser.add_argument(
        "--etcd", choices=("auto", "off"), default="auto", help="beside it, where it is on PATH"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("local"), help="where data is made (default local)"
    )
    parser.add_argument(
        "--without-sync",
        action="store_true",
        help="replicas whose fdatasync does nothing: a proof that --faults power can fail",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.faults.split(",") if name not in FAULTS]
    if unknown:
        parser.error(f"no fault is called {unknown[0]!r}; there are {', '.join(FAULTS)}")
    if arguments.rounds < 1 or arguments.agents < 1:
        parser.error("--rounds and --agents are at least 1")
    if "power" in arguments.faults.split(",") and power.why_not():
        parser.error(power.why_not())
    return arguments


def _write(path: str, report: Report) -> None:
    text = json.dumps(report.plain(), indent=2) + "\n"
    if path == STDOUT:
        sys.stdout.write(text)
    elif path:
        Path(path).write_text(text, encoding="utf-8")


def _say(line: str) -> None:
    """To people, who may also read while a report goes to stdout."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
