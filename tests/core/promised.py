"""Promised starts, as naively as the rest of the second allocator: every end is tried, from scratch, one by one."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raftalloc.core import commands, events
from raftalloc.core.events import Promised, Queued
from tests.core.standing import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.core.reference import Wish, World


@contextmanager
def keeping(world: World, kept: Sequence[Promised]) -> Iterator[None]:
    """As long as this lasts, nothing may go where it would be in the way of these."""
    before, world.keep = world.keep, tuple(kept)
    try:
        yield
    finally:
        world.keep = before


def ahead_of(world: World, asks: Queued | commands.Allocate) -> list[Promised]:
    """Promises that a request must keep: of those before it in the queue, and all that are held."""
    mine, own = world.rank(standing(world, asks)), ident_of(asks)
    return [
        promised
        for ident, promised in world.promises.items()
        if ident != own and (promised.held or world.rank(world.waiting[ident]) < mine)
    ]


def ident_of(asks: Queued | commands.Allocate) -> int:
    return asks.request_id if isinstance(asks, Queued) else 1 << 60


def standing(world: World, asks: Queued | commands.Allocate) -> Waits:
    """Where a request stands that waits, or that has just come."""
    if isinstance(asks, Queued) and asks.request_id in world.waiting:
        return world.waiting[asks.request_id]
    new = events.Queued(
        1 << 60, asks.count, asks.gang, asks.agent_id, asks.agent_type, "", "", asks.priority, asks.demand,
        asks.gpu_models, asks.constraints, asks.duration_ms, 0, asks.policy, 0, 0,
    )  # fmt: skip
    return Waits(new, 0, world.now_ms)


def protections(world: World, asks: Queued | commands.Allocate) -> list[Promised]:
    """What those ahead of a request must be promised before it may pass."""
    depth = {commands.GREEDY: 0, commands.EASY: 1}.get(world.queue.backfill, world.queue.depth)
    made: list[Promised] = []
    mine, found = world.rank(standing(world, asks)), 0
    for first in sorted(world.firsts().values(), key=world.rank):
        queued = first.queued
        if world.rank(first) >= mine or found == depth:
            break
        if queued.request_id not in world.promises:
            if over_quota(world, queued):
                continue
            promised = earliest(world, queued, made)
            made += [promised] if promised else []
        found += 1
    return made


def over_quota(world: World, queued: Queued) -> bool:
    from tests.core.reference import Wish

    members = queued.count if queued.gang else 1
    end_ms = world.now_ms + queued.duration_ms if queued.duration_ms else 0
    return bool(world.over_quota(Wish.of(queued), members, end_ms))


def earliest(world: World, queued: Queued, besides: Sequence[Promised]) -> Promised | None:
    """The first known end at which it fits for as long as it runs, around windows and promises ahead of it."""
    from tests.core.reference import Wish

    wish, kept = Wish.of(queued), [*ahead_of(world, queued), *besides]
    ends = [live.ends_ms for live in world.live.values()]
    ends += [window.made.end_ms for window in world.windows.values()]
    ends += [promised.end_ms for promised in kept]
    for start_ms in sorted({t for t in ends if t > world.now_ms}):
        end_ms = start_ms + queued.duration_ms if queued.duration_ms else 0
        with keeping(world, kept):
            places = members_at(world, wish, queued, start_ms, end_ms)
        if places is not None:
            return Promised(
                queued.request_id,
                start_ms,
                end_ms,
                held=False,
                members=len(places),
                demand=queued.demand,
                nodes=tuple(node_id for node_id, _, _ in places),
                suppliers=tuple(s for _, suppliers, _ in places for s in suppliers),
                devices=tuple(d for _, _, devices in places for d in devices),
            )
    return None


def members_at(world: World, wish: Wish, queued: Queued, start_ms: int, end_ms: int) -> list | None:
    """Where the next member, or each of a gang, would go at a later time."""
    world = copy.copy(world)
    world.live = dict(world.live)
    starts = [w.made.start_ms for w in world.windows.values() if not w.open]
    starts += [promised.start_ms for promised in world.keep]
    within = [t for t in starts if t > start_ms and (not end_ms or t < end_ms)]
    places = []
    for member in range(queued.count if queued.gang else 1):
        place = world.place_at(wish, [start_ms, *within])
        if place is None:
            return None
        places.append(place)
        node_id, suppliers, devices = place
        grant = events.Granted(
            -1 - member, 0, "", "default", "", "", 1, wish.demand, node_id, suppliers, devices, 0, 0, 0, 0, 0, 0
        )  # fmt: skip
        world.take(grant)
    return places


def can_be_kept(world: World, promised: Promised) -> bool:
    """Whether its rows are ready, and have it free from its start on but for other promises."""
    start_ms = max(promised.start_ms, world.now_ms)
    starts = [w.made.start_ms for w in world.windows.values() if not w.open]
    end_ms = promised.end_ms
    moments = [start_ms, *(t for t in starts if t > start_ms and (not end_ms or t < end_ms))]
    world = copy.copy(world)
    world.victims_gone = promised.held
    with keeping(world, ()):
        for row_id, kind, amount in takes(promised):
            row = world.rows.get(row_id)
            if row is None or row.state != events.READY:
                return False
            if any(world.free(row_id, kind, t) < amount for t in moments):
                return False
        for (node_id, device), units in takes_devices(promised).items():
            for t in moments:
                free = world.devices_free(node_id, t)
                if device >= len(free) or free[device] < units:
                    return False
    return True


def takes(promised: Promised) -> list[tuple[str, str, int]]:
    """(row, kind, amount) over all members."""
    sums: dict[tuple[str, str], int] = {}
    places = zip(promised.suppliers, list(promised.demand) * promised.members, strict=True)
    for supplier, (kind, amount) in places:
        sums[supplier, kind] = sums.get((supplier, kind), 0) + amount
    return [(row, kind, amount) for (row, kind), amount in sums.items()]


def takes_devices(promised: Promised) -> dict[tuple[str, int], int]:
    """(node, device) -> units."""
    sums: dict[tuple[str, int], int] = {}
    each = len(promised.devices) // promised.members
    for place, (device, units) in enumerate(promised.devices):
        where = promised.nodes[place // each], int(device)
        sums[where] = sums.get(where, 0) + units
    return sums


def is_active(promised: Promised, at_ms: int) -> bool:
    return promised.start_ms <= at_ms and not 0 < promised.end_ms <= at_ms
