"""Whose turn it is: the order of the queue, by the policy that is set.

    fifo                      arrival
    priority                  class, then arrival
    fair_share                share of the agent type (`fairness`), then arrival
    priority_with_fairshare   class, then share, then arrival                              (the default)

CLASS is the request's priority, and one more for each `ageing_ms` that it has waited (an Aged event each time), up to
OVERDUE, one above CRITICAL. Under fair_share all begin as CRITICAL. Among what is OVERDUE only arrival counts: so at
most (5 - priority) x ageing_ms after it arrived nothing that came later stands before a request, whatever its share
and priority. Arrival is the request's id.

Only the first of each line ages, since it stands for the others of its shape; the next has its age at once when it
comes to the front.
"""

from __future__ import annotations

import numpy as np

from raftalloc.core import fairness
from raftalloc.core.commands import CRITICAL, FAIR_SHARE, FIFO
from raftalloc.core.events import Queued
from raftalloc.core.lines import Slots
from raftalloc.core.promises import Promise
from raftalloc.core.queues import OVERDUE, Waiting
from raftalloc.core.state import State

Key = tuple[int, int, int]
"""(-class, place of its agent type by share, id): lower is next."""


def next_of(state: State, slots: Slots) -> int:
    """Of these slots the one whose turn is next; -1: there is none. O(lines + agent types in the highest class)."""
    if not slots.any():
        return -1
    table, settings = state.queue.lines, state.queue.settings
    if settings.order == FIFO:
        return table.oldest_of(slots)
    base = CRITICAL if settings.order == FAIR_SHARE else table.priority
    classes = np.where(slots, np.minimum(base + table.level, OVERDUE), 0)
    highest = int(classes.max())
    slots = classes == highest
    if highest < OVERDUE and state.queue.by_share():
        slots = _least_share(state, slots)
    return table.oldest_of(slots)


def _least_share(state: State, slots: Slots) -> Slots:
    """Those of the slots whose agent type has the least share."""
    table = state.queue.lines
    numbers = np.flatnonzero(np.bincount(table.agent_type[slots])).tolist()
    if len(numbers) == 1:
        return slots
    by_name = {table.type_of(number): number for number in numbers}
    least = [by_name[name] for name in fairness.least_of(state, by_name)]
    kept: Slots = slots & np.isin(table.agent_type, np.array(least, np.int64))
    return kept


def keys(state: State) -> dict[int, Key]:
    """Where every waiting request stands now, by what is known now. O(waiting + agent types log agent types)."""
    ranks: dict[str, int] = {}
    if state.queue.by_share():
        types = (one.queued.agent_type for one in state.queue.requests.values())
        ranks = fairness.ranks_of(state, types)
    return {ident: _key(state, one, ranks) for ident, one in state.queue.requests.items()}


def _key(state: State, waiting: Waiting, ranks: dict[str, int]) -> Key:
    queue, queued = state.queue, waiting.queued
    risen = queue.base_class(queued.priority) + queue.level_at(waiting, state.now_ms)
    standing = min(risen, OVERDUE)
    rank = ranks.get(queued.agent_type, 0) if standing < OVERDUE else 0
    return (-standing, rank, queued.request_id)


def in_order(state: State) -> list[int]:
    """Ids of all waiting requests, next first. O(waiting log waiting)."""
    standing = keys(state)
    return sorted(standing, key=standing.__getitem__)


def position(state: State, request_id: int) -> int:
    """The place of a waiting request in the order as it is now; 1 is next. O(waiting)."""
    standing = keys(state)
    mine = standing[request_id]
    return 1 + sum(1 for key in standing.values() if key < mine)


def is_ahead(state: State, one: Waiting, queued: Queued) -> bool:
    """Whether a waiting request stands before another, or one that has just come."""
    mine, theirs = _standing_of(state, queued), _standing_of(state, one.queued)
    if mine != theirs:
        return theirs > mine
    if mine < OVERDUE and state.queue.by_share():
        share = fairness.share_of(state, queued.agent_type)
        other = fairness.share_of(state, one.queued.agent_type)
        if fairness.is_less(other, share) or fairness.is_less(share, other):
            return fairness.is_less(other, share)
    return one.queued.request_id < queued.request_id


def _standing_of(state: State, queued: Queued) -> int:
    """The class of a request now: who waits stands as high as the first of its line."""
    level = 0
    if queued.request_id in state.queue.requests:
        level = int(state.queue.lines.level[state.queue.lines.of(queued).slot])
    return min(state.queue.base_class(queued.priority) + level, OVERDUE)


def promises_ahead(state: State, queued: Queued) -> tuple[Promise, ...]:
    """The promises that a request must keep: those of who stands before it, and whatever is held."""
    return tuple(
        promise
        for ident, promise in state.promises.by_id.items()
        if ident != queued.request_id
        and (promise.made.held or is_ahead(state, state.queue.requests[ident], queued))
    )
