"""From the outcome of an Allocate to the answer to its caller, over the state that it was decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import allocator_pb2
from raftalloc.core import records, views
from raftalloc.core.commands import Allocate
from raftalloc.server import render
from raftalloc.server.status import rejection_message

if TYPE_CHECKING:
    from raftalloc.api.v1 import types_pb2
    from raftalloc.core.commands import Asked
    from raftalloc.core.state import State
    from raftalloc.service.submit import Answer


def allocate_response(
    state: State, asked: Asked, answer: Answer, row: int
) -> allocator_pb2.AllocateResponse:
    """One outcome of an answer: granted, queued or rejected."""
    outcome = answer.outcomes[row]
    response = allocator_pb2.AllocateResponse(
        index=outcome.index or answer.index, replayed=outcome.replayed
    )
    if outcome.rejection is not None and outcome.status == records.REJECTED:
        response.rejected.CopyFrom(rejection_message(outcome.rejection))
        return response
    waiting = views.waiting(state, outcome.subject)
    if outcome.status == records.QUEUED:
        response.queued.request_id = outcome.subject
        if waiting is not None:
            response.queued.CopyFrom(render.queued(waiting, outcome))
        return response
    response.granted.allocations.extend(_members(state, asked, outcome, answer.granted[row]))
    if waiting is not None:
        response.granted.queued.CopyFrom(render.queued(waiting, outcome))
    return response


def _members(
    state: State, asked: Asked, outcome: records.Outcome, live: tuple[records.Allocation, ...]
) -> list[types_pb2.Allocation]:
    """All members of a grant; of a replayed one some may have ended since."""
    if len(live) == outcome.count:
        return [render.allocation(each) for each in live]
    assert isinstance(asked.command, Allocate)
    by_id = {each.allocation_id: each for each in live}
    members = []
    for number in range(outcome.subject, outcome.subject + outcome.count):
        if number in by_id:
            members.append(render.allocation(by_id[number]))
        else:
            end = views.ended(state, number)
            principal = asked.origin.principal
            members.append(render.ended_member(asked.command, principal, number, outcome, end))
    return members
