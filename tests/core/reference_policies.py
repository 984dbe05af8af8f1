"""What each policy prefers, written as plainly as can be: dicts, loops and fractions, from docs/policies.md.

Judges the vectorised scorers of the core: both must rank any state alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from raftalloc.core import commands

if TYPE_CHECKING:
    from tests.core.reference import Wish, World

DEVICE = 1000
STRANDING_WEIGHT = 3


Moments = Sequence[int | None]


def costs(world: World, wish: Wish, node_ids: list[str], at: Moments = (None,)) -> dict[str, int]:
    """The cost of each node that could take it at all of these moments; the least is best, and of those the first."""
    seen = Seen(world, at)
    return _costs(seen, wish, node_ids)


class Seen:
    """A world in which the least of several moments is free."""

    def __init__(self, world: World, at: Moments) -> None:
        self.world, self.at = world, at
        self.rows, self.weights, self.workload = world.rows, world.weights, world.workload

    def free(self, node_id: str, kind: str) -> int:
        return min(self.world.free(node_id, kind, at_ms) for at_ms in self.at)

    def devices_free(self, node_id: str) -> list[int]:
        return least([self.world.devices_free(node_id, at_ms) for at_ms in self.at])

    def score(self, node_id: str) -> int:
        return self.world.score(node_id, self.at)

    def charged(self, kind: str) -> int:
        return self.world.charged("root", kind)

    def kinds_known(self) -> list[str]:
        return self.world.kinds_known()

    def is_cluster_wide(self, kind: str) -> bool:
        return self.world.is_cluster_wide(kind)


def least(each: list[list[int]]) -> list[int]:
    return [min(units) for units in zip(*each, strict=True)]


def _costs(world: Seen, wish: Wish, node_ids: list[str]) -> dict[str, int]:
    if not wish.terms.scorers:
        return {node_id: cost_of(world, wish, wish.policy, node_id) for node_id in node_ids}
    total = dict.fromkeys(node_ids, 0)
    for name, weight in wish.terms.scorers:
        policy = commands.POLICY_NUMBERS[name]
        each = {node_id: cost_of(world, wish, policy, node_id) for node_id in node_ids}
        for node_id, cost in stretched(each).items():
            total[node_id] += weight * cost
    return total


def stretched(each: dict[str, int]) -> dict[str, int]:
    """0 for the least, 2^20 for the greatest; of large costs only the upper 42 bits count."""
    least = min(each.values())
    most = max(each.values()) - least
    shift = max(0, most.bit_length() - 42)
    return {
        key: (((cost - least) >> shift) << 20) // (most >> shift) if most else 0
        for key, cost in each.items()
    }


def cost_of(world: Seen, wish: Wish, policy: int, node_id: str) -> int:
    match policy:
        case commands.BEST_FIT:
            return world.score(node_id)
        case commands.WORST_FIT:
            return -world.score(node_id)
        case commands.FIRST_FIT:
            return 0
        case commands.SPREAD:
            return max(shares(world, wish, node_id))
        case commands.BALANCED:
            return unbalance(shares(world, wish, node_id))
        case commands.FGD:
            return -score_of_gain(-more_fragments(world, wish, node_id))
        case _:
            return waste(world, wish, node_id)


def kinds_of(world: Seen, node_id: str) -> dict[str, int]:
    return {kind: amount for kind, amount in world.rows[node_id].capacity.items() if amount}


def shares(world: Seen, wish: Wish, node_id: str) -> list[int]:
    """The share of each kind of a node that would be in use, in 2^-20."""
    asked, found = dict(wish.on_node()), []
    for kind, capacity in kinds_of(world, node_id).items():
        used = capacity - world.free(node_id, kind) + asked.get(kind, 0)
        if capacity >= 1 << 42:
            used, capacity = used >> 9, capacity >> 9
        found.append((min(used, capacity) << 20) // capacity)
    return found


def unbalance(each: list[int]) -> int:
    """The mean distance from the mean, in 2^-30."""
    mean = Fraction(sum(each), len(each))
    return math.floor(sum(abs(share - mean) for share in each) * 1024 / len(each))


def fragments(world: Seen, free: dict[str, int], devices: list[int]) -> int:
    """Device units of no use to a typical demand, in the mean by frequency, in 2^-20."""
    devices = [max(0, units) for units in devices]
    shapes, found = world.workload, 0
    for shape in shapes:
        frequency = (shape.count << 20) // sum(other.count for other in shapes)
        rest = dict(shape.demand)
        gpu = rest.pop("gpu", 0)
        each, number = (gpu, 1) if gpu < DEVICE else (DEVICE, gpu // DEVICE)
        holds = gpu and sum(1 for units in devices if units >= each) >= number
        holds = holds and all(
            free.get(kind, 0) >= amount
            for kind, amount in rest.items()
            if not kind.startswith(("db_connections", "query_capacity", "api_quota"))
        )
        found += frequency * sum(units for units in devices if not holds or units < each)
    return found


def left_after(world: Seen, wish: Wish, node_id: str) -> dict[str, int]:
    free = {kind: world.free(node_id, kind) for kind in world.kinds_known()}
    for kind, amount in wish.on_node():
        free[kind] -= amount
    return free


def options(
    world: World, wish: Wish, node_id: str, at: Moments = (None,)
) -> list[tuple[int, int, int]]:
    """As below, of a world at some moments."""
    return _options(Seen(world, at), wish, node_id)


def _options(world: Seen, wish: Wish, node_id: str) -> list[tuple[int, int, int]]:
    """(fragments after, level of the device taken, device) for each device that a share could take."""
    models = world.rows[node_id].event.devices
    devices, after = world.devices_free(node_id), left_after(world, wish, node_id)
    gpu, found = dict(wish.demand)["gpu"], []
    for device, units in enumerate(devices):
        if units >= gpu and (not wish.models or models[device] in wish.models):
            then = [*devices[:device], units - gpu, *devices[device + 1 :]]
            found.append((fragments(world, after, then), units, device))
    return sorted(found)


def fragments_after(world: Seen, wish: Wish, node_id: str) -> tuple[int, int]:
    """The fragments, and what is free of the device that a share would take."""
    gpu, after = dict(wish.demand).get("gpu", 0), left_after(world, wish, node_id)
    if 0 < gpu < DEVICE:
        left, level, _ = _options(world, wish, node_id)[0]
        return left, level
    devices, models = world.devices_free(node_id), world.rows[node_id].event.devices
    whole = [
        d
        for d, units in enumerate(devices)
        if units == DEVICE and (not wish.models or models[d] in wish.models)
    ]
    for device in whole[: gpu // DEVICE]:
        devices[device] = 0
    return fragments(world, after, devices), 0


def more_fragments(world: Seen, wish: Wish, node_id: str) -> int:
    free = {kind: world.free(node_id, kind) for kind in world.kinds_known()}
    now = fragments(world, free, world.devices_free(node_id))
    return fragments_after(world, wish, node_id)[0] - now


def score_of_gain(gain: int) -> int:
    """100 x sigmoid, of thousandths of a device over 1000, cut to an integer; gains in 2^-20."""
    gain >>= 10
    return sum(
        1
        for score in range(1, 100)
        if gain >= (1 if score > 50 else -1) * step(max(score, 100 - score))
    )


def step(score: int) -> int:
    return math.ceil(1000 * math.log(score / (100 - score)) * 1024) if score != 50 else 0


def waste(world: Seen, wish: Wish, node_id: str) -> int:
    _, level = fragments_after(world, wish, node_id)
    weight = world.weights.get("gpu", 0) >> 8
    fragmented = (more_fragments(world, wish, node_id) >> 10) * weight >> 10
    free = {kind: world.free(node_id, kind) for kind in world.kinds_known()}
    after = left_after(world, wish, node_id)
    more = stranded(world, after) - stranded(world, free)
    nodes = sum(1 for row in world.rows.values() if not row.event.provider)
    grain = (1 << 40) // (128 * nodes)
    return ((fragmented + STRANDING_WEIGHT * more) // grain << 10) + level


def mix(world: Seen) -> dict[str, int]:
    """In what proportion kinds are taken, the most of them 2^20; before anything is, in which the fleet has them."""
    on_nodes = [kind for kind in world.kinds_known() if not world.is_cluster_wide(kind)]
    taken = {kind: world.weights.get(kind, 0) * world.charged(kind) for kind in on_nodes}
    if not any(taken.values()):
        taken = {
            kind: world.weights.get(kind, 0)
            * sum(row.capacity.get(kind, 0) for row in world.rows.values())
            for kind in on_nodes
        }
    most = max(taken.values(), default=0)
    return {kind: max(1, (amount << 20) // most) for kind, amount in taken.items() if amount}


def stranded(world: Seen, free: dict[str, int]) -> int:
    """Shares of the fleet (2^40) that are left of each kind once the node holds as much of the mix as it can."""
    wanted = mix(world)
    if not wanted:
        return 0
    left = {kind: min((max(0, free[kind]) * world.weights[kind]) >> 8, 1 << 41) for kind in wanted}
    fits = min((left[kind] << 20) // part for kind, part in wanted.items())
    return sum(left[kind] - (fits * part >> 20) for kind, part in wanted.items())


def best_provider(free: dict[str, int], policy: int) -> str:
    """The first for first_fit, the one with most free for worst_fit and spread, else with least; then the first."""
    if policy == commands.FIRST_FIT:
        return next(iter(free))
    if policy in (commands.WORST_FIT, commands.SPREAD):
        return max(free, key=free.__getitem__)
    return min(free, key=free.__getitem__)
