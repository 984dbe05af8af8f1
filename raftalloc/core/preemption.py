"""Preemption: what runs makes room for a waiting request of strictly higher priority.

A request that may wait, and that only room keeps from starting, looks for VICTIMS when it comes to the front of its
line, and every SEEK_EVERY_MS from then on. Victims are told (a Preempting event) and have `grace_ms` to give back by
themselves; the request is promised their room, held: nobody else may take it. If the request goes away, or can no
longer be given the place, its victims are spared.

Who may be a victim: what runs at a lower priority, for at least `min_run_ms`, is not protected, is no draw from a
reservation and no victim yet, and whose agent type has not had `per_hour` victims in this hour.

Which: on each node the least set, and of all nodes the one whose set is best by, in this order (the Kubernetes rules of
pickOneNodeForPreemption, without disruption budgets):
    1. the lowest highest priority      2. the fewest      3. the lowest sum of priorities
    4. the latest start among those of highest priority     5. the node registered first
On a node with at most EXACT_MAX candidates all sets are compared, by the same rules. With more, victims are added
lowest priority first, youngest first, until the request fits, and then given back, highest priority and oldest first,
where it still fits without: then none is superfluous, though another set might be smaller.

A gang of up to GANG_MAX members is placed member by member: where there is room without victims first, then wherever
the next member costs least. Bounds: ROWS_MAX nodes (those registered first) are looked at for a member. Nodes with
windows booked or starts promised on them are left alone. Of providers what is asked must be free: nobody is preempted
for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raftalloc.core.events import HOUR_MS, Event, Preempting, Queued, Sought
from raftalloc.core.headroom import Blocked, ask_of, quota_blocker, try_start
from raftalloc.core.matrix import Column, score_of
from raftalloc.core.placement import Ask, Placement, Room, choose_devices, place, standing
from raftalloc.core.promises import PROMISES_MAX
from raftalloc.core.promising import promise_event
from raftalloc.core.queues import Waiting
from raftalloc.core.state import State

SEEK_EVERY_MS = 15_000
"""How often the first of a line looks for victims again."""
EXACT_MAX = 10
"""Candidates of one node up to which every set of them is compared: at most 1,023."""
ROWS_MAX = 256
GANG_MAX = 64

Cost = tuple[int, int, int, int, int]
"""The rules as numbers: lower is better."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What one node could give: its candidates, and the cost, victims and devices of the best set."""

    row: int
    cost: Cost
    victims: tuple[int, ...]
    devices: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Plan:
    """Where the members go, and which rows of `leases` end for it."""

    placements: list[Placement]
    victims: list[int]


def seek(state: State, waiting: Waiting) -> Iterator[Event]:
    """A waiting request looks for victims; the outcome, and when it looks again."""
    queued, settings = waiting.queued, state.queue.settings
    deadline_ms = state.now_ms + settings.grace_ms
    plan = None
    if deadline_ms < queued.deadline_ms and len(state.promises.by_id) < PROMISES_MAX:
        plan = find(state, queued)
    if plan is None:
        yield Sought(queued.request_id, state.now_ms + SEEK_EVERY_MS)
        return
    for row in sorted(plan.victims, key=lambda each: state.leases.get(each, "id")):
        yield _preempting(state, row, queued.request_id, deadline_ms)
    end_ms = deadline_ms + queued.duration_ms if queued.duration_ms else 0
    yield promise_event(state, queued, plan.placements, deadline_ms, end_ms, held=True)
    yield Sought(queued.request_id, deadline_ms + SEEK_EVERY_MS)


def _preempting(state: State, row: int, preemptor: int, deadline_ms: int) -> Preempting:
    leases, node = state.leases, state.leases.get(row, "node")
    return Preempting(
        leases.get(row, "id"),
        preemptor,
        deadline_ms,
        state.names.text(leases.get(row, "agent")),
        state.names.text(leases.get(row, "workflow")),
        state.fleet.ids[node] if node >= 0 else "",
    )


