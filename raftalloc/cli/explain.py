"""`raftalloc explain`: why a request waits, was granted or refused, or what would become of one that is not made."""

from __future__ import annotations

from typing import Annotated

import typer

from raftalloc.api.v1 import allocator_pb2
from raftalloc.cli import output
from raftalloc.cli.asked import RequestOptions, request_of
from raftalloc.cli.connection import Connection, connected
from raftalloc.cli.moment import Moment
from raftalloc.core.quantities import text_of
from raftalloc.errors import InvalidRequest

_VERDICTS = {
    allocator_pb2.ExplainResponse.VERDICT_FITS_NOW: "it fits now",
    allocator_pb2.ExplainResponse.VERDICT_MUST_WAIT: "it must wait: it fits, but not now",
    allocator_pb2.ExplainResponse.VERDICT_NEVER_FITS: "it never fits: not even an empty fleet has room",
}


@connected
def explain(
    connection: Connection,
    options: RequestOptions,
    moment: Moment,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID | KIND=AMOUNT",
            help="The id of a request or allocation, or resources.",
        ),
    ] = None,
    event: Annotated[
        str,
        typer.Option(
            metavar="INDEX[.N]", help="An event of the log in place of an id: 4711.2, 4711.0."
        ),
    ] = "",
) -> None:
    """Say why a request waits, was granted or was refused, or what would become of one. Changes nothing.

    With --index or --time: of then. Exits with 0 if it fits (or was granted), else with 1.
    """
    words = what or []
    if event:
        if words:
            raise InvalidRequest("event", "is given beside an id or resources", "give one of them")
        question = _of_event(event)
    elif len(words) == 1 and words[0].isdecimal():
        question = allocator_pb2.ExplainRequest(request_id=int(words[0]))
    else:
        question = allocator_pb2.ExplainRequest(request=request_of(words, options))
    question.at_index, question.at_time_ms = moment.resolved(connection)
    answer = connection.ask(lambda client: client.allocator.explain(question))
    connection.show(answer, lambda: _draw(answer))
    if answer.verdict != allocator_pb2.ExplainResponse.VERDICT_FITS_NOW:
        raise typer.Exit(int(output.Exit.NO))


def _of_event(text: str) -> allocator_pb2.ExplainRequest:
    """`4711.2` -> the event 2 of index 4711."""
    index, _, sequence = text.partition(".")
    if not index.isdecimal() or not (sequence or "0").isdecimal() or not int(index):
        remedy = "write INDEX.N, as `raftalloc events read` shows them: 4711.2"
        raise InvalidRequest("event", f"{text!r} is no event", remedy)
    return allocator_pb2.ExplainRequest(event_index=int(index), event_sequence=int(sequence or "0"))


def _draw(answer: allocator_pb2.ExplainResponse) -> None:
    if answer.HasField("decision"):
        _draw_decision(answer)
    else:
        verdict = _VERDICTS.get(answer.verdict, "no verdict")
        output.say(verdict, note=f"as of index {answer.index}")
        if answer.chosen_node_id:
            output.say(f"it would go to {answer.chosen_node_id}")
    if answer.position:
        output.say(f"it is number {answer.position} in the queue")
    fell = ", ".join(f"{count} by {name}" for name, count in answer.filtered.items() if count)
    nodes = f"{answer.feasible_count} of {answer.nodes_count} nodes could serve it"
    output.say(f"{nodes}; out: {fell}" if fell else nodes)
    draw_blockers(answer)
    for number, blocking in enumerate(answer.sets, 1):
        words = " and ".join(blocker.message for blocker in blocking.blockers)
        output.say(f"proof {number}: {words}", note="enough by itself")
    if answer.changes:
        changes = ", and ".join(change.message for change in answer.changes)
        output.say(f"the least that would let it start: {changes}")


def _draw_decision(answer: allocator_pb2.ExplainResponse) -> None:
    """What was decided, when, and what it saw."""
    decided = answer.decision
    where = f" on {decided.node_id}" if decided.node_id else ""
    waited = f" after {output.span(decided.waited_ms)}" if decided.waited_ms else ""
    name = f"{decided.event} {decided.subject or ''}".strip()
    if decided.preemptor_id:
        name = f"{name}{where}, to make room for request {decided.preemptor_id}"
        where = ""
    output.say(
        f"{name}: {output.amounts(decided.resources)} for {decided.agent_id}{where}{waited}",
        note=f"index {decided.index}, {output.moment(decided.at_ms)}; what the decision saw:",
    )
    if decided.runner_up_node_id:
        output.say(f"without {decided.node_id} it would have been {decided.runner_up_node_id}")


def draw_blockers(answer: allocator_pb2.ExplainResponse) -> None:
    """Everything that stands in the way, where something does."""
    if answer.blockers:
        rows = [
            (
                blocker.code,
                blocker.subject or "-",
                blocker.kind or "-",
                _amount(blocker.kind, blocker.asked),
                _amount(blocker.kind, blocker.available),
                blocker.message,
            )
            for blocker in answer.blockers
        ]
        columns = ("IN THE WAY", "WHAT", "KIND", "ASKED#", "AVAILABLE#", "")
        output.console().print(output.table("", columns, rows))


def _amount(kind: str, amount: int) -> str:
    return text_of(kind, amount) if kind else str(amount)
