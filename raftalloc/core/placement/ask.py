"""A demand by the columns of a state: what the pipeline works with."""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.commands import Constraint
from raftalloc.core.quantities import GPU, NODE, Vector, scope_of
from raftalloc.core.state import CACHE_MAX, State


@dataclass(frozen=True, slots=True)
class Ask:
    """A demand by columns: what one member asks of a node and of providers. gpu: units, 0 for none."""

    demand: Vector
    node_parts: tuple[tuple[int, int], ...]
    provider_parts: tuple[tuple[int, int], ...]
    gpu: int
    models: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    policy: int

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """(column, amount) of every kind."""
        return self.node_parts + self.provider_parts


def compile_ask(
    state: State,
    demand: Vector,
    models: tuple[str, ...],
    constraints: tuple[Constraint, ...],
    policy: int,
) -> Ask | str:
    """A demand by the columns of this state; or the first kind that nothing has registered."""
    key = (demand, models, constraints, policy)
    ask = state.asks.get(key)
    if ask is not None:
        assert isinstance(ask, Ask), "only asks are kept there"
        return ask
    node_parts: list[tuple[int, int]] = []
    provider_parts: list[tuple[int, int]] = []
    for kind, amount in demand:
        column = state.kinds.column(kind)
        if column < 0:
            return kind
        parts = node_parts if scope_of(kind) == NODE else provider_parts
        parts.append((column, amount))
    gpu = dict(demand).get(GPU, 0)
    ask = Ask(demand, tuple(node_parts), tuple(provider_parts), gpu, models, constraints, policy)
    if len(state.asks) >= CACHE_MAX:
        state.asks.clear()
    state.asks[key] = ask
    return ask