def find(state: State, queued: Queued) -> Plan | None:
    """The victims that make room for a request, or None: it fits now, a quota blocks it, or nothing suffices."""
    ask = ask_of(state, queued)
    assert isinstance(ask, Ask), "a waiting request asks for known kinds"
    members = queued.count if queued.gang else 1
    if members > GANG_MAX or not ask.node_parts or queued.terms.follows_others:
        return None
    if quota_blocker(state, queued, ask, members) is not None:
        return None
    if not isinstance(try_start(state, queued, ask), Blocked):
        return None
    candidates = _candidates(state, queued)
    return _plan(state, ask, members, candidates) if len(candidates) else None


def _candidates(state: State, queued: Queued) -> Column:
    """Rows of `leases` that may become victims of this request, but for the budget of their agent type."""
    table, settings = state.leases.table, state.queue.settings
    columns = {name: column[: table.high] for name, column in table.columns.items()}
    may = (columns["id"] > 0) & (columns["priority"] < queued.priority)
    may &= (columns["protected"] == 0) & (columns["reservation_id"] == 0)
    may &= (columns["preemptor"] == 0) & (columns["node"] >= 0)
    may &= columns["granted_ms"] + settings.min_run_ms <= state.now_ms
    rows: Column = np.flatnonzero(may)
    return rows


def _plan(state: State, ask: Ask, members: int, candidates: Column) -> Plan | None:
    """Member by member: without victims where there is room, else where they cost least."""
    room = Room(state).copy()
    room.ahead = tuple(state.promises.by_id.values())
    plan, left = Plan([], []), _by_node(state, candidates)
    budget = _budget(state)
    for _ in range(members):
        placement = place(state, room, ask, 0)
        if placement is None:
            placement = _with_victims(state, room, ask, left, plan, budget)
        if placement is None:
            return None
        room.take(ask, placement)
        plan.placements.append(placement)
    return plan if plan.victims else None


def _by_node(state: State, candidates: Column) -> dict[int, list[int]]:
    """Candidates by node, on nodes without windows and promises; lowest priority first, then youngest."""
    leases, columns = state.leases, state.leases.table.columns
    keys = (-columns["id"][candidates], -columns["granted_ms"][candidates])
    order = np.lexsort((*keys, columns["priority"][candidates]))
    by_node: dict[int, list[int]] = {}
    for row in candidates[order].tolist():
        by_node.setdefault(leases.get(row, "node"), []).append(row)
    taken = {
        node_id: None for promise in state.promises.by_id.values() for node_id in promise.takes
    }
    booked = dict.fromkeys(state.reservations.booked_rows())
    free_of_both = {}
    for node in sorted(by_node, key=state.fleet.serials.__getitem__):
        node_id = state.fleet.ids[node]
        if state.fleet.is_ready[node] and node_id not in taken and node_id not in booked:
            free_of_both[node] = by_node[node]
    return free_of_both


def _budget(state: State) -> dict[str, int]:
    """Victims of each agent type in this hour."""
    hour = state.now_ms // HOUR_MS
    return {name: count for name, (of, count) in state.preemptions.items() if of == hour}


def _with_victims(
    state: State,
    room: Room,
    ask: Ask,
    left: dict[int, list[int]],
    plan: Plan,
    budget: dict[str, int],
) -> Placement | None:
    """The next member on the node where it costs least; takes its victims out of the room and of `left`."""
    suppliers = _free_providers(state, room, ask)
    if suppliers is None:
        return None
    constrained = standing(state, ask)
    best: _Node | None = None
    for node in [n for n in left if constrained[n]][:ROWS_MAX]:
        found = _least_set(state, room, ask, node, _affordable(state, left[node], budget))
        if found is not None and (best is None or found.cost < best.cost):
            best = found
    if best is None:
        return None
    for row in best.victims:
        left[best.row].remove(row)
        _give_back(state, room, row)
        agent_type = state.names.text(state.leases.get(row, "agent_type"))
        budget[agent_type] = budget.get(agent_type, 0) + 1
    plan.victims += best.victims
    suppliers.update((column, best.row) for column, _ in ask.node_parts)
    return Placement(best.row, suppliers, best.devices)


