"""The command behind `scripts/simulate`; `--help` says the rest.

Without `--mutant` it ends with 1 where a seed violates anything, and names the command that replays it. With `--mutant`
it ends with 1 where no seed noticed it. `--table` takes all mutants in turn and prints how soon each is found.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation import directed, faults, mutants
from tests.simulation import directed_snapshots as _its_schedules  # noqa: F401 - among directed's
from tests.simulation.mutants import MUTANTS
from tests.simulation.seed import simulate_cleanly
from tests.simulation.world import FAULT_SECONDS, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

HASH_SEED = "0"


def main() -> int:
    """Parse, run, report; the exit code."""
    arguments = _parse()
    _pin_hashes()
    if arguments.table:
        return _table(arguments)
    report = campaign(arguments, arguments.mutant, _faults_of(arguments, arguments.mutant))
    _write(arguments.json, report)
    found = bool(report["violations"])
    return int(found != bool(arguments.mutant))


def campaign(arguments: argparse.Namespace, mutant: str, allowed: list[str]) -> dict[str, Any]:
    """Seed after seed; the report. A mutant's campaign ends where it is found."""
    started = _seconds()
    violations: list[dict[str, Any]] = []
    total: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    simulated = 0.0
    found_after: int | None = None
    seeds = 0
    for verdict in _verdicts(arguments, mutant, allowed, started):
        seeds += 1
        simulated += verdict.simulated_seconds
        total.update(verdict.faults)
        counts.update(verdict.counts)
        _say(arguments, verdict)
        if verdict.oracle:
            violations.append(_violation(verdict, allowed, mutant, arguments.seconds))
            _tell(violations[-1])
            if mutant:
                found_after = seeds
                break
    wall = _seconds() - started
    return {
        "seeds": seeds,
        "violations": violations,
        "mutant": mutant or None,
        "found_after_seeds": found_after,
        "simulated_seconds": round(simulated, 1),
        "wall_seconds": round(wall, 1),
        "simulated_seconds_per_second": round(simulated / wall, 1) if wall else 0.0,
        "faults": dict(sorted(total.items())),
        "counts": dict(sorted(counts.items())),
    }


def _verdicts(
    arguments: argparse.Namespace, mutant: str, allowed: list[str], started: float
) -> Iterator[Verdict]:
    """In the order of the seeds, several at a time where that was asked for."""
    run = functools.partial(
        simulate_cleanly, allowed=allowed, mutant=mutant, fault_seconds=arguments.seconds
    )
    seeds = _seeds(arguments, started)
    if arguments.jobs == 1:
        yield from map(run, seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        while chunk := list(itertools.islice(seeds, 2 * arguments.jobs)):
            yield from pool.map(run, chunk)


def _seeds(arguments: argparse.Namespace, started: float) -> Iterator[int]:
    seed = arguments.start
    until = started + arguments.minutes * 60 if arguments.minutes else None
    while _seconds() < until if until else seed < arguments.start + arguments.seeds:
        yield seed
        seed += 1


def _violation(verdict: Verdict, allowed: list[str], mutant: str, seconds: float) -> dict[str, Any]:
    replay = f"./scripts/simulate --start {verdict.seed} --seeds 1"
    if seconds != FAULT_SECONDS:
        replay += f" --seconds {seconds:g}"
    if sorted(allowed) != sorted(_default_faults(mutant)):
        replay += f" --faults {','.join(allowed)}"
    if mutant:
        replay += f" --mutant {mutant}"
    return {
        "seed": verdict.seed,
        "oracle": verdict.oracle,
        "story": verdict.story,
        "replay": replay,
    }


def _tell(violation: dict[str, Any]) -> None:
    _print(f"seed {violation['seed']} violates {violation['oracle']}:")
    for line in violation["story"]:
        _print(f"  {line}")
    _print(f"replay: {violation['replay']}")


def _say(arguments: argparse.Namespace, verdict: Verdict) -> None:
    if arguments.verbose:
        counts = " ".join(f"{name}={count}" for name, count in sorted(verdict.counts.items()))
        _print(f"seed {verdict.seed} {verdict.oracle or 'ok'} trace={verdict.trace:08x} {counts}")


def _table(arguments: argparse.Namespace) -> int:
    """How soon each mutant is found."""
    rows = []
    _print("| mutant | defect | what it does | seen by | after seeds | schedule that is kept |")
    _print("|---|---|---|---|---|---|")
    for mutant in MUTANTS.values():
        report = campaign(arguments, mutant.name, _faults_of(arguments, mutant.name))
        oracle = report["violations"][0]["oracle"] if report["violations"] else "-"
        after = report["found_after_seeds"] or f"not in {report['seeds']}"
        with mutants.applied(mutant.name):
            schedule = directed.found()
        columns = (mutant.name, mutant.defect, mutant.says, oracle, after, schedule or "-")
        _print(f"| {' | '.join(str(column) for column in columns)} |")
        rows.append({**report, "schedule": schedule or None})
    _write(arguments.json, {"mutants": rows})
    return int(any(not row["found_after_seeds"] and not row["schedule"] for row in rows))


def _default_faults(mutant: str) -> tuple[str, ...]:
    return MUTANTS[mutant].faults if mutant else faults.ALL


def _faults_of(arguments: argparse.Namespace, mutant: str) -> list[str]:
    return arguments.faults.split(",") if arguments.faults else list(_default_faults(mutant))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="simulate", description="Whole groups of replicas, in simulated time, under faults."
    )
    parser.add_argument("--seeds", type=int, default=30, help="how many (default 30)")
    parser.add_argument("--start", type=int, default=0, help="the first (default 0)")
    parser.add_argument("--minutes", type=float, default=0, help="as many seeds as fit instead")
    parser.add_argument("--seconds", type=float, default=FAULT_SECONDS, help="of faults, a seed")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (default 1)")
    parser.add_argument(
        "--faults", default="", help=f"of {','.join((*faults.ALL, *faults.BY_NAME))}"
    )
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="a correction less")
    parser.add_argument("--table", action="store_true", help="every mutant, and how soon it shows")
    parser.add_argument("--json", default="", metavar="FILE", help="the report; - is stdout")
    parser.add_argument("--verbose", "-v", action="store_true", help="a line for each seed")
    arguments = parser.parse_args()
    known = (*faults.ALL, *faults.BY_NAME)
    unknown = [name for name in arguments.faults.split(",") if name and name not in known]
    if unknown:
        parser.error(f"no fault is called {unknown[0]}; there are {', '.join(known)}")
    return arguments


def _pin_hashes() -> None:
    """pysyncobj iterates over sets: the same seed is the same run only under the same hashes."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])


def _write(path: str, report: dict[str, Any]) -> None:
    text = json.dumps(report, indent=2)
    if path == "-":
        sys.stdout.write(text + "\n")
        return
    if path:
        Path(path).write_text(text + "\n")
    if "seeds" in report:
        _print(
            f"{report['seeds']} seeds, {len(report['violations'])} with violations; "
            f"{report['simulated_seconds']:.0f} simulated seconds in {report['wall_seconds']:.0f}: "
            f"{report['simulated_seconds_per_second']} a second"
        )


def _print(line: str) -> None:
    """To people, who may also read while a report goes to stdout."""
    print(line, file=sys.stderr, flush=True)


def _seconds() -> float:
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
