"""The load of the Raft benches, the same for every engine: so many proposals under way, for so long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.bench.figures import quantiles_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bench.figures import Figures


@dataclass(frozen=True, slots=True)
class Case:
    """`outstanding` proposals of `size` bytes at a time; an entry carries `requests` of them."""

    name: str
    size: int
    outstanding: int
    requests: int = 1


CASES: Final = (
    Case("100B_1", 100, 1),
    Case("100B_64", 100, 64),
    Case("100B_1000", 100, 1000),
    Case("64KB_1", 65_536, 1),
    Case("64KB_64", 65_536, 64),
    Case("16x100", 100, 16, requests=100),
)


async def load(
    propose: Callable[[bytes], Awaitable[object]], size: int, outstanding: int, seconds: float
) -> dict[str, Any]:
    """Entries acknowledged, seconds that passed, and the time of each in microseconds' tenths, sampled."""
    payload = bytes(size)
    taken: list[float] = []
    clock = time.perf_counter
    until = clock() + seconds

    async def one() -> None:
        while (asked := clock()) < until:
            await propose(payload)
            taken.append(clock() - asked)

    began = clock()
    await asyncio.gather(*(one() for _ in range(outstanding)))
    passed = clock() - began
    every = max(1, len(taken) // 5000)
    return {
        "entries": len(taken),
        "seconds": passed,
        "sample": [round(t, 7) for t in taken[::every]],
    }


def record(
    figures: Figures, bench: str, case: Case, found: dict[str, Any], cpu_seconds: float
) -> None:
    """Add what came of a case; cpu_seconds: of all members together, while it ran."""
    rate = found["entries"] / found["seconds"]
    p50, p99 = quantiles_ms(found["sample"])
    if case.requests > 1:
        figures.add(bench, f"{case.name}_requests", rate * case.requests, "1/s")
    else:
        figures.add(bench, f"{case.name}_entries", rate, "1/s")
    figures.add(bench, f"{case.name}_p50", p50, "ms")
    figures.add(bench, f"{case.name}_p99", p99, "ms")
    figures.add(bench, f"{case.name}_cpu", cpu_seconds / max(1, found["entries"]) * 1e6, "us/entry")
