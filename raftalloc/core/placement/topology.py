"""Where a member may stand beside others: spread over domains, near to or away from allocations with a label.

A domain is all nodes with the same value of an attribute (fleet.domains). Counted are live allocations, and the members
that the plan at hand has placed. Semantics after Kubernetes' PodTopologySpread and InterPodAffinity: the skew of a
domain is its count, this member included, less the least count of the domains that the request could stand in at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.room import Room
from raftalloc.core.state import State
from raftalloc.core.terms import IMPLIED_LABELS, Affinity, Label, Spread


def topology_filters(
    state: State, room: Room, ask: Ask, eligible: Mask
) -> Iterator[tuple[str, Mask]]:
    """(name, (rows,) which nodes pass) for each hard rule. eligible: nodes that the request could stand on at all."""
    for spread in ask.terms.spread:
        if not spread.soft:
            yield f"spread.{spread.key}", _within_skew(state, room, ask, spread, eligible)
    for affinity in ask.terms.affinity:
        if not affinity.soft:
            name = "anti_affinity" if affinity.anti else "affinity"
            yield f"{name}.{affinity.key}", _stands_well(state, room, ask, affinity)


def displeasure(state: State, room: Room, ask: Ask, rows: Column) -> Column | None:
    """(rows,): how many soft rules and soft taints each node would break; None: there are none."""
    minded = state.fleet.taints_minded(ask.terms.tolerations, soft=True)[rows]
    broken = minded if minded.any() else None
    if not any(rule.soft for rule in ask.terms.spread + ask.terms.affinity):
        return broken
    broken = minded.copy()
    eligible = standing(state, ask)
    for spread in ask.terms.spread:
        if spread.soft:
            broken += ~_within_skew(state, room, ask, spread, eligible)[rows]
    for affinity in ask.terms.affinity:
        if affinity.soft:
            broken += ~_stands_well(state, room, ask, affinity)[rows]
    return broken


def standing(state: State, ask: Ask) -> Mask:
    """(rows,): nodes whose state, attributes and taints would let the request stand there, whatever they have free."""
    fleet = state.fleet
    mask = fleet.is_node & fleet.is_ready & fleet.constraint_mask(ask.constraints_and_pool)
    mask &= fleet.taints_minded(ask.terms.tolerations) == 0
    return mask


def _within_skew(state: State, room: Room, ask: Ask, spread: Spread, eligible: Mask) -> Mask:
    domains = state.fleet.domains(spread.key)
    there = np.unique(domains[eligible & (domains >= 0)])
    if not len(there):
        return np.zeros(len(domains), np.bool_)
    counts = _counts(state, room, ask, spread.label, domains)
    own = spread.label in ask.terms.labels
    least = int(counts[there].min())
    within: Mask = (domains >= 0) & (counts[domains] + own - least <= spread.max_skew)
    return within


def _stands_well(state: State, room: Room, ask: Ask, affinity: Affinity) -> Mask:
    domains = state.fleet.domains(affinity.key)
    counts = _counts(state, room, ask, affinity.label, domains)
    inside: Mask = domains >= 0
    if not len(counts):
        return ~inside if affinity.anti else inside
    if affinity.anti:
        away: Mask = ~inside | (counts[domains] == 0)
        return away
    if not counts.any() and affinity.label in ask.terms.labels:
        return inside
    met: Mask = inside & (counts[domains] > 0)
    return met


def _counts(state: State, room: Room, ask: Ask, label: Label, domains: Column) -> Column:
    """(domains,): allocations with a label in each."""
    nodes = state.leases.table.columns["node"][_rows_with(state, label)]
    if label in ask.terms.labels and room.nodes:
        nodes = np.concatenate([nodes, np.array(room.nodes, np.int64)])
    found = domains[nodes[nodes >= 0]]
    counts: Column = np.bincount(found[found >= 0], minlength=int(domains.max(initial=-1)) + 1)
    return counts


def _rows_with(state: State, label: Label) -> Column:
    """Rows of the table of leases. O(live allocations) for the labels that every allocation has."""
    key, value = label
    if key not in IMPLIED_LABELS:
        return np.array(state.labelled.rows(label), np.int64)
    table = state.leases.table
    number = state.names.find(value)
    named = table.columns[key][: table.high] == number
    live: Column = np.flatnonzero(named & (table.columns["kind_count"][: table.high] > 0))
    return live
