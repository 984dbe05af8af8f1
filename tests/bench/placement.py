"""How long the general path of placement takes for one decision: every policy, over 1,000 and over 10,000 nodes.

Nodes are of a few sorts with GPUs and a third full; requests are of 24 shapes, shares of GPUs among them. A decision is
filters, scorers and choice over all nodes (`placement.place`), then the grant goes through the machine, so that every
decision sees another state. `first` is the first request of each shape, for which nothing is kept yet. What is counted
is processor time: other programs take their share of the clock.
"""

from __future__ import annotations

import time
from itertools import product
from typing import TYPE_CHECKING, Final

from raftalloc.core.commands import (
    FIRST_FIT,
    MEDIUM,
    POLICY_NAMES,
    Allocate,
    Asked,
    Command,
    Entry,
    RegisterNode,
)
from raftalloc.core.headroom import ask_of
from raftalloc.core.machine import apply
from raftalloc.core.placement import Ask, Room, place
from raftalloc.core.requests import as_queued
from raftalloc.core.state import State
from tests.bench.figures import Figures, quantiles_ms
from tests.bench.registry import Bench, Context

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = "placement"
SIZES: Final = (1_000, 10_000)
SORTS: Final = ((96_000, 393_216, 8), (104_000, 524_288, 2), (64_000, 262_144, 0))
SHAPES: Final = tuple(product((1000, 4000, 12_000), (4096, 16_384), (0, 320, 810, 1000)))
_BLOCK: Final = 1_000


async def measure(context: Context) -> None:
    """Each policy over each size."""
    sizes = SIZES[:1] if context.quick else SIZES
    decisions = 120 if context.quick else 480
    for _ in range(context.runs):
        for nodes in sizes:
            for policy, name in POLICY_NAMES.items():
                context.say(f"{name}, {nodes} nodes")
                _measure_policy(context.figures, nodes, policy, name, decisions)


def _measure_policy(figures: Figures, nodes: int, policy: int, name: str, decisions: int) -> None:
    state = _fleet(nodes, policy)
    index = state.index
    first: list[float] = []
    later: list[float] = []
    for at in range(decisions):
        command = _request(at, policy)
        queued = as_queued(state, command, Asked(command).origin)
        ask = ask_of(state, queued)
        assert isinstance(ask, Ask), "base kinds are known"
        began = time.thread_time()
        placement = place(state, Room(state), ask, 0)
        taken = time.thread_time() - began
        assert placement is not None, "two thirds of the fleet are free"
        (first if at < len(SHAPES) else later).append(taken)
        index += 1
        apply(state, Entry(2, "bench", (Asked(command),)), index)
    p50, p99 = quantiles_ms(later)
    figures.add(NAME, f"{name}_{nodes}_p50", p50, "ms")
    figures.add(NAME, f"{name}_{nodes}_p99", p99, "ms")
    figures.add(NAME, f"{name}_{nodes}_first_p50", quantiles_ms(first)[0], "ms")


def _fleet(nodes: int, policy: int) -> State:
    state = State.genesis()
    registrations = [_node(at) for at in range(nodes)]
    fill = [_request(at * 7, policy=FIRST_FIT if at % 3 else policy) for at in range(nodes // 3)]
    for index, commands in enumerate((*_blocks(registrations), *_blocks(fill)), 1):
        apply(state, Entry(1, "bench", tuple(map(Asked, commands))), index)
    return state


def _blocks(commands: Sequence[Command]) -> list[Sequence[Command]]:
    return [commands[at : at + _BLOCK] for at in range(0, len(commands), _BLOCK)]


def _node(at: int) -> RegisterNode:
    cpu, memory, gpus = SORTS[at % len(SORTS)]
    capacity = [("cpu", cpu), ("memory", memory)] + ([("gpu", 1000 * gpus)] if gpus else [])
    return RegisterNode(
        f"n{at}",
        provider=False,
        capacity=tuple(sorted(capacity)),
        devices=("G2",) * gpus,
        static=True,
    )


def _request(at: int, policy: int) -> Allocate:
    cpu, memory, gpu = SHAPES[at % len(SHAPES)]
    demand = (("cpu", cpu), ("gpu", gpu), ("memory", memory))
    return Allocate(
        agent_id="bench",
        agent_type="bench",
        workflow_id="",
        priority=MEDIUM,
        demand=tuple((kind, amount) for kind, amount in demand if amount),
        policy=policy,
    )


def relate(figures: Figures) -> None:
    """Nothing to compare with."""


BENCH: Final = Bench(
    NAME, "one decision of placement by every policy, 1,000 and 10,000 nodes", measure, relate
)
