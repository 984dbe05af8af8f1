"""What a replay has to say, under the names that machines read (docs/traces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from raftalloc.analytics.tally import Tally
from raftalloc.analytics.usage import MILLION
from raftalloc.core.commands import PRIORITY_NAMES
from raftalloc.core.quantities import GPU

PERCENTS: Final = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the driver knows besides the events.

    speed: trace seconds per second of the group's clock (1 embedded). acknowledged: grants that were
    answered to us. wall_s: from the first submission to the last answer or grant.
    """

    mode: str
    policy: str
    speed: float
    nodes: int
    rows: int
    submitted: int
    skipped: dict[str, int]
    acknowledged: int
    lost: int
    wall_s: float
    trace_s: float
    interrupted: bool = False
    extras: dict[str, object] = field(default_factory=dict)


def report_of(tally: Tally, facts: Facts) -> dict[str, object]:
    """The report as JSON values. Shares are 0..1, times seconds of the trace."""
    usage = tally.usage
    kinds = usage.kinds()
    rejected = tally.rejected + tally.withdrawn
    return {
        "policy": facts.policy,
        "placed": tally.placed,
        "rejected": dict(sorted(rejected.items())),
        "preempted": tally.preempted,
        "waits_s": _waits(tally, facts.speed),
        "utilisation": {kind: _share(usage.mean_ppm(kind)) for kind in kinds},
        "gpu_allocated_percent": _percent(usage.peak_ppm(GPU)) if GPU in kinds else None,
        "allocations_per_s": round(tally.placed / facts.wall_s, 1) if facts.wall_s > 0 else 0.0,
        "lost": facts.lost,
        "mode": facts.mode,
        "interrupted": facts.interrupted,
        "speed": facts.speed,
        "nodes": facts.nodes,
        "rows": facts.rows,
        "submitted": facts.submitted,
        "skipped": dict(sorted(facts.skipped.items())),
        "acknowledged": facts.acknowledged,
        "waiting": facts.submitted - tally.placed - rejected.total(),
        "live": tally.live,
        "ended": dict(sorted(tally.ended.items())),
        "utilisation_peak": {kind: _share(usage.peak_ppm(kind)) for kind in kinds},
        "utilisation_over_time": _course(tally, facts.speed),
        "trace_s": round(facts.trace_s, 3),
        "wall_s": round(facts.wall_s, 3),
        **facts.extras,
    }


def _waits(tally: Tally, speed: float) -> dict[str, dict[str, float]]:
    return {
        PRIORITY_NAMES[priority]: {
            f"p{percent}": round(tally.waits.quantile_ms(priority, percent) * speed / 1000, 3)
            for percent in PERCENTS
        }
        for priority in tally.waits.priorities()
    }


def _course(tally: Tally, speed: float) -> dict[str, object]:
    """Means of equal steps, from the first submission on."""
    usage = tally.usage
    step_ms = usage.course.step_ms if usage.course is not None else 0
    return {
        "step_s": round(step_ms * speed / 1000, 3),
        "kinds": {
            kind: [_share(share) for share in usage.course_ppm(kind)] for kind in usage.kinds()
        },
    }


def _share(ppm: int) -> float:
    return round(ppm / MILLION, 4)


def _percent(ppm: int) -> float:
    return round(ppm * 100 / MILLION, 2)
