"""How much of the fleet an agent type holds: its dominant share (DRF; Ghodsi et al., NSDI'11, section 4).

The dominant share of a type is the greatest, over kinds, of what is charged to its quota (used, and held for its open
reservations) by what the whole fleet has, divided by its weight. Shares are exact fractions, (numerator, denominator)
in Python integers, and are compared by cross-multiplication: a fleet's total times a fleet's total does not fit int64.

Flat: every agent type is compared with every other, wherever their quotas stand in the tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key

import numpy as np

from raftalloc.core.commands import WEIGHT_ONE
from raftalloc.core.state import State

Share = tuple[int, int]
"""A fraction that is not negative."""
NOTHING: Share = (0, 1)


def share_of(state: State, agent_type: str) -> Share:
    """The weighted dominant share of an agent type; kept until what it holds, its weight or the fleet changes."""
    row = state.quotas.row(agent_type)
    if row < 0:
        return NOTHING
    known: Share | None = state.shares.get(row)
    if known is None:
        known = state.shares[row] = _dominant(state, row)
    return known


def _dominant(state: State, row: int) -> Share:
    quotas, totals = state.quotas, state.fleet.totals
    weight = quotas.weights[row]
    greatest = NOTHING
    taken = quotas.used[row] + quotas.held[row]
    for kind in np.flatnonzero(taken).tolist():
        amount = int(taken[kind])
        # A kind that the fleet has lost altogether counts as taken whole.
        share = (amount * WEIGHT_ONE, (totals[kind] or amount) * weight)
        if is_less(greatest, share):
            greatest = share
    return greatest


def is_less(one: Share, other: Share) -> bool:
    """Whether one share is below another, exactly."""
    return one[0] * other[1] < other[0] * one[1]


def least_of(state: State, agent_types: Iterable[str]) -> list[str]:
    """Those of the types that have the least share; several where they have equally little."""
    least: list[str] = []
    lowest = NOTHING
    for agent_type in agent_types:
        share = share_of(state, agent_type)
        if not least or is_less(share, lowest):
            least, lowest = [agent_type], share
        elif not is_less(lowest, share):
            least.append(agent_type)
    return least


def ranks_of(state: State, agent_types: Iterable[str]) -> dict[str, int]:
    """The place of each type by its share, from 0; equal shares have equal places."""
    shares = [(share_of(state, name), name) for name in dict.fromkeys(agent_types)]
    order = sorted(shares, key=cmp_to_key(_compare))
    ranks: dict[str, int] = {}
    rank, before = 0, NOTHING
    for share, name in order:
        if ranks and is_less(before, share):
            rank += 1
        ranks[name], before = rank, share
    return ranks


def _compare(one: tuple[Share, str], other: tuple[Share, str]) -> int:
    left, right = one[0][0] * other[0][1], other[0][0] * one[0][1]
    return (left > right) - (left < right)


def millionths(share: Share) -> int:
    """A share for people: in millionths of the fleet, rounded down."""
    return share[0] * 1_000_000 // share[1]
