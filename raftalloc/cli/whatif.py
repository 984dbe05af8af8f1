"""`raftalloc what-if`: try things on a copy of the state, and see what would come of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.api.v1 import allocator_pb2, simulation_pb2, usage_pb2
from raftalloc.cli import output, steps
from raftalloc.cli.connection import Connection, connected, group_now_ms
from raftalloc.cli.explain import draw_blockers
from raftalloc.cli.moment import Moment
from raftalloc.core.quantities import text_of, unit_of
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_SECONDS = 60.0
EVENTS_SHOWN = 12


@connected
def what_if(
    connection: Connection,
    moment: Moment,
    typed: Annotated[
        list[str] | None,
        typer.Argument(metavar="STEP", help='Each in quotes: "submit cpu=4 -a a_1" "advance 2h".'),
    ] = None,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Steps, one a line; - is stdin.")
    ] = "",
) -> None:
    """Try steps on a copy of the state, as it is or was, and show what comes of them. Changes nothing.

    A step is written like the command of its name: submit, renew, resize, release, cancel, reserve, register, cordon,
    uncordon, drain, remove, quota, queue; and lose and return (a node), advance (the time). See docs/cli.md.
    """
    lines = list(typed or [])
    if file:
        lines += _lines(file)
    asked = steps.parse(lines, now_ms=_now_ms(connection, lines))
    at_index, at_time_ms = moment.resolved(connection)
    request = simulation_pb2.WhatIfRequest(steps=asked, at_index=at_index, at_time_ms=at_time_ms)
    timeout = max(connection.timeout, TIMEOUT_SECONDS)
    answer = connection.ask(lambda client: client.simulation.what_if(request, timeout=timeout))
    shown = [line.strip() for line in lines if line.partition("#")[0].strip()]
    connection.show(answer, lambda: _draw(shown, answer))


def _lines(file: str) -> list[str]:
    """Of a file, or of stdin."""
    if file == "-":
        return sys.stdin.read().splitlines()
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest("file", f"{file}: {error}", "name a text file of steps") from error


def _now_ms(connection: Connection, lines: Sequence[str]) -> int:
    """What time it is in the group; asked only where a step counts from now."""
    return connection.ask(group_now_ms) if any("+" in line for line in lines) else 0


def _draw(lines: Sequence[str], answer: simulation_pb2.WhatIfResponse) -> None:
    began = output.moment(answer.at_ms)
    output.say(f"on a copy of the state at index {answer.index}", note=f"{began}; nothing is done")
    for number, (line, outcome) in enumerate(zip(lines, answer.outcomes, strict=True), 1):
        output.say(f"{number}. {line}")
        output.say(f"   {words_of(outcome)}")
        _draw_events(outcome)
        if outcome.HasField("why"):
            draw_blockers(outcome.why)
    _draw_usage(answer.before, answer.after)
    if answer.queue:
        rows = [
            (
                str(change.request_id),
                change.agent_id,
                str(change.position_before or "-"),
                str(change.position_after or "-"),
            )
            for change in answer.queue
        ]
        output.console().print(output.table("", ("REQUEST#", "AGENT", "PLACE#", "THEN#"), rows))


def words_of(outcome: simulation_pb2.WhatIfOutcome) -> str:
    """What a step came to, in a line."""
    if outcome.HasField("rejected"):
        return f"refused: {outcome.rejected.message}"
    if not outcome.HasField("allocated"):
        return f"done, at {output.moment(outcome.at_ms)}"
    return _allocated(outcome.allocated)


def _allocated(response: allocator_pb2.AllocateResponse) -> str:
    if response.HasField("rejected"):
        return f"refused: {response.rejected.message}"
    if response.HasField("queued"):
        queued = response.queued
        why = f": {queued.why.message}" if queued.why.message else ""
        return f"request {queued.request_id} waits at place {queued.position}{why}"
    granted = response.granted
    where = sorted({each.node_id for each in granted.allocations if each.node_id})
    ids = [each.id for each in granted.allocations]
    name = str(ids[0]) if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
    waiting = f", {granted.queued.waiting_count} wait" if granted.HasField("queued") else ""
    return f"granted {name}" + (f" on {', '.join(where)}" if where else "") + waiting


def _draw_events(outcome: simulation_pb2.WhatIfOutcome) -> None:
    """What else happened: not the events that the outcome itself tells of."""
    others = [
        event
        for event in outcome.events
        if event.type not in ("Answered", "Refused", "Queued", "WeightsSet")
        and not (outcome.HasField("allocated") and event.type == "Granted")
    ]
    for event in others[:EVENTS_SHOWN]:
        about = event.agent_id or event.node_id
        subject = f" {event.subject}" if event.subject else ""
        output.say(f"   {event.type}{subject} {about}", note=output.moment(event.at_ms))
    hidden = max(0, len(others) - EVENTS_SHOWN) + outcome.events_count - len(outcome.events)
    if hidden:
        output.say("", note=f"   and {hidden} events more")


def _draw_usage(
    before: usage_pb2.UtilizationResponse, after: usage_pb2.UtilizationResponse
) -> None:
    """Before and after, by kind."""
    old = {kind.kind: kind for kind in before.kinds}
    rows = []
    for kind in after.kinds:
        was = old.get(kind.kind, usage_pb2.KindUtilization())
        change = kind.used - was.used
        sign = "+" if change > 0 else ""
        rows.append(
            (
                kind.kind,
                text_of(kind.kind, was.used),
                text_of(kind.kind, kind.used),
                f"{sign}{text_of(kind.kind, change)}" if change else "",
                text_of(kind.kind, kind.capacity),
                unit_of(kind.kind),
            )
        )
    columns = ("KIND", "USED#", "THEN#", "CHANGE#", "CAPACITY#", "UNIT")
    output.console().print(output.table("", columns, rows))
    output.say(
        f"{before.active_allocations} -> {after.active_allocations} live,"
        f" {before.waiting_requests} -> {after.waiting_requests} waiting,"
        f" {before.nodes_ready} -> {after.nodes_ready} nodes ready"
    )
