"""The full account at the end: every replica's whole event log against what the callers were told.

It is the oracle of the demonstration: pure functions over the logs, which trust no counter of a server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raftalloc.cli.demo import collect, oracle
from raftalloc.cli.demo.log import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.cli.demo.log import Log
    from raftalloc.cli.demo.oracle import Acknowledged
    from raftalloc.cli.group import LocalGroup


@dataclass(frozen=True, slots=True)
class Account:
    """violations: what must not be. checks: how many things each check looked at."""

    violations: list[Fault]
    checks: dict[str, int]


async def settle(group: LocalGroup, told: Acknowledged, say: Callable[[str], None]) -> Account:
    """Wait until the replicas stand still, read the log of each, and judge. Raises what keeps it from that."""
    say("waiting until the last leases run out")
    await collect.wait_idle(group, await group.wait_leader())
    found = await collect.digests(group)
    say(f"reading the event log of each replica up to index {found.index}")
    logs = await collect.logs(group, found.index)
    events = min(len(log) for log in logs.values())
    say(f"judging {events} events a replica")
    violations = await asyncio.to_thread(_judge, told, logs)
    if not found.equal:
        digests = f"digests differ at index {found.index}: {found.by_replica}"
        violations.append(Fault("digests", "", found.index, digests))
    if found.sound != "ok":
        violations.append(Fault("invariants", "", found.index, found.sound))
    checks = {
        "grants": len(told.grants),
        "releases": len(told.released),
        "queued": len(told.queued),
        "jobs": len(told.asked),
        "events": events,
        "replicas": len(logs),
        "index": found.index,
    }
    return Account(violations, checks)


def _judge(told: Acknowledged, logs: dict[str, Log]) -> list[Fault]:
    return [
        *oracle.lost(told, logs),
        *oracle.duplicated(told, logs),
        *oracle.over_capacity(logs),
        *oracle.disagreements(logs),
    ]
