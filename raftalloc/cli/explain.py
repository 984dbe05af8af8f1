"""`raftalloc explain`: why a request waits, or what would become of one that is not made."""

from __future__ import annotations

from typing import Annotated

import typer

from raftalloc.api.v1 import allocator_pb2
from raftalloc.cli import output
from raftalloc.cli.asked import RequestOptions, request_of
from raftalloc.cli.connection import Connection, connected
from raftalloc.core.quantities import text_of

_VERDICTS = {
    allocator_pb2.ExplainResponse.VERDICT_FITS_NOW: "it fits now",
    allocator_pb2.ExplainResponse.VERDICT_MUST_WAIT: "it must wait: it fits, but not now",
    allocator_pb2.ExplainResponse.VERDICT_NEVER_FITS: "it never fits: not even an empty fleet has room",
}


@connected
def explain(
    connection: Connection,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="REQUEST | KIND=AMOUNT", help="A waiting request's id, or resources."
        ),
    ],
    options: RequestOptions,
) -> None:
    """Say why a request waits, or what would become of one if it were made now. Changes nothing.

    Exits with 0 if it fits now, else with 1.
    """
    if len(what) == 1 and what[0].isdecimal():
        question = allocator_pb2.ExplainRequest(request_id=int(what[0]))
    else:
        question = allocator_pb2.ExplainRequest(request=request_of(what, options))
    answer = connection.ask(lambda client: client.allocator.explain(question))
    connection.show(answer, lambda: _draw(answer))
    if answer.verdict != allocator_pb2.ExplainResponse.VERDICT_FITS_NOW:
        raise typer.Exit(int(output.Exit.NO))


def _draw(answer: allocator_pb2.ExplainResponse) -> None:
    output.say(_VERDICTS.get(answer.verdict, "no verdict"), note=f"as of index {answer.index}")
    if answer.chosen_node_id:
        output.say(f"it would go to {answer.chosen_node_id}")
    if answer.position:
        output.say(f"it is number {answer.position} in the queue")
    fell = ", ".join(f"{count} by {name}" for name, count in answer.filtered.items() if count)
    nodes = f"{answer.feasible_count} of {answer.nodes_count} nodes could serve it"
    output.say(f"{nodes}; out: {fell}" if fell else nodes)
    draw_blockers(answer)


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
