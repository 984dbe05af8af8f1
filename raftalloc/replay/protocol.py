"""The published GPU packing protocol: a workload too large for the fleet, and what share of its GPUs it gets.

After Weng et al., "Beware of Fragmentation", USENIX ATC'23, section 6: the tasks of the trace shuffled by a seed, then
tasks drawn with replacement appended until the GPUs asked for reach 1.3 x capacity; asked for one by one, nothing
departs, what does not fit is dropped. The metric is the share of all device units that is allocated at the end.

Ties end at registration order (design 9.9), and nodes are registered in an order permuted once per seed, as in the
published runs. Every task is an Allocate command that takes the way of any other through the machine. fgd is told the
trace's own demands beforehand, as it was there; least_waste learns from what is live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raftalloc.core.commands import FGD, POLICY_NAMES, Allocate, Asked, Command, Entry, RegisterNode
from raftalloc.core.events import Happened, WorkloadSet
from raftalloc.core.machine import apply, fold
from raftalloc.core.quantities import GPU
from raftalloc.core.state import State
from raftalloc.core.terms import Typical
from raftalloc.errors import InvalidRequest
from raftalloc.replay.fleet import NodeSpec
from raftalloc.replay.trace import Task

PUBLISHED: Final = (
    ("Random", 87.47),
    ("DotProd", 90.85),
    ("GpuClustering", 91.88),
    ("GpuPacking", 92.00),
    ("BestFit", 93.08),
    ("FGD", 95.39),
)
"""Percent of 6,212 GPUs on the trace `default` of the paper, mean of ten seeds."""

_ASKED_OF_TEN: Final = 13
_COVERED_PERCENT: Final = 95
_BLOCK: Final = 100
_DRAW_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Packing:
    """One run. percent: of the device units that were allocated at the end."""

    policy: int
    seed: int
    percent: float
    placed: int
    dropped: int


class _Draws:
    """SplitMix64 (Steele et al., OOPSLA'14): the same draws for the same seed, everywhere."""

    def __init__(self, seed: int) -> None:
        self._at = seed & _DRAW_MASK

    def below(self, limit: int) -> int:
        """A number of 0 .. limit - 1; its bias is below 2^-40 for every limit in use."""
        self._at = (self._at + 0x9E3779B97F4A7C15) & _DRAW_MASK
        mixed = self._at
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _DRAW_MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _DRAW_MASK
        return (mixed ^ mixed >> 31) % limit

    def shuffled(self, items: Iterable[int]) -> list[int]:
        """Fisher-Yates."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


def packing(
    fleet: Sequence[NodeSpec],
    tasks: Sequence[Task],
    policy: int,
    seed: int,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Packing:
    """One run of one policy. Raises InvalidRequest for a fleet or a trace without GPUs."""
    capacity = sum(dict(node.capacity).get(GPU, 0) for node in fleet)
    pods = [task for task in tasks if task.demand]
    if not capacity or not any(dict(task.demand).get(GPU) for task in pods):
        raise InvalidRequest("protocol", "needs GPUs in the fleet and in the trace", "name others")
    draws = _Draws(seed)
    order = inflated(pods, capacity, draws)
    state = State.genesis()
    index = _register(state, fleet, draws)
    if policy == FGD:
        index += 1
        declared = WorkloadSet(0, typical(pods), declared=True)
        fold(state, (Happened(declared, -1),), index=index, at_ms=1)
    placed = 0
    for start in range(0, len(order), _BLOCK):
        block = [_command(pods[at], policy) for at in order[start : start + _BLOCK]]
        index += 1
        applied = apply(state, Entry(1, "replay", tuple(map(Asked, block))), index)
        placed += sum(outcome.count for outcome in applied.outcomes if outcome.rejection is None)
        progress(start + len(block), len(order))
    allocated = state.quotas.taken(state.quotas.row("root"), state.kinds.column(GPU))
    percent = 100 * allocated / capacity
    return Packing(policy, seed, percent, placed, len(order) - placed)


def inflated(pods: Sequence[Task], capacity: int, draws: _Draws) -> list[int]:
    """Places in `pods`: all of them in any order, then any until 1.3 x capacity is asked for."""
    gpu = [dict(pod.demand).get(GPU, 0) for pod in pods]
    order = draws.shuffled(range(len(pods)))
    asked = sum(gpu)
    while asked * 10 < capacity * _ASKED_OF_TEN:
        drawn = draws.below(len(pods))
        order.append(drawn)
        asked += gpu[drawn]
    return order


def typical(pods: Iterable[Task]) -> tuple[Typical, ...]:
    """The most frequent demands that together make up 95 % of the tasks, as the published FGD had them."""
    counts = Counter(pod.demand for pod in pods)
    most, covered = [], 0
    for demand, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered * 100 >= _COVERED_PERCENT * counts.total():
            break
        most.append(Typical(demand, count))
        covered += count
    return tuple(most)


def row_of(runs: Sequence[Packing]) -> dict[str, Any]:
    """Runs of one policy over several seeds, as a row of the table."""
    percents = [run.percent for run in runs]
    return {
        "policy": POLICY_NAMES[runs[0].policy],
        "seeds": len(runs),
        "percent": round(sum(percents) / len(percents), 3),
        "least": round(min(percents), 3),
        "most": round(max(percents), 3),
    }


def _register(state: State, fleet: Sequence[NodeSpec], draws: _Draws) -> int:
    """Nodes in the order of the seed; answers the index."""
    order = draws.shuffled(range(len(fleet)))
    commands: Iterator[Command] = (_registration(fleet[at]) for at in order)
    apply(state, Entry(1, "replay", tuple(map(Asked, commands))), 1)
    return 1


def _registration(node: NodeSpec) -> RegisterNode:
    return RegisterNode(
        node.node_id, provider=False, capacity=node.capacity, devices=node.devices, static=True
    )


def _command(pod: Task, policy: int) -> Allocate:
    return Allocate(
        agent_id="replay",
        agent_type="replay",
        workflow_id="",
        priority=pod.priority,
        demand=pod.demand,
        gpu_models=pod.gpu_models,
        policy=policy,
    )
