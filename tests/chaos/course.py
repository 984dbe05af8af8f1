"""A run: a group of real processes, agents at work, and fault after fault, each ended before the next begins."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.cli.demo.dice import Dice
from raftalloc.cli.group import GroupError, LocalGroup
from raftalloc.client.client import Client
from raftalloc.errors import RaftallocError, Unavailable
from tests.chaos import account, faults
from tests.chaos.faults import FAULTS, Victims
from tests.chaos.load import Load, register
from tests.chaos.probe import until_written
from tests.chaos.report import Report, Round, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

CALM_MS: Final = (300, 900)
"""Between the end of a fault and the next; no fault may always meet the same moment."""
HOLD_MS: Final = (100, 500)
"""How long a fault goes on once writes are taken again."""
CATCH_UP_SECONDS: Final = 90.0
FIRST_GRANTS: Final = 20
WITHOUT_SYNC: Final = Path(__file__).parent / "without_sync"
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """A run. without_sync: replicas whose fdatasync does nothing, which a power cut must show."""

    faults: Sequence[str]
    rounds: int
    seed: int
    agents: int = 40
    nodes: int = 60
    without_sync: bool = False


async def run(plan: Plan, directory: Path, report: Report, say: Callable[[str], None]) -> None:
    """Play it; `report` grows, so that what broke off says how far it came. Raises what keeps it from a verdict."""
    group = LocalGroup.create(directory, cluster_id="chaos", any_ports=True)
    disks = faults.power_disks(group) if "power" in plan.faults else {}
    try:
        with _environment(without_sync=plan.without_sync):
            async with group:
                await _play(plan, Victims(group, disks), report, say)
    finally:
        faults.unmount(disks)


async def _play(plan: Plan, victims: Victims, report: Report, say: Callable[[str], None]) -> None:
    group = victims.group
    say(f"starting {len(group.replica_ids)} replicas in {group.directory}")
    group.start()
    await group.wait_answering()
    await group.wait_leader()
    async with Client(group.endpoints, tls=group.tls) as client:
        await register(client, plan.nodes)
        load = Load(client, plan.seed)
        try:
            await _rounds(plan, victims, load, report, say)
        except GroupError as error:
            # It was well, and does not come back: that is a finding, not a mishap.
            report.violations.append(Violation("start", "", 0, str(error)))
            return
        finally:
            load.cancel()
    found = await account.settle(group, load.told, say)
    report.violations += [Violation(**asdict(each)) for each in found.violations]
    report.checks = found.checks


@contextlib.contextmanager
def _environment(*, without_sync: bool) -> Iterator[None]:
    """What replicas that are started now find in theirs."""
    before = os.environ.get("PYTHONPATH")
    if without_sync:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(WITHOUT_SYNC), before)))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = before


async def _rounds(
    plan: Plan, victims: Victims, load: Load, report: Report, say: Callable[[str], None]
) -> None:
    loop, dice = asyncio.get_running_loop(), Dice(plan.seed)
    load.start(plan.agents)
    say(f"{plan.agents} agents at work")
    while load.told.count() < FIRST_GRANTS:
        load.check()
        await asyncio.sleep(_POLL_SECONDS)
    began = loop.time()
    for number in range(plan.rounds):
        fault = plan.faults[number % len(plan.faults)]
        await asyncio.sleep(dice.between(*CALM_MS) / 1000)
        done = await _round(fault, dice.between(*HOLD_MS) / 1000, victims, load)
        report.rounds.append(done)
        report.seconds = loop.time() - began
        report.operations = dict(load.outcomes)
        _complain(number, done, report)
        say(_told(number, plan.rounds, done, load))
        load.check()
    await load.end()
    report.operations = dict(load.outcomes)


async def _round(fault: str, hold: float, victims: Victims, load: Load) -> Round:
    """One fault, from a group that is well to a group that is well."""
    loop, group = asyncio.get_running_loop(), victims.group
    leader = await group.wait_leader()
    load.slowest = 0.0
    since = loop.time()
    await FAULTS[fault].begin(victims, leader)
    gap = await _while_all_run(victims, until_written(load.probe, since))
    await asyncio.sleep(hold)
    ended = loop.time()
    await FAULTS[fault].end(victims)
    try:
        await _all_caught_up(group)
    except Unavailable:
        return Round(fault, ",".join(victims.hit), _ms(gap), _ms(load.slowest))
    back = loop.time() - ended
    return Round(fault, ",".join(victims.hit), _ms(gap), _ms(load.slowest), _ms(back))


async def _while_all_run(
    victims: Victims, waiting: Coroutine[None, None, float | None]
) -> float | None:
    """What `waiting` answers. Raises GroupError where a replica that no fault has hit ends by itself."""
    group = victims.group
    task = asyncio.ensure_future(waiting)
    try:
        while not task.done():
            for name in group.replica_ids:
                if name not in victims.hit and not group.alive(name):
                    raise GroupError(
                        f"replica {name} ended; its log says:\n{group.last_lines(name)}"
                    )
            await asyncio.wait((task,), timeout=_POLL_SECONDS)
        return task.result()
    finally:
        task.cancel()


async def _all_caught_up(group: LocalGroup) -> None:
    """Until all have applied what was committed when the fault ended. Raises Unavailable, GroupError."""
    await group.wait_answering(seconds=CATCH_UP_SECONDS)
    leader = await group.wait_leader(seconds=CATCH_UP_SECONDS)
    aim = (await group.status(leader)).commit_index
    loop = asyncio.get_running_loop()
    give_up = loop.time() + CATCH_UP_SECONDS
    while loop.time() < give_up:
        statuses = await group.statuses()
        if all(
            not isinstance(each, RaftallocError) and each.applied_index >= aim
            for each in statuses.values()
        ):
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise Unavailable(f"not all replicas reached index {aim} in {CATCH_UP_SECONDS:g} s")


def _complain(number: int, done: Round, report: Report) -> None:
    """Safety is judged at the end; that the group comes back is judged here."""
    where = f"round {number + 1}, {done.fault} of {done.victim or 'all'}"
    if done.gap_ms is None:
        report.violations.append(Violation("liveness", "", 0, f"{where}: no write was taken"))
    if done.back_ms is None:
        message = f"{where}: it did not catch up in {CATCH_UP_SECONDS:g} s"
        report.violations.append(Violation("liveness", done.victim, 0, message))


def _told(number: int, rounds: int, done: Round, load: Load) -> str:
    gap = "never" if done.gap_ms is None else f"{done.gap_ms:.0f} ms"
    back = "not in time" if done.back_ms is None else f"{done.back_ms:.0f} ms"
    return (
        f"{number + 1}/{rounds} {done.fault} {done.victim or 'all'}: writes taken after {gap}, "
        f"slowest call {done.slowest_ms:.0f} ms, all back {back}; {load.told.count()} grants told"
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
