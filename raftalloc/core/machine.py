"""The machine: one entry in, events and outcomes out. The dispatch and the order of things, nothing else.

    apply(entry):  begin      index and time; time never goes back
                   per command:
                     settle   what is due by now fires before anyone asks
                     dedupe   an attempt that was answered is answered again
                     decide   a generator of events (requests, operations, booking); each is evolved as it comes
                     refuse   a Rejection is an event too
                     answer   the outcome is kept for retries
                   settle     expire, open, admit, until nothing fires

`apply` never raises for what was asked: every "no" is an outcome. What it raises is a bug, and stops the replica.
Replicas give the same bytes for the same entries: nothing here reads a clock, a random number or an unordered set.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from raftalloc.core import operations, requests
from raftalloc.core.booking import cancel_reservation, reserve
from raftalloc.core.commands import (
    Allocate,
    Asked,
    Cancel,
    CancelReservation,
    Command,
    Cordon,
    DeleteQuota,
    Drain,
    Entry,
    MarkLost,
    MarkReturned,
    OpenSession,
    Origin,
    RegisterNode,
    Release,
    RemoveNode,
    Renew,
    Reserve,
    Resize,
    SetQueue,
    SetQuota,
    SwitchRules,
    TakeLead,
    Tick,
    Uncordon,
)
from raftalloc.core.dedupe import answered, recall
from raftalloc.core.events import Event, Happened, LeaderTook, Refused
from raftalloc.core.evolve import begin, evolve
from raftalloc.core.records import DONE, REJECTED, Outcome
from raftalloc.core.rejections import Rejection
from raftalloc.core.requests import Decision
from raftalloc.core.resizing import resize
from raftalloc.core.settle import due_ms, settle
from raftalloc.core.state import State

Answer = TypeVar("Answer")

SETTLED = -1
"""The cause of events that no command caused."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one entry did: its events in order, and an outcome for each command."""

    happened: tuple[Happened, ...]
    outcomes: tuple[Outcome, ...]


def apply(state: State, entry: Entry, index: int) -> Applied:
    """Decide and carry out one entry. The only way in which a replica's state goes forward."""
    begin(state, index, entry.at_ms)
    happened: list[Happened] = []
    outcomes: list[Outcome] = []
    for row, asked in enumerate(entry.asked):
        # TakeLead moves deadlines that are due only because nobody led.
        if not isinstance(asked.command, TakeLead):
            _run(state, settle(state), SETTLED, happened)
        outcomes.append(_carry_out(state, asked, row, happened))
    _run(state, settle(state), SETTLED, happened)
    return Applied(tuple(happened), tuple(outcomes))


def fold(state: State, happened: Sequence[Happened], *, index: int, at_ms: int) -> None:
    """Carry out events that were decided before: a state is the fold of its events, to the last byte."""
    begin(state, index, at_ms)
    for item in happened:
        evolve(state, item.event)


def next_due_ms(state: State) -> int:
    """The earliest time at which a Tick would do something; 0: never."""
    return due_ms(state)


def _carry_out(state: State, asked: Asked, row: int, happened: list[Happened]) -> Outcome:
    known = recall(state, asked)
    if known is not None:
        if known.rejection is not None and not known.replayed:
            _emit(state, _refused(asked.command, known.rejection), row, happened)
        return known
    result = _run(state, decide(state, asked.command, asked.origin), row, happened)
    if isinstance(result, Rejection):
        refused = _refused(asked.command, result)
        _emit(state, refused, row, happened)
        result = Outcome(REJECTED, rejection=result)
    result = replace(result, index=state.index)
    memory = answered(asked, result)
    if memory is not None:
        _emit(state, memory, row, happened)
    return result


def _run(
    state: State, decision: Generator[Event, None, Answer], cause: int, happened: list[Happened]
) -> Answer:
    """Evolve each event as the decision gives it, and hand on what it answers."""
    while True:
        try:
            event = next(decision)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
        _emit(state, event, cause, happened)


def _emit(state: State, event: Event, cause: int, happened: list[Happened]) -> None:
    evolve(state, event)
    happened.append(Happened(event, cause))


def _refused(command: Command, rejection: Rejection) -> Refused:
    return Refused(
        rejection.code,
        rejection.field,
        rejection.subject,
        rejection.numbers,
        getattr(command, "agent_id", ""),
        getattr(command, "workflow_id", ""),
    )


def decide(state: State, command: Command, origin: Origin) -> Decision:
    """The events that a command causes, and its outcome. Reads the state and never writes it."""
    match command:
        case Allocate():
            return requests.allocate(state, command, origin)
        case Renew():
            return requests.renew(state, command, origin)
        case Release():
            return requests.release(state, command, origin)
        case Resize():
            return resize(state, command, origin)
        case Cancel():
            return requests.cancel(state, command, origin)
        case Reserve():
            return reserve(state, command, origin)
        case CancelReservation():
            return cancel_reservation(state, command, origin)
        case RegisterNode():
            return operations.register_node(state, command)
        case Cordon() | Uncordon() | Drain() | MarkLost() | MarkReturned():
            return operations.change_node(state, command)
        case RemoveNode():
            return operations.remove_node(state, command)
        case SetQuota():
            return operations.set_quota(state, command)
        case SetQueue():
            return operations.set_queue(state, command)
        case DeleteQuota():
            return operations.delete_quota(state, command)
        case OpenSession():
            return operations.open_session(state, origin)
        case SwitchRules():
            return operations.switch_rules(state, command)
        case TakeLead():
            return _take_lead(command)
        case Tick():
            return _tick()
        case _:
            assert_never(command)


def _take_lead(command: TakeLead) -> Decision:
    yield LeaderTook(command.replica_id, command.gap_ms)
    return Outcome(DONE)


def _tick() -> Decision:
    yield from ()
    return Outcome(DONE)
