"""What stands in a request's way, with its numbers: quotas, what the fleet could ever hold, what is free now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from raftalloc.core import lines, ordering
from raftalloc.core.events import Queued
from raftalloc.core.placement import (
    Ask,
    Placement,
    Room,
    compile_ask,
    place,
    place_gang,
    possible_members,
)
from raftalloc.core.promises import Promise
from raftalloc.core.quotas import NO_LIMIT
from raftalloc.core.refusals import no_capacity, quota_rejection, unsatisfiable
from raftalloc.core.rejections import Rejection
from raftalloc.core.state import State
from raftalloc.core.terms import IMPLIED_LABELS, Terms


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why members may not start now. line: lines.ROOM, or lines.QUOTA and then the quota's row and the column.

    booked: what windows ahead will take of that quota. by_others: something else may have been in the way as well, of
    which a line takes no note: an alternative's blocker, or where others live.
    The numbers are put together only when someone is to be told (`rejection_of`): most blocked requests just wait on.
    """

    line: int
    members: int
    quota_row: int = -1
    column: int = -1
    booked: int = 0
    by_others: bool = False


def ends_at(state: State, queued: Queued) -> int:
    """When an allocation that starts now ends by itself; 0: never."""
    return state.now_ms + queued.duration_ms if queued.duration_ms else 0


def ask_of(state: State, queued: Queued) -> Ask | str:
    """The request's demand by columns, or the unknown kind."""
    return compile_ask(
        state,
        queued.demand,
        queued.gpu_models,
        queued.constraints,
        queued.policy,
        terms_of(queued),
    )


def terms_of(queued: Queued) -> Terms:
    """Its terms, the labels that every allocation has among its own where rules about others may speak of them."""
    if not queued.terms.follows_others:
        return queued.terms
    given = (queued.agent_id, queued.agent_type, queued.workflow_id)
    implied = tuple(zip(IMPLIED_LABELS, given, strict=True))
    return replace(queued.terms, labels=queued.terms.labels + implied)


def options_of(state: State, queued: Queued, ask: Ask) -> list[Ask]:
    """The request's demand, and its alternatives in order; of one whose kinds nothing offers, the demand again."""
    found = [ask]
    for each in queued.terms.alternatives:
        terms = terms_of(queued)
        option = compile_ask(
            state, each.demand, each.gpu_models, queued.constraints, queued.policy, terms
        )
        found.append(option if isinstance(option, Ask) else ask)
    return found


def rejection_of(state: State, ask: Ask, blocked: Blocked) -> Rejection:
    """The refusal, with its numbers as they are now."""
    if blocked.line == lines.QUOTA:
        asked = dict(ask.parts)[blocked.column] * blocked.members
        row, column = blocked.quota_row, blocked.column
        used = state.quotas.taken(row, column) + blocked.booked
        return quota_rejection(state, row, column, asked, used)
    return no_capacity(state, ask, blocked.members)


def try_start(
    state: State, queued: Queued, ask: Ask, besides: tuple[Promise, ...] = ()
) -> list[Placement] | Blocked:
    """Placements of the next member (of all members, for a gang), or what stands in the way.

    besides: promises to keep that are not in the state.
    """
    room = Room(state)
    room.ahead = ordering.promises_ahead(state, queued) + besides
    result = _try_option(state, room, queued, ask)
    if isinstance(result, Blocked) and not queued.terms.is_plain:
        for number, option in enumerate(options_of(state, queued, ask)[1:], 1):
            other = _try_option(state, room, queued, option)
            if not isinstance(other, Blocked):
                return [replace(placement, alternative=number) for placement in other]
        return replace(result, by_others=True)
    return result


def _try_option(state: State, room: Room, queued: Queued, ask: Ask) -> list[Placement] | Blocked:
    members = members_allowed(state, queued, ask)
    if isinstance(members, Blocked):
        return members
    placements = place_members(state, room, queued, ask, ends_at(state, queued), members)
    return Blocked(lines.ROOM, members) if placements is None else placements


def members_allowed(state: State, queued: Queued, ask: Ask) -> int | Blocked:
    """How many members quotas allow to start at once: one, all of a gang, or of an elastic one as many as they do."""
    members = queued.count if queued.gang else 1
    blocked = quota_blocker(state, queued, ask, members)
    least = queued.terms.gang_min if queued.gang else 0
    if blocked is None or not least:
        return members if blocked is None else blocked
    too_many = members
    blocked = quota_blocker(state, queued, ask, least)
    if blocked is not None:
        return blocked
    while too_many - least > 1:
        middle = (least + too_many) // 2
        if quota_blocker(state, queued, ask, middle) is None:
            least = middle
        else:
            too_many = middle
    return least


def place_members(
    state: State, room: Room, queued: Queued, ask: Ask, end_ms: int, members: int = 0
) -> list[Placement] | None:
    """Where the next member goes, or all members of a gang, that run from now to end_ms; None: there is no room.

    members: of a gang, at most so many; 0: all.
    """
    if not queued.gang:
        placement = place(state, room, ask, end_ms)
        return [placement] if placement else None
    members = members or queued.count
    return place_gang(state, room, ask, members, queued.terms.gang_min or members, end_ms)


def quota_blocker(state: State, queued: Queued, ask: Ask, members: int) -> Blocked | None:
    """The first quota, from the leaf up, that does not allow it."""
    quotas = state.quotas
    until_ms = ends_at(state, queued)
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            asked = amount * members
            if quotas.limit[row, column] == NO_LIMIT:
                continue
            booked = booked_peak(state, row, column, state.now_ms, until_ms)
            if quotas.free(row, column) - booked < asked:
                return Blocked(lines.QUOTA, members, row, column, booked)
    return None


def booked_peak(state: State, row: int, column: int, from_ms: int, until_ms: int) -> int:
    """The most that windows booked ahead charge to a quota at any moment of [from_ms, until_ms) (0: for ever).

    Allocations that end before a window opens are not credited: a quota may refuse what only just would fit.
    Windows that all meet each other and that span share a moment of it, so none need be cut to the span.
    """
    if not state.reservations.any_booked():
        return 0
    kind = state.kinds.names[column]
    edges: list[tuple[int, int]] = []
    for reservation in state.reservations.booked():
        made = reservation.made
        amount = dict(made.demand).get(kind, 0)
        if not amount or not reservation.overlaps(from_ms, until_ms):
            continue
        if state.quotas.is_below(state.quotas.row(made.agent_type), row):
            edges += [(made.start_ms, amount), (made.end_ms, -amount)]
    peak = level = 0
    for _, change in sorted(edges):  # at one moment what ends (negative) comes first
        level += change
        peak = max(peak, level)
    return peak


def never(state: State, queued: Queued, ask: Ask) -> Rejection | None:
    """Why the request could not start even with nothing else running; None: it could."""
    refusals = [_never(state, queued, option) for option in options_of(state, queued, ask)]
    return refusals[0] if all(refusals) else None


def _never(state: State, queued: Queued, ask: Ask) -> Rejection | None:
    members = (queued.terms.gang_min or queued.count) if queued.gang else 1
    quotas = state.quotas
    for row in quotas.chain(quotas.charged_row(queued.agent_type)):
        for column, amount in ask.parts:
            limit = int(quotas.limit[row, column])
            if limit != NO_LIMIT and limit < amount * members:
                taken = quotas.taken(row, column)
                return quota_rejection(state, row, column, amount * members, taken)
    if possible_members(state, ask) < members:
        return unsatisfiable(state, ask, members)
    return None