def _free_providers(state: State, room: Room, ask: Ask) -> dict[int, int] | None:
    """Providers of the cluster-wide kinds, which must be free."""
    if not ask.provider_parts:
        return {}
    kinds = tuple((state.kinds.names[column], amount) for column, amount in ask.provider_parts)
    alone = Ask(kinds, (), ask.provider_parts, 0, (), (), ask.policy)
    placement = place(state, room, alone, 0)
    return placement.suppliers if placement else None


def _affordable(state: State, rows: list[int], budget: dict[str, int]) -> list[int]:
    """Those of the candidates that the budgets of their agent types still allow, in their order."""
    most = state.queue.settings.per_hour
    if not most:
        return rows
    spent = dict(budget)
    affordable = []
    for row in rows:
        agent_type = state.names.text(state.leases.get(row, "agent_type"))
        if spent.get(agent_type, 0) < most:
            spent[agent_type] = spent.get(agent_type, 0) + 1
            affordable.append(row)
    return affordable


def _least_set(state: State, room: Room, ask: Ask, node: int, rows: list[int]) -> _Node | None:
    """The best set of victims on one node, or None where all of them do not suffice."""
    if not rows or _fit(state, room, ask, node, rows) is None:
        return None
    victims = _exact(state, room, ask, node, rows) if len(rows) <= EXACT_MAX else None
    if victims is None:
        victims = _greedy(state, room, ask, node, rows)
    devices = _fit(state, room, ask, node, victims)
    assert devices is not None, "the set was found to suffice"
    return _Node(node, _cost(state, victims, node), tuple(victims), devices)


def _exact(state: State, room: Room, ask: Ask, node: int, rows: list[int]) -> list[int]:
    """The best of all sets: within a limit on the highest priority the fewest, then by the rest of the rules."""
    priority = state.leases.table.columns["priority"]
    for highest in sorted({int(priority[row]): None for row in rows}):
        allowed = [row for row in rows if priority[row] <= highest]
        if _fit(state, room, ask, node, allowed) is None:
            continue
        for size in range(1, len(allowed) + 1):
            fitting = [
                list(chosen)
                for chosen in combinations(allowed, size)
                if _fit(state, room, ask, node, list(chosen)) is not None
            ]
            if fitting:
                return min(fitting, key=lambda chosen: _cost(state, chosen, node))
    raise AssertionError("all of them suffice")


def _greedy(state: State, room: Room, ask: Ask, node: int, rows: list[int]) -> list[int]:
    """Add lowest priority and youngest first until it fits; give back what is not needed, the other way round."""
    victims: list[int] = []
    for row in rows:
        victims.append(row)
        if _fit(state, room, ask, node, victims) is not None:
            break
    for row in reversed(victims[:-1]):
        without = [each for each in victims if each != row]
        if _fit(state, room, ask, node, without) is not None:
            victims = without
    return victims


def _fit(
    state: State, room: Room, ask: Ask, node: int, victims: list[int]
) -> tuple[tuple[int, int], ...] | None:
    """The devices that one member takes on a node once these have ended, or None: it does not fit."""
    free, device_free = room.free[node].copy(), room.device_free[node].copy()
    for row in victims:
        _add(state, row, node, free, device_free)
    if any(free[column] < amount for column, amount in ask.node_parts):
        return None
    if not ask.gpu:
        return ()
    return choose_devices(device_free, state.fleet.model_mask(ask.models)[node], ask.gpu)


def _add(state: State, row: int, node: int, free: Column, device_free: Column) -> None:
    for kind, amount, supplier in state.leases.parts(row):
        if supplier == node:
            free[kind] += amount
    for device in state.leases.devices(row):
        device_free[device] += state.leases.get(row, "device_amount")


def _give_back(state: State, room: Room, row: int) -> None:
    """Count a victim's resources as free in a plan's room."""
    node = state.leases.get(row, "node")
    _add(state, row, node, room.free[node], room.device_free[node])
    room.score[node] = score_of(room.free[node], room.weights)


def _cost(state: State, victims: list[int], node: int) -> Cost:
    columns = state.leases.table.columns
    priorities = columns["priority"][victims].tolist()
    highest = max(priorities)
    started = [
        state.leases.get(row, "granted_ms")
        for row, priority in zip(victims, priorities, strict=True)
        if priority == highest
    ]
    return (highest, len(victims), sum(priorities), -min(started), state.fleet.serials[node])
