"""What events change about promised starts and victims: the part of `evolve` that speaks of who stands before whom."""

from __future__ import annotations

from typing import assert_never

from raftalloc.core import deadlines
from raftalloc.core.events import (
    HOUR_MS,
    Preempting,
    Promised,
    PromiseDropped,
    Sought,
    Spared,
)
from raftalloc.core.state import State


def order_changed(state: State, only: str = "") -> None:
    """Who was behind a promise may now stand before its holder.

    only: just behind holders of this agent type, whose share rose.
    """
    for ident in state.promises.by_id:
        if not only or state.queue.requests[ident].queued.agent_type == only:
            state.free_promise(ident)


def ahead(state: State, event: Promised | PromiseDropped | Sought | Preempting | Spared) -> None:
    """Change the state by one event of these."""
    match event:
        case Promised():
            state.promises.make(event)
        case PromiseDropped():
            promise_dropped(state, event.request_id)
        case Sought():
            state.queue.requests[event.request_id].seek_ms = event.next_ms
            state.watch_first(event.request_id)
        case Preempting():
            row = state.leases.row(event.allocation_id)
            _count_preemption(state, row)
            _victim(state, row, event.preemptor, event.deadline_ms)
        case Spared():
            _victim(state, state.leases.row(event.allocation_id), 0, 0)
        case _:
            assert_never(event)


def promise_dropped(state: State, request_id: int) -> None:
    """Nothing is promised to a request any more, if anything was."""
    state.free_promise(request_id)
    state.promises.drop(request_id)


def _victim(state: State, row: int, preemptor: int, deadline_ms: int) -> None:
    leases = state.leases
    leases.set_victim(row, preemptor, deadline_ms)
    state.hopeless.clear()
    for _, _, supplier in leases.parts(row):
        state.forget_profile(supplier)
    state.deadlines.push(leases.deadline_ms(row), deadlines.ALLOCATION, leases.get(row, "id"))


def _count_preemption(state: State, row: int) -> None:
    """Of each agent type, how many became victims in this hour of the group's clock."""
    agent_type = state.names.text(state.leases.get(row, "agent_type"))
    hour = state.now_ms // HOUR_MS
    before = {name: pair for name, pair in state.preemptions.items() if pair[0] == hour}
    count = before.get(agent_type, (hour, 0))[1]
    state.preemptions = {**before, agent_type: (hour, count + 1)}
