"""Decisions of operators: nodes and providers come, change and go; quotas and queue are set; sessions are opened.

Decisions are generators of events, as in `requests`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import fields, replace

from raftalloc.core import rejections
from raftalloc.core.booking import rebind
from raftalloc.core.commands import (
    LEAVE,
    WEIGHT_ONE,
    Cordon,
    DeleteQuota,
    Drain,
    MarkLost,
    MarkReturned,
    Origin,
    RegisterNode,
    RemoveNode,
    SetQueue,
    SetQuota,
    SwitchRules,
    Uncordon,
)
from raftalloc.core.events import (
    CORDONED,
    DRAINING,
    LOST,
    NODE_REMOVED,
    READY,
    Event,
    KindDefined,
    NodeRegistered,
    NodeRemoved,
    NodeStateChanged,
    QuotaDeleted,
    QuotaSet,
    RulesSwitched,
    SessionOpened,
)
from raftalloc.core.quantities import FLEET_AMOUNT_MAX, KINDS_MAX, NODE, PROVIDER, scope_of
from raftalloc.core.quotas import DEFAULT, QUOTA_DEPTH_MAX, QUOTAS_MAX, ROOT
from raftalloc.core.records import DONE, Outcome
from raftalloc.core.rejections import Rejection
from raftalloc.core.requests import Decision, ended
from raftalloc.core.sessions import SESSIONS_MAX
from raftalloc.core.state import RULES_VERSION, NewerRules, State

ROWS_MAX = 1 << 20
"""Nodes and providers."""


def _define(
    state: State, kinds: Iterable[str], field: str
) -> Generator[Event, None, Rejection | None]:
    """Give columns to kinds that have none yet."""
    new = [kind for kind in kinds if state.kinds.column(kind) < 0]
    if len(state.kinds) + len(new) > KINDS_MAX:
        return Rejection(rejections.LIMIT_REACHED, field, "kinds", (("limit", KINDS_MAX),))
    for kind in new:
        yield KindDefined(kind)
    return None


# -- the fleet -------------------------------------------------------------------------------------


def register_node(state: State, command: RegisterNode) -> Decision:
    """Add a row, or bring it up to date; the same registration twice is no event."""
    wanted = PROVIDER if command.provider else NODE
    for kind, _ in command.capacity:
        if scope_of(kind) != wanted:
            return Rejection(rejections.WRONG_SCOPE, f"capacity.{kind}", kind)
    row = state.fleet.row(command.node_id)
    known = state.fleet.registered[row] if row >= 0 else None
    if known is not None and known.provider != command.provider:
        return Rejection(rejections.WRONG_SCOPE, "provider", command.node_id)
    if known is None and state.fleet.node_count + state.fleet.provider_count >= ROWS_MAX:
        return Rejection(rejections.LIMIT_REACHED, "node_id", "nodes", (("limit", ROWS_MAX),))
    refused = _too_much(state, command, row)
    if refused is not None:
        return refused
    refused = yield from _define(state, (kind for kind, _ in command.capacity), "capacity")
    if refused is not None:
        return refused
    event = NodeRegistered(
        command.node_id,
        command.provider,
        command.capacity,
        command.devices,
        command.attributes,
        command.static,
        command.taints,
        command.soft_taints,
    )
    if event != known:
        yield event
    if row >= 0 and state.fleet.states[row] == LOST:
        yield NodeStateChanged(command.node_id, READY)
    return Outcome(DONE)


def _too_much(state: State, command: RegisterNode, row: int) -> Rejection | None:
    """Sums over the fleet have to stay within FLEET_AMOUNT_MAX.

    Use may stand above a capacity that was lowered, so it is counted besides. The sum over rows of the greater of
    capacity and use is then bounded whenever a capacity rises, and no grant makes it greater.
    """
    fleet, quotas = state.fleet, state.quotas
    root = quotas.row(ROOT)
    for kind, amount in command.capacity:
        column = state.kinds.column(kind)
        before = int(fleet.matrix.capacity[row, column]) if row >= 0 and column >= 0 else 0
        if column < 0 or amount <= before:
            continue
        taken = int(quotas.used[root, column] + quotas.held[root, column])
        if fleet.totals[column] - before + amount + taken > FLEET_AMOUNT_MAX:
            limit = ((f"limit.{kind}", FLEET_AMOUNT_MAX),)
            return Rejection(rejections.LIMIT_REACHED, f"capacity.{kind}", kind, limit)
    return None


def change_node(
    state: State, command: Cordon | Uncordon | Drain | MarkLost | MarkReturned
) -> Decision:
    """Cordon, uncordon, drain, lose and find again; what is so already is no event."""
    row = state.fleet.row(command.node_id)
    if row < 0:
        return Rejection(rejections.UNKNOWN_NODE, "node_id", command.node_id)
    now, deadline_ms = state.fleet.states[row], 0
    match command:
        case Cordon():
            then = CORDONED
        case Uncordon():
            then = READY
        case Drain():
            then, deadline_ms = DRAINING, command.deadline_ms
        case MarkLost():
            then = LOST
        case MarkReturned():
            then = READY
            if now != LOST:
                return Outcome(DONE)
    if now == LOST and not isinstance(command, MarkLost | MarkReturned):
        return Rejection(rejections.NODE_STATE, "node_id", command.node_id)
    if isinstance(command, MarkLost) and now != READY:
        # A cordoned or draining node that falls silent keeps its state: it gets nothing new anyway.
        return Outcome(DONE)
    if (then, deadline_ms) != (now, state.fleet.deadlines_ms[row]):
        yield NodeStateChanged(command.node_id, then, deadline_ms)
    return Outcome(DONE)


def remove_node(state: State, command: RemoveNode) -> Decision:
    """Forget a row; by force also what is on it."""
    row = state.fleet.row(command.node_id)
    if row < 0:
        return Rejection(rejections.UNKNOWN_NODE, "node_id", command.node_id)
    ids = state.leases.on(row)
    windows = state.reservations.on(command.node_id)
    if (ids or windows) and not command.force:
        numbers = (("allocations", len(ids)), ("reservations", len(windows)))
        return Rejection(rejections.NODE_IN_USE, "node_id", command.node_id, numbers)
    # A removed row offers nothing, so windows find another or break.
    yield NodeStateChanged(command.node_id, DRAINING)
    for allocation_id in ids:
        yield ended(state, state.leases.row(allocation_id), NODE_REMOVED)
    for reservation in windows:
        yield from rebind(state, reservation)
    yield NodeRemoved(command.node_id)
    return Outcome(DONE, count=len(ids))


# -- quotas ----------------------------------------------------------------------------------------


def set_quota(state: State, command: SetQuota) -> Decision:
    """Replace limits and parent of a quota node."""
    quotas = state.quotas
    row = quotas.row(command.name)
    parent_name = "" if command.name == ROOT else command.parent or ROOT
    parent = quotas.row(parent_name) if parent_name else -1
    if command.name == ROOT and command.parent:
        return Rejection(rejections.QUOTA_CYCLE, "parent", ROOT)
    if parent_name and parent < 0:
        return Rejection(rejections.UNKNOWN_QUOTA, "parent", command.parent)
    if row >= 0 and parent >= 0 and quotas.is_below(parent, row):
        return Rejection(rejections.QUOTA_CYCLE, "parent", command.name)
    if row < 0 and quotas.count() >= QUOTAS_MAX:
        return Rejection(rejections.LIMIT_REACHED, "agent_type", "quotas", (("limit", QUOTAS_MAX),))
    depth = 1 + sum(1 for _ in quotas.chain(parent)) + _height(state, row)
    if depth > QUOTA_DEPTH_MAX:
        limit = (("limit", QUOTA_DEPTH_MAX),)
        return Rejection(rejections.LIMIT_REACHED, "parent", "levels of quotas", limit)
    refused = yield from _define(state, (kind for kind, _ in command.limits), "limits")
    if refused is not None:
        return refused
    weight = command.weight or (quotas.weights[row] if row >= 0 else WEIGHT_ONE)
    yield QuotaSet(command.name, parent_name, command.limits, weight=weight)
    return Outcome(DONE)


def _height(state: State, row: int) -> int:
    """Levels below a quota node."""
    quotas = state.quotas
    if row < 0 or not quotas.children[row]:
        return 0
    below = [other for other in quotas.rows_in_order() if quotas.is_below(other, row)]
    above = sum(1 for _ in quotas.chain(row))
    return max(sum(1 for _ in quotas.chain(other)) for other in below) - above


def delete_quota(state: State, command: DeleteQuota) -> Decision:
    """Forget a quota node that nothing is charged to and nothing stands under."""
    quotas = state.quotas
    row = quotas.row(command.name)
    if row < 0:
        return Rejection(rejections.UNKNOWN_QUOTA, "agent_type", command.name)
    windows = sum(1 for r in state.reservations.by_id.values() if r.made.agent_type == command.name)
    charged = quotas.allocations[row] + windows
    children = quotas.children[row] + (1 if command.name in (ROOT, DEFAULT) else 0)
    if charged or children:
        numbers = (("allocations", charged), ("children", children))
        return Rejection(rejections.QUOTA_IN_USE, "agent_type", command.name, numbers)
    yield QuotaDeleted(command.name)
    return Outcome(DONE)


# -- the queue -------------------------------------------------------------------------------------


def set_queue(state: State, command: SetQueue) -> Decision:
    """Serve the queue otherwise; what is so already is no event."""
    queue = state.queue
    if command.initial and queue.was_set:
        return Outcome(DONE)
    chosen = {
        field.name: getattr(command, field.name)
        for field in fields(command)
        if field.name != "initial" and getattr(command, field.name) != LEAVE
    }
    settings = replace(queue.settings, **chosen)
    if settings != queue.settings or not (command.initial or queue.was_set):
        yield settings
    return Outcome(DONE)


# -- sessions and rules ----------------------------------------------------------------------------


def open_session(state: State, origin: Origin) -> Decision:
    """A new idempotency session."""
    if len(state.sessions.sessions) >= SESSIONS_MAX:
        limit = (("limit", SESSIONS_MAX),)
        return Rejection(rejections.LIMIT_REACHED, "session", "sessions", limit)
    session = state.next_id
    yield SessionOpened(session, origin.principal)
    return Outcome(DONE, session)


def switch_rules(state: State, command: SwitchRules) -> Decision:
    """Decide by other rules from here on. What is refused must not depend on what this build knows."""
    if command.version < state.rules_version:
        numbers = (("now", state.rules_version),)
        return Rejection(rejections.RULES_UNKNOWN, "version", str(command.version), numbers)
    if command.version > RULES_VERSION:
        raise NewerRules(command.version)
    if command.version != state.rules_version:
        yield RulesSwitched(command.version)
    return Outcome(DONE)
