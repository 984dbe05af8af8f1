"""The trace form: one CSV row per array of equal tasks (docs/traces.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from raftalloc.core.quantities import (
    AMOUNT_MAX,
    DEVICE_UNITS,
    DEVICES_PER_NODE_MAX,
    DURATION_MS_MAX,
    GPU,
    Vector,
)
from raftalloc.replay.priorities import priority_of
from raftalloc.replay.table import Row, reading

REQUIRED: Final = ("job_id", "submit_time_s", "duration_s", "cpu_milli", "memory_mib")
OPTIONAL: Final = (
    "user",
    "priority",
    "qos",
    "count",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "end_state",
)

ARRAY_MAX: Final = 10_000_000
"""Tasks of one row."""
MODELS_MAX: Final = 16
"""GPU models one row may accept."""
NOBODY: Final = "trace"
"""The user of a row that names none."""


@dataclass(frozen=True, slots=True)
class Task:
    """One row: `count` equal tasks of one job.

    Times in ms from the trace's own zero; duration_ms 0: it never ends. demand in canonical units,
    empty where the trace measured nothing.
    """

    line: int
    job_id: str
    user: str
    submit_ms: int
    duration_ms: int
    priority: int
    count: int
    demand: Vector
    gpu_models: tuple[str, ...]


def read_trace(path: str, *, limit: int | None = None) -> Iterator[Task]:
    """The tasks in the order of the file (of its first `limit` rows), as they are read."""
    with reading(path, required=REQUIRED, optional=OPTIONAL) as rows:
        for row in islice(rows, limit):
            yield _task(row)


def _task(row: Row) -> Task:
    submit_ms = row.milliseconds("submit_time_s")
    if submit_ms is None:
        raise row.bad("submit_time_s", "is empty", "give the seconds since the trace began")
    gpu, models = _gpu(row)
    demand = (
        ("cpu", row.integer("cpu_milli", low=0, high=AMOUNT_MAX)),
        (GPU, gpu),
        ("memory", row.integer("memory_mib", low=0, high=AMOUNT_MAX)),
    )
    return Task(
        line=row.line,
        job_id=row.name("job_id"),
        user=row.name("user", NOBODY),
        submit_ms=submit_ms,
        duration_ms=_duration(row),
        priority=priority_of(row),
        count=row.integer("count", default=1, low=1, high=ARRAY_MAX),
        # A trace says 0 for what it did not measure: that is not asked for.
        demand=tuple((kind, amount) for kind, amount in demand if amount),
        gpu_models=models,
    )


def _duration(row: Row) -> int:
    duration_ms = row.milliseconds("duration_s")
    if duration_ms is None:
        return 0
    if duration_ms > DURATION_MS_MAX:
        raise row.bad(
            "duration_s", "is above ten years", "leave it empty for a task that never ends"
        )
    # 0 is "never ends" to the machine, but a task of 0 s to the trace: it ends at once.
    return max(1, duration_ms)


def _gpu(row: Row) -> tuple[int, tuple[str, ...]]:
    """Canonical units, and the models accepted: a share of one device, or whole devices."""
    devices = row.integer("num_gpu", default=0, low=0, high=DEVICES_PER_NODE_MAX)
    if not devices:
        return 0, ()
    share = row.integer("gpu_milli", default=DEVICE_UNITS, low=1, high=DEVICE_UNITS)
    models = tuple(dict.fromkeys(filter(None, map(str.strip, row.text("gpu_spec").split("|")))))
    if len(models) > MODELS_MAX:
        raise row.bad("gpu_spec", f"{len(models)} models", f"give at most {MODELS_MAX}")
    if devices == 1 and share < DEVICE_UNITS:
        return share, models
    return devices * DEVICE_UNITS, models
