"""Refusals with the numbers that explain them: which kind, device, quota or moment is short, and by how much.

Made only when someone is to be told. The field of a refusal says what is short; `rejections` puts it into words.
"""

from __future__ import annotations

import numpy as np

from raftalloc.core import rejections
from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column, exact_sum
from raftalloc.core.placement import Ask, Room, feasible, possible_members, standing
from raftalloc.core.quantities import DEVICE_UNITS
from raftalloc.core.rejections import NUMBER_MAX, Rejection
from raftalloc.core.state import State


def quota_rejection(state: State, row: int, column: int, asked: int, used: int) -> Rejection:
    """QUOTA_EXCEEDED with its numbers. used: with what is held, and what is booked for the fullest moment."""
    quotas, kind = state.quotas, state.kinds.names[column]
    numbers = (
        (f"asked.{kind}", min(asked, NUMBER_MAX)),
        (f"limit.{kind}", int(quotas.limit[row, column])),
        (f"used.{kind}", used),
    )
    return Rejection(rejections.QUOTA_EXCEEDED, f"resources.{kind}", quotas.names[row], numbers)


def unsatisfiable(state: State, ask: Ask, members: int) -> Rejection:
    """UNSATISFIABLE. Its field says what no empty fleet could meet.

    resources.KIND: the largest row has less; constraints: rows that have more do not satisfy them; gpu_models: no node
    has such devices; count: one member would fit, the gang not; resources: no one node has all kinds.
    """
    fleet = state.fleet
    may = fleet.is_node & fleet.constraint_mask(ask.constraints_and_pool)
    matching = np.flatnonzero(may & (fleet.taints_minded(ask.terms.tolerations) == 0))
    if ask.node_parts and not len(matching):
        away = _kept_away(state, ask, may)
        if away is not None:
            return away
    providers = np.array(fleet.providers(), np.int64)
    for column, amount in ask.parts:
        on_node = (column, amount) in ask.node_parts
        rows = matching if on_node else providers
        largest = int(fleet.matrix.capacity[rows, column].max(initial=0))
        if largest >= amount:
            continue
        others = fleet.matrix.capacity[np.flatnonzero(fleet.is_node), column]
        if on_node and int(others.max(initial=0)) >= amount:
            return off_constraints(state, column, amount, largest=largest, matching=len(matching))
        kind = state.kinds.names[column]
        numbers = ((f"asked.{kind}", amount), (f"largest.{kind}", largest))
        return Rejection(rejections.UNSATISFIABLE, f"resources.{kind}", kind, numbers)
    possible = possible_members(state, ask)
    if possible:
        gang = (("members", members), ("members_possible", min(possible, NUMBER_MAX)))
        return Rejection(rejections.UNSATISFIABLE, "count", "", gang)
    if ask.gpu:
        empty = np.where(fleet.model_mask(()), DEVICE_UNITS, 0)
        most = most_on_devices(empty[matching], fleet.model_mask(ask.models)[matching], ask.gpu)
        if most < ask.gpu:
            numbers = (("asked.gpu", ask.gpu), ("largest.gpu", most))
            return Rejection(rejections.UNSATISFIABLE, "gpu_models", "gpu", numbers)
    return Rejection(
        rejections.UNSATISFIABLE, "resources", "", (("nodes_matching", len(matching)),)
    )


def _kept_away(state: State, ask: Ask, may: Mask) -> Rejection | None:
    """UNSATISFIABLE for the pool, which has no nodes, or for taints, which all nodes that would do have."""
    fleet, pool = state.fleet, ask.terms.pool
    numbers = (("nodes_matching", int(may.sum())),)
    if pool and not np.any(fleet.is_node & fleet.constraint_mask(ask.constraints_and_pool[-1:])):
        return Rejection(rejections.UNSATISFIABLE, "pool", pool, numbers)
    if may.any():
        return Rejection(rejections.UNSATISFIABLE, "tolerations", "", numbers)
    return None


def off_constraints(
    state: State, column: int, amount: int, *, largest: int, matching: int
) -> Rejection:
    """UNSATISFIABLE for the constraints: `matching` nodes satisfy them, the largest of which has less."""
    kind = state.kinds.names[column]
    numbers = (
        (f"asked.{kind}", amount),
        (f"largest.{kind}", largest),
        ("nodes_matching", matching),
    )
    return Rejection(rejections.UNSATISFIABLE, "constraints", kind, numbers)


def no_capacity(state: State, ask: Ask, members: int) -> Rejection:
    """NO_CAPACITY. Its field says what is short now.

    resources.KIND: no row has so much free; gpu_models: not on such devices; resources: each kind is free
    somewhere, but not all on one node; count: not for all members of the gang; duration_ms: windows booked
    ahead need the room before the request would end.
    """
    fleet = state.fleet
    ready = standing(state, ask)
    nodes = np.flatnonzero(ready)
    providers = np.array([r for r in fleet.providers() if fleet.is_ready[r]], np.int64)
    counts = (("members", members), ("nodes_ready", len(nodes)))
    for column, amount in ask.parts:
        rows = nodes if (column, amount) in ask.node_parts else providers
        free = fleet.matrix.free[rows, column]
        if int(free.max(initial=0)) >= amount:
            continue
        kind = state.kinds.names[column]
        numbers = (
            (f"asked.{kind}", amount),
            (f"free_most.{kind}", int(free.max(initial=0))),
            (f"free.{kind}", exact_sum(np.maximum(free, 0))),
        )
        return Rejection(rejections.NO_CAPACITY, f"resources.{kind}", kind, numbers + counts)
    if ask.gpu:
        models = fleet.model_mask(ask.models)[nodes]
        most = most_on_devices(fleet.device_free[nodes], models, ask.gpu)
        if most < ask.gpu:
            devices = (("asked.gpu", ask.gpu), ("free_most.gpu", most))
            return Rejection(rejections.NO_CAPACITY, "gpu_models", "gpu", devices + counts)
    able = int(feasible(state, Room(state), ask).sum()) if ask.node_parts else len(providers)
    field = "count" if members > 1 else "duration_ms"
    field = field if able else "resources"
    return Rejection(rejections.NO_CAPACITY, field, "", (*counts, ("nodes_able", able)))


def most_on_devices(free: Column, models: Mask, gpu: int) -> int:
    """The most that any one node could give of a GPU demand: of one device for a share, else in whole devices.

    free: (rows, devices) units; models: (rows, devices), which are suitable.
    """
    if gpu < DEVICE_UNITS:
        return int(np.where(models, free, 0).max(initial=0))
    whole = np.sum((free == DEVICE_UNITS) & models, axis=1)
    return int(whole.max(initial=0)) * DEVICE_UNITS
