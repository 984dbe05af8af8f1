"""Whether a request may start now: quota first, then room; and the queue of those that may not.

A decision here is a generator of events: `machine` evolves each event before the generator goes on, so that the second
member of an array is decided against a state in which the first one already runs. The generator itself never writes.

Lines are tried in their order (`ordering`). A later request may start while an earlier one does not fit, where that
delays no start promised ahead of it (`promising`). Within a line first come is first served.
"""

from __future__ import annotations

from collections.abc import Generator

from raftalloc.core import lines, ordering, promising, rejections
from raftalloc.core.commands import COUNT_MAX
from raftalloc.core.events import (
    GANG_REDUCED,
    Event,
    Granted,
    Queued,
    QuotaSet,
    Withdrawn,
    WorkloadSet,
)
from raftalloc.core.headroom import Blocked, ask_of, ends_at, try_start
from raftalloc.core.lines import Slots
from raftalloc.core.placement import (
    Ask,
    Placement,
    fits_devices,
    typical_shapes,
)
from raftalloc.core.quotas import DEFAULT, QUOTAS_MAX
from raftalloc.core.rejections import Rejection
from raftalloc.core.state import State
from raftalloc.core.turns import Turns

ADMITTED_MAX = 1_000
"""Grants from the queue in one settle; what is left goes on at the next entry."""
FREED_ROWS_MAX = 64
"""With more rows freed at once, looking at every line is quicker than comparing each row with all of them."""


# -- granting --------------------------------------------------------------------------------------


def quota_limit(state: State, agent_type: str) -> Rejection | None:
    """LIMIT_REACHED where an agent type that is seen for the first time would be one quota node too many."""
    if state.quotas.row(agent_type) >= 0 or state.quotas.count() < QUOTAS_MAX:
        return None
    return Rejection(rejections.LIMIT_REACHED, "agent_type", "quotas", (("limit", QUOTAS_MAX),))


def ensure_quota(state: State, agent_type: str) -> Generator[Event, None, None]:
    """The implicit quota node of an agent type that is seen for the first time."""
    if state.quotas.row(agent_type) < 0:
        yield QuotaSet(agent_type, DEFAULT, (), implicit=True)


def ensure_workload(state: State) -> Generator[Event, None, None]:
    """What is typically asked for, counted again when it may have changed."""
    if state.workload.is_stale(state.live_count()):
        yield WorkloadSet(state.live_count(), typical_shapes(state))


def grant(
    state: State, queued: Queued, placement: Placement, member: int, waited_ms: int
) -> Granted:
    """The event that starts one member."""
    end_ms = ends_at(state, queued)
    if queued.reservation_id:
        window_end = state.reservations.by_id[queued.reservation_id].made.end_ms
        end_ms = min(end_ms, window_end) if end_ms else window_end
    expires_ms = state.now_ms + queued.lease_ttl_ms if queued.lease_ttl_ms else 0
    ids, demand = state.fleet.ids, queued.demand
    if placement.alternative:
        demand = queued.terms.alternatives[placement.alternative - 1].demand
    return Granted(
        allocation_id=queued.request_id + member,
        request_id=queued.request_id,
        agent_id=queued.agent_id,
        agent_type=queued.agent_type,
        workflow_id=queued.workflow_id,
        principal=queued.principal,
        priority=queued.priority,
        demand=demand,
        node_id=ids[placement.node] if placement.node >= 0 else "",
        suppliers=tuple(ids[placement.suppliers[state.kinds.column(kind)]] for kind, _ in demand),
        devices=tuple((str(device), amount) for device, amount in placement.devices),
        token=state.token + 1,
        expires_ms=min(expires_ms, end_ms) if expires_ms and end_ms else expires_ms,
        ends_ms=end_ms,
        lease_ttl_ms=queued.lease_ttl_ms,
        reservation_id=queued.reservation_id,
        waited_ms=waited_ms,
        protected=queued.protected,
        labels=queued.terms.labels,
        alternative=placement.alternative,
    )


def start_members(
    state: State, queued: Queued, ask: Ask, started: int, waited_ms: int, most: int = COUNT_MAX
) -> Generator[Event, None, tuple[int, Blocked | None]]:
    """Grant members until none is left, one is blocked, or `most` (or one gang) have started.

    Answers how many run by now, and what stopped it.
    """
    enough = started + most
    while started < min(queued.count, enough):
        result = try_start(state, queued, ask)
        if isinstance(result, Blocked):
            return started, result
        promised = promising.protections(state, queued)
        if promised:
            yield from promised
            continue
        yield from ensure_quota(state, queued.agent_type)
        for placement in result:
            yield grant(state, queued, placement, started, waited_ms)
            started += 1
        if ask.minds_fragments:
            # After a grant, never at a try: a state that was restored tries more, and must not tell more.
            yield from ensure_workload(state)
        if queued.gang:
            break
    return started, None


