"""Which nodes could take a member now: the filters, in order, cheapest first.

A filter is a name and a mask over rows. `feasible` is where all hold; `explain` counts a node under the first that
it falls to.
"""

from __future__ import annotations

from collections.abc import Iterator

from raftalloc.core.commands import IN, Constraint
from raftalloc.core.fleet import Mask
from raftalloc.core.placement.ask import Ask
from raftalloc.core.placement.devices import fits_devices
from raftalloc.core.placement.room import Room
from raftalloc.core.placement.topology import standing, topology_filters
from raftalloc.core.state import State


def filters(state: State, room: Room, ask: Ask) -> Iterator[tuple[str, Mask]]:
    """(name, (rows,) which nodes pass), windows booked ahead not looked at; lazily, in order."""
    fleet = state.fleet
    yield "state", fleet.is_ready
    if ask.terms.pool:
        yield "pool", fleet.constraint_mask((Constraint("pool", IN, (ask.terms.pool,)),))
    yield "constraint", fleet.constraint_mask(ask.constraints)
    minded = fleet.taints_minded(ask.terms.tolerations)
    if minded.any():
        yield "taint", minded == 0
    for column, amount in ask.node_parts:
        yield f"capacity.{state.kinds.names[column]}", room.free[:, column] >= amount
    if ask.gpu:
        yield "device", fits_devices(room.device_free, fleet.model_mask(ask.models), ask.gpu)
    if ask.terms.follows_others:
        yield from topology_filters(state, room, ask, standing(state, ask))


def feasible(state: State, room: Room, ask: Ask) -> Mask:
    """(rows,): nodes that could take the node-bound part now, windows booked ahead not looked at."""
    mask = state.fleet.is_node.copy()
    for _, passes in filters(state, room, ask):
        mask &= passes
    return mask
