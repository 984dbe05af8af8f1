"""Why a request waits, or what would become of one that is not made: every blocker, not only the first.

A node is counted under the first filter it falls to, in the order in which placement filters: state,
constraint, capacity of each kind in the order of the demand, device, and windows booked ahead (`reserved`).
"""

from __future__ import annotations

import numpy as np

from raftalloc.core import ordering, promising, rejections
from raftalloc.core.commands import Allocate, Origin
from raftalloc.core.drawing import draw_blocker, draw_placement
from raftalloc.core.events import Queued
from raftalloc.core.fleet import Mask
from raftalloc.core.headroom import ask_of, booked_peak, ends_at, never, rejection_of, try_start
from raftalloc.core.placement import Ask, Room, filters, fit_in_time, standing
from raftalloc.core.promises import promise_of
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.records import FITS_NOW, MUST_WAIT, NEVER_FITS, Blocker, Explanation
from raftalloc.core.rejections import NUMBER_MAX
from raftalloc.core.requests import as_queued
from raftalloc.core.state import State

NO_PROVIDER = "NO_PROVIDER"
NO_DEVICE = "NO_DEVICE"
CONSTRAINTS = "CONSTRAINTS"
NODE_STATE = "NODE_STATE"
RESERVED = "RESERVED"
"""Codes of blockers, besides QUOTA_EXCEEDED, NO_CAPACITY and UNKNOWN_KIND of `rejections`."""


def explain(state: State, command: Allocate, *, principal: str = "local") -> Explanation:
    """What would become of this request now, if this principal made it. Changes nothing."""
    return explain_queued(state, as_queued(state, command, Origin(principal)))


def explain_waiting(state: State, request_id: int) -> Explanation | None:
    """Why this request waits; None where nothing of that id waits."""
    waiting = state.queue.requests.get(request_id)
    if waiting is None:
        return None
    position = ordering.position(state, request_id)
    return explain_queued(state, waiting.queued, position=position)


def explain_queued(state: State, queued: Queued, *, position: int = 0) -> Explanation:
    """The same of a request as it waits, or would."""
    ask = ask_of(state, queued)
    nodes = state.fleet.node_count
    if not isinstance(ask, Ask):
        blocker = Blocker(rejections.UNKNOWN_KIND, ask, ask, dict(queued.demand)[ask], 0)
        return Explanation(NEVER_FITS, (blocker,), nodes, (), 0, "", position)
    if queued.reservation_id:
        return _explain_draw(state, queued, ask)
    members = (queued.terms.gang_min or queued.count) if queued.gang else 1
    fallen, feasible = _filters(state, queued, ask)
    blockers = [*_quota_blockers(state, queued, ask, members), *_provider_blockers(state, ask)]
    if ask.node_parts and not feasible:
        blockers += _node_blockers(state, ask, fallen)
    result = try_start(state, queued, ask)
    if isinstance(result, list):
        besides = tuple(map(promise_of, promising.protections(state, queued)))
        result = try_start(state, queued, ask, besides) if besides else result
    if isinstance(result, list):
        row = result[0].node
        chosen = state.fleet.ids[row] if row >= 0 else ""
        return Explanation(FITS_NOW, (), nodes, fallen, feasible, chosen, position)
    impossible = never(state, queued, ask)
    if not blockers:
        # One member would fit, but not all of a gang, or not all parts of one member for the whole time.
        kind, amount = queued.demand[0]
        asked = min(amount * members, NUMBER_MAX)
        possible = min(amount * feasible, NUMBER_MAX)
        blockers.append(Blocker(rejection_of(state, ask, result).code, "", kind, asked, possible))
    verdict = MUST_WAIT if impossible is None else NEVER_FITS
    return Explanation(verdict, tuple(blockers), nodes, fallen, feasible, "", position)


def _explain_draw(state: State, queued: Queued, ask: Ask) -> Explanation:
    """A draw asks its window and nobody else. It does not wait: MUST_WAIT says that it could be asked again."""
    nodes = state.fleet.node_count
    blocked = draw_blocker(state, queued, ask)
    if blocked is None:
        row = draw_placement(state, queued, ask).node
        chosen = state.fleet.ids[row] if row >= 0 else ""
        return Explanation(FITS_NOW, (), nodes, (), 1 if chosen else 0, chosen, 0)
    kind = blocked.subject if blocked.subject in dict(queued.demand) else ""
    kind = blocked.field.partition(".")[2] or kind
    asked, left = blocked.number(f"asked.{kind}"), blocked.number(f"left.{kind}")
    blocker = Blocker(blocked.code, blocked.subject, kind, asked, left)
    never_again = blocked.code in (rejections.UNKNOWN_RESERVATION, rejections.WRONG_OWNER)
    verdict = NEVER_FITS if never_again else MUST_WAIT
    return Explanation(verdict, (blocker,), nodes, (), 0, "", 0)