# -- the queue -------------------------------------------------------------------------------------


def admit(state: State) -> Generator[Event, None, tuple[dict[int, Blocked], bool]]:
    """Start what can start of what waits. Answers the blocked slots, and by what; and whether all were looked at.

    Bounded by ADMITTED_MAX grants. Only the one whose turn it is in each line is tried, and only of lines that
    what was freed could help.
    """
    blocked: dict[int, Blocked] = {}
    turns = Turns(state)
    table, admitted = state.queue.lines, 0
    candidates = worth_trying(state)
    while admitted < ADMITTED_MAX:
        slot = ordering.next_of(state, candidates)
        if slot < 0:
            break
        line = table.at(slot)
        waiting = state.queue.requests[turns.of(line)]
        queued, before = waiting.queued, waiting.started
        ask = ask_of(state, queued)
        assert isinstance(ask, Ask), "a waiting request asks for known kinds"
        if not _could_help(state, slot, ask):
            candidates[slot] = False
            continue
        waited_ms = state.now_ms - waiting.queued_ms
        promised = len(state.promises.by_id)
        # Where shares count, each member that starts may hand the turn to another agent type.
        most = 1 if state.queue.by_share() else queued.count
        started, stop = yield from start_members(state, queued, ask, before, waited_ms, most)
        if queued.gang and before < started < queued.count:
            left = queued.count - started
            yield Withdrawn(
                queued.request_id, GANG_REDUCED, left, queued.agent_id, queued.workflow_id
            )
        stop = turns.go_on(line, queued, ask, stop)
        if stop is not None:
            blocked[slot] = stop
            candidates[slot] = False
        if started > before:
            if _changes_ahead(state, queued, promised):
                blocked.clear()
                turns.end()
                turns = Turns(state)
            # What was granted took room that other lines were counting on.
            admitted += started - before
            candidates = worth_trying(state)
            # Where they live may let others start that look at it.
            others = [one for one, found in blocked.items() if not found.by_others]
            candidates[others] = False
    turns.end()
    return blocked, admitted < ADMITTED_MAX


def _changes_ahead(state: State, queued: Queued, promised: int) -> bool:
    """Whether a grant lets others past promises that blocked them: one was taken, or its holder fell behind."""
    requests = state.queue.requests
    return len(state.promises.by_id) < promised or any(
        requests[ident].queued.agent_type == queued.agent_type for ident in state.promises.by_id
    )


def worth_trying(state: State) -> Slots:
    """(slots,): lines for which what blocked them may have changed. May be wrong towards yes, never towards no."""
    table, freed = state.queue.lines, state.freed
    if freed.everything or len(freed.rows) > FREED_ROWS_MAX:
        return table.all_slots()
    slots = table.unknown()
    matrix = state.fleet.matrix
    for row in freed.rows:
        if state.fleet.is_node[row]:
            slots |= table.helped_by_node(matrix.free[row])
        else:
            slots |= table.helped_by_provider(matrix.capacity[row])
    if freed.quotas:
        slots |= table.helped_by_quotas(freed.quotas)
    return slots


def _could_help(state: State, slot: int, ask: Ask) -> bool:
    """A closer look at one line that was short of room: whether devices and constraints of a freed row suit it too."""
    if state.freed.everything or state.queue.lines.status[slot] != lines.ROOM:
        return True
    return any(_row_suits(state, row, ask) for row in state.freed.rows)


def _row_suits(state: State, row: int, ask: Ask) -> bool:
    fleet = state.fleet
    if not fleet.is_node[row]:
        return bool(ask.provider_parts)
    free = fleet.matrix.free[row]
    if not ask.node_parts or any(free[column] < amount for column, amount in ask.node_parts):
        return False
    if ask.constraints and not fleet.constraint_mask(ask.constraints)[row]:
        return False
    if not ask.gpu:
        return True
    models = fleet.model_mask(ask.models)[row : row + 1]
    return bool(fits_devices(fleet.device_free[row : row + 1], models, ask.gpu)[0])
