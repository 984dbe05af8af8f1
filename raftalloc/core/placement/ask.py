"""A demand by the columns of a state: what the pipeline works with."""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.commands import FGD, IN, LEAST_WASTE, POLICY_NUMBERS, Constraint
from raftalloc.core.quantities import GPU, NODE, Vector, scope_of
from raftalloc.core.state import CACHE_MAX, State
from raftalloc.core.terms import NO_TERMS, Terms


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
    terms: Terms = NO_TERMS

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """(column, amount) of every kind."""
        return self.node_parts + self.provider_parts

    @property
    def constraints_and_pool(self) -> tuple[Constraint, ...]:
        """The constraints, the pool among them: it is an attribute of nodes."""
        if not self.terms.pool:
            return self.constraints
        return (*self.constraints, Constraint("pool", IN, (self.terms.pool,)))

    @property
    def scorers(self) -> tuple[tuple[int, int], ...]:
        """(policy, weight) of what ranks nodes: the policy alone, or what the terms combine."""
        if not self.terms.scorers:
            return ((self.policy, 1),)
        return tuple((POLICY_NUMBERS[name], weight) for name, weight in self.terms.scorers)

    @property
    def minds_fragments(self) -> bool:
        """Whether the workload has a say in where it goes."""
        return any(policy in (FGD, LEAST_WASTE) for policy, _ in self.scorers)


def compile_ask(
    state: State,
    demand: Vector,
    models: tuple[str, ...],
    constraints: tuple[Constraint, ...],
    policy: int,
    terms: Terms = NO_TERMS,
) -> Ask | str:
    """A demand by the columns of this state; or the first kind that nothing has registered."""
    key = (demand, models, constraints, policy, terms)
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
    node, provider = tuple(node_parts), tuple(provider_parts)
    ask = Ask(demand, node, provider, gpu, models, constraints, policy, terms)
    if len(state.asks) >= CACHE_MAX:
        state.asks.clear()
    state.asks[key] = ask
    return ask
