"""What the five kinds of compliance agents ask for, job by job. Pure: a seed gives a workload.

    policy_analyzer   reads policies with a language model: little CPU, much API quota
    gap_assessment    compares controls with evidence: database connections and searches
    risk_analyzer     scores risks: memory, shares of GPUs, now and then a whole large one
    auditor           samples records: disk and connections, in zones, sometimes with urgency
    data_processor    works evidence off in arrays and gangs: CPU, memory, network, cache

Every job has a lease and a duration, so that whatever becomes of its agent its resources come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.cli.demo.dice import Dice
from raftalloc.cli.demo.fleet import ZONES
from raftalloc.core.quantities import DEVICE_UNITS, GPU, scale_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEASE_MS: Final = 4000
DURATION_MS: Final = 60_000
SHORT_DURATION_MS: Final = 1000
WAIT_MS: Final = 3000
HOLD_MS: Final = (50, 600)

LOW: Final = types_pb2.PRIORITY_LOW
MEDIUM: Final = types_pb2.PRIORITY_MEDIUM
HIGH: Final = types_pb2.PRIORITY_HIGH
CRITICAL: Final = types_pb2.PRIORITY_CRITICAL


class Ending(Enum):
    """How an agent parts with what it holds."""

    RELEASE = "released"
    RENEW = "renewed once, then released"
    ABANDON = "forgotten: its lease runs out"
    RUN_OUT = "kept until its duration ends"


@dataclass(frozen=True, slots=True)
class Job:
    """One request, how long the work takes, and how it ends."""

    request: allocator_pb2.AllocateRequest
    hold_ms: int
    ending: Ending

    @property
    def workflow_id(self) -> str:
        """Of this job alone."""
        return self.request.workflow_id

    @property
    def count(self) -> int:
        """Members asked for."""
        return self.request.count or 1


@dataclass(frozen=True, slots=True)
class _Shape:
    """What one sort of work needs; resources in canonical units."""

    resources: dict[str, int]
    priority: types_pb2.Priority.ValueType
    gpu_models: tuple[str, ...] = ()
    constraints: tuple[types_pb2.Constraint, ...] = ()
    count: int = 1
    gang: bool = False
    waits_percent: int = 50
    policy: types_pb2.Policy.ValueType = field(default=types_pb2.POLICY_BEST_FIT)


def _policy_analyzer(dice: Dice) -> _Shape:
    resources = _units(cpu=dice.between(1, 4), memory=dice.between(2, 8))
    resources |= _units(api_quota=dice.pick((100, 200, 500, 1000)))
    if dice.percent(25):
        resources["api_quota.regulations"] = 50 * scale_of("api_quota")
    return _Shape(resources, dice.pick((MEDIUM, MEDIUM, HIGH)))


def _gap_assessment(dice: Dice) -> _Shape:
    resources = _units(cpu=dice.between(1, 2), memory=dice.between(2, 4))
    resources |= _units(db_connections=dice.between(1, 4), query_capacity=dice.between(10, 60))
    return _Shape(resources, dice.pick((MEDIUM, HIGH)), waits_percent=70)


def _risk_analyzer(dice: Dice) -> _Shape:
    resources = _units(cpu=dice.between(2, 6), memory=dice.between(8, 32))
    priority = dice.pick((HIGH, HIGH, CRITICAL))
    if dice.percent(15):
        return _Shape(resources | {GPU: DEVICE_UNITS}, priority, gpu_models=("A100",))
    resources[GPU] = dice.pick((250, 500, 500, DEVICE_UNITS))
    return _Shape(resources, priority, gpu_models=("T4", "A100") if dice.percent(50) else ())


def _auditor(dice: Dice) -> _Shape:
    resources = _units(cpu=1, memory=2, disk=dice.between(10, 100))
    resources |= _units(db_connections=dice.between(1, 2))
    zone = types_pb2.Constraint(
        key="zone",
        operator=types_pb2.Constraint.OPERATOR_IN,
        values=[dice.pick(ZONES)],
    )
    newer = types_pb2.Constraint(
        key="generation", operator=types_pb2.Constraint.OPERATOR_GT, values=["4"]
    )
    constraints = (zone, newer) if dice.percent(30) else (zone,)
    priority = CRITICAL if dice.percent(10) else MEDIUM
    return _Shape(resources, priority, constraints=constraints)


def _data_processor(dice: Dice) -> _Shape:
    resources = _units(cpu=dice.between(1, 4), memory=dice.between(4, 16))
    resources |= _units(network=dice.between(100, 500), cache=dice.between(64, 512))
    return _Shape(
        resources,
        LOW,
        count=dice.pick((1, 4, 8, 16)),
        gang=dice.percent(25),
        policy=types_pb2.POLICY_WORST_FIT if dice.percent(30) else types_pb2.POLICY_BEST_FIT,
    )


SHAPES: Final[dict[str, Callable[[Dice], _Shape]]] = {
    "policy_analyzer": _policy_analyzer,
    "gap_assessment": _gap_assessment,
    "risk_analyzer": _risk_analyzer,
    "auditor": _auditor,
    "data_processor": _data_processor,
}


def agent_ids(count: int) -> list[str]:
    """`count` agents, the five kinds in turn: policy_analyzer_01, gap_assessment_01 ..."""
    kinds = list(SHAPES)
    return [f"{kinds[row % len(kinds)]}_{row // len(kinds) + 1:02d}" for row in range(count)]


def jobs(agent_id: str, seed: int) -> Iterator[Job]:
    """The work of one agent, without end. The agent type is left for the group to derive from the id."""
    kind = agent_id.rpartition("_")[0]
    dice = Dice(seed)
    number = 0
    while True:
        number += 1
        yield _job(f"review/{agent_id}/{number:05d}", agent_id, SHAPES[kind](dice), dice)


def _job(workflow_id: str, agent_id: str, shape: _Shape, dice: Dice) -> Job:
    ending = _ending(dice)
    request = allocator_pb2.AllocateRequest(
        agent_id=agent_id,
        workflow_id=workflow_id,
        priority=shape.priority,
        resources=shape.resources,
        gpu_models=shape.gpu_models,
        constraints=shape.constraints,
        count=shape.count,
        gang=shape.gang,
        duration_ms=SHORT_DURATION_MS if ending is Ending.RUN_OUT else DURATION_MS,
        lease_ttl_ms=LEASE_MS,
        wait_ms=WAIT_MS if dice.percent(shape.waits_percent) else 0,
        policy=shape.policy,
    )
    return Job(request, dice.between(*HOLD_MS), ending)


def _ending(dice: Dice) -> Ending:
    rolled = dice.between(1, 100)
    if rolled <= 80:
        return Ending.RELEASE
    if rolled <= 92:
        return Ending.RENEW
    return Ending.ABANDON if rolled <= 96 else Ending.RUN_OUT


def _units(**amounts: int) -> dict[str, int]:
    return {kind: amount * scale_of(kind) for kind, amount in amounts.items()}
