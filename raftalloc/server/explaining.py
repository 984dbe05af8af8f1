"""Explanations as messages: why a request is as it is, the proof, and of a decision what it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2
from raftalloc.core import explain, records
from raftalloc.core.certificates import certify
from raftalloc.core.codec import decode_block
from raftalloc.core.commands import Origin
from raftalloc.core.quantities import text_of, unit_of
from raftalloc.core.requests import as_queued
from raftalloc.server import render
from raftalloc.service.decisions import decision

if TYPE_CHECKING:
    from raftalloc.core.commands import Allocate
    from raftalloc.core.state import State
    from raftalloc.service.decisions import Decision

_WORDS: Final = {
    records.RAISE_QUOTA: "raise the quota {subject} by {amount}",
    records.FREE: "give {amount} back on {subject}",
    records.GROW: "let {subject} have {amount} more",
    records.READY: "make {subject} ready",
    records.ADD: "add a node or provider that has {amount}",
    records.FEWER: "ask for {count} members fewer",
    records.SHORTER: "ask for {count} ms at most",
}


def of_request(
    state: State, command: Allocate, principal: str, index: int
) -> allocator_pb2.ExplainResponse:
    """What would become of a request now."""
    told = explain.explain(state, command, principal=principal)
    queued = as_queued(state, command, Origin(principal))
    return explanation(told, certify(state, queued), index)


def of_waiting(state: State, request_id: int, index: int) -> allocator_pb2.ExplainResponse | None:
    """Why a request waits; None where nothing of that id does."""
    told = explain.explain_waiting(state, request_id)
    if told is None:
        return None
    return explanation(told, certify(state, state.queue.requests[request_id].queued), index)


def explain_decision(state: State, block: bytes, sequence: int) -> bytes:
    """An event of a block, as ExplainResponse. `state`: before the block; it is used up. Raises InvalidRequest."""
    found = decision(state, decode_block(block), sequence)
    response = explanation(found.explanation, found.certificate, found.index)
    response.decision.CopyFrom(_decision(found))
    return response.SerializeToString()


def explanation(
    told: records.Explanation, proof: records.Certificate, index: int
) -> allocator_pb2.ExplainResponse:
    """With the proof of what stands in the way."""
    response = render.explanation(told, index)
    if told.verdict == records.FITS_NOW:
        return response
    for blockers in proof.sets:
        response.sets.add(blockers=[render.blocker(each) for each in blockers])
    response.changes.extend(_change(each) for each in proof.changes)
    return response


def _change(change: records.Change) -> allocator_pb2.Change:
    kind = change.kind
    amount = f"{text_of(kind, change.amount)} of {kind} ({unit_of(kind)})" if kind else ""
    words = _WORDS[change.what].format(
        subject=change.subject or "the fleet", amount=amount, count=change.amount
    )
    return allocator_pb2.Change(
        what=change.what, subject=change.subject, kind=kind, amount=change.amount, message=words
    )


def _decision(found: Decision) -> allocator_pb2.Decision:
    event, request = found.event, found.request
    subject = getattr(event, "allocation_id", 0) or getattr(event, "request_id", 0)
    return allocator_pb2.Decision(
        event=type(event).__name__,
        index=found.index,
        at_ms=found.at_ms,
        subject=subject,
        agent_id=request.agent_id,
        node_id=getattr(event, "node_id", ""),
        runner_up_node_id=found.runner_up,
        resources=dict(request.demand),
        waited_ms=getattr(event, "waited_ms", 0),
        preemptor_id=getattr(event, "preemptor", 0),
    )