def _quota_blockers(state: State, queued: Queued, ask: Ask, members: int) -> list[Blocker]:
    found, quotas = [], state.quotas
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            if quotas.limit[row, column] == NO_LIMIT:
                continue
            free = quotas.free(row, column) - booked_peak(
                state, row, column, state.now_ms, ends_at(state, queued)
            )
            if free < amount * members:
                name, kind = quotas.names[row], state.kinds.names[column]
                asked = min(amount * members, NUMBER_MAX)
                found.append(Blocker(rejections.QUOTA_EXCEEDED, name, kind, asked, max(0, free)))
    return found


def _provider_blockers(state: State, ask: Ask) -> list[Blocker]:
    found, fleet = [], state.fleet
    for column, amount in ask.provider_parts:
        free = [
            int(fleet.matrix.free[row, column]) for row in fleet.providers() if fleet.is_ready[row]
        ]
        if max(free, default=0) < amount:
            kind = state.kinds.names[column]
            found.append(Blocker(NO_PROVIDER, "", kind, amount, max(0, *free, 0)))
    return found


def _node_blockers(state: State, ask: Ask, fallen: tuple[tuple[str, int], ...]) -> list[Blocker]:
    """One blocker for each filter that nodes fell to."""
    found, fleet = [], state.fleet
    ready = np.flatnonzero(standing(state, ask))
    amounts = dict(ask.node_parts)
    for name, count in fallen:
        if not count:
            continue
        if name == "state":
            found.append(Blocker(NODE_STATE, "", "", 1, fleet.node_count - count))
        elif name == "constraint":
            keys = ",".join(constraint.key for constraint in ask.constraints)
            found.append(Blocker(CONSTRAINTS, keys, "", 1, fleet.node_count - count))
        elif name == "device":
            found.append(Blocker(NO_DEVICE, "|".join(ask.models), "gpu", ask.gpu, 0))
        elif name == "reserved":
            found.append(Blocker(RESERVED, "", "", 1, 0))
        elif not name.startswith("capacity."):
            code, subject = named(name, ask)
            found.append(Blocker(code, subject, "", 1, fleet.node_count - count))
        else:
            kind = name.partition(".")[2]
            column = state.kinds.column(kind)
            most = max(fleet.matrix.free[ready, column].tolist(), default=0)
            found.append(Blocker(rejections.NO_CAPACITY, "", kind, amounts[column], max(0, most)))
    return found


def named(name: str, ask: Ask) -> tuple[str, str]:
    """(code, subject) of a filter of the terms: `spread.zone` is SPREAD of `zone`, the pool is told by name."""
    sort, _, key = name.partition(".")
    return sort.upper(), ask.terms.pool if sort == "pool" else key


def _filters(state: State, queued: Queued, ask: Ask) -> tuple[tuple[tuple[str, int], ...], int]:
    """(filter, nodes that fell to it) in filter order, and how many are left."""
    if not ask.node_parts:
        return (), 0
    fleet, room = state.fleet, Room(state)
    left = fleet.is_node.copy()
    fallen: list[tuple[str, int]] = []
    for name, passes in filters(state, room, ask):
        fallen.append((name, int((left & ~passes).sum())))
        left &= passes
    reserved = _reserved(state, room, left, queued, ask)
    fallen.append(("reserved", reserved))
    return tuple(fallen), int(left.sum()) - reserved


def _reserved(state: State, room: Room, left: Mask, queued: Queued, ask: Ask) -> int:
    """Nodes that have room now but not until the request would end."""
    if not state.reservations.any_booked():
        return 0
    rows = [state.fleet.row(node_id) for node_id in state.reservations.booked_rows()]
    return sum(
        1
        for row in rows
        if left[row] and fit_in_time(state, room, row, ask, ends_at(state, queued)) is None
    )
