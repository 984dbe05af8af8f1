"""What a request was decided on: the state just before an event, and the request as it was then.

An event of the log is found by its index and its number within the entry. The state before it is the one after the
entry before, and the fold of the events of its own entry that came first: exactly what the decision saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, machine
from raftalloc.core.certificates import certify
from raftalloc.core.commands import Allocate
from raftalloc.core.events import (
    CORDONED,
    Granted,
    NodeStateChanged,
    Preempting,
    Queued,
    Refused,
)
from raftalloc.core.evolve import evolve
from raftalloc.core.explain import explain_queued
from raftalloc.core.records import FITS_NOW, Certificate, Explanation
from raftalloc.core.requests import as_queued
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from raftalloc.core.events import Event
    from raftalloc.core.state import State

DECIDING: Final = (Granted, Queued, Refused, Preempting)
_WHICH: Final = "name the event of a request: one that was granted, queued, refused or preempted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, on what. Of Preempting the request is the one that room is made for.

    runner_up: the node that it would have been without the one that was chosen.
    """

    event: Event
    request: Queued
    explanation: Explanation
    certificate: Certificate
    runner_up: str
    index: int
    at_ms: int


def decision(state: State, block: codec.Block, sequence: int) -> Decision:
    """Of the event `sequence` of a block. `state`: before the block; it is used up. Raises InvalidRequest."""
    happened = codec.decode_events(block.events)
    if sequence >= len(happened):
        problem = f"{sequence} is above the last event of index {block.index}"
        raise InvalidRequest("event_sequence", problem, f"there are {len(happened)}, from 0 on")
    item = happened[sequence]
    machine.fold(state, happened[:sequence], index=block.index, at_ms=block.at_ms)
    asked = codec.decode_entry(block.entry).asked
    command = asked[item.cause].command if item.cause >= 0 else None
    request = _request_of(state, item.event)
    if request is None and isinstance(command, Allocate):
        request = as_queued(state, command, asked[item.cause].origin)
    if request is None or not isinstance(item.event, DECIDING):
        problem = f"a {type(item.event).__name__} of index {block.index} decides about no request"
        raise InvalidRequest("event_sequence", problem, _WHICH)
    if isinstance(item.event, Granted):
        # Those before it have started; this one is the next.
        request = replace(request, count=1, gang=False)
    explanation = explain_queued(state, request)
    certificate = certify(state, request)
    runner_up = _runner_up(state, request, item.event, explanation)
    return Decision(
        item.event, request, explanation, certificate, runner_up, block.index, block.at_ms
    )


def _request_of(state: State, event: Event) -> Queued | None:
    """As it waits, or is about to."""
    if isinstance(event, Queued):
        return event
    if isinstance(event, Granted | Preempting):
        number = event.request_id if isinstance(event, Granted) else event.preemptor
        waiting = state.queue.requests.get(number)
        return waiting.queued if waiting is not None else None
    return None


def _runner_up(state: State, request: Queued, event: Event, told: Explanation) -> str:
    """Where it would have gone without the node that it was given; uses the state up."""
    if not isinstance(event, Granted) or told.verdict != FITS_NOW:
        return ""
    if not event.node_id or request.reservation_id:
        return ""  # of providers alone, or where the window is: there was no choice of a node
    evolve(state, NodeStateChanged(event.node_id, CORDONED))
    return explain_queued(state, request).chosen
