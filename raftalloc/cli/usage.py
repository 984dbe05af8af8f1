"""`raftalloc usage`: what the fleet has, and what of it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import usage_pb2
from raftalloc.cli import output
from raftalloc.cli.connection import Connection, connected
from raftalloc.core.quantities import text_of, unit_of

if TYPE_CHECKING:
    from rich.table import Table


@connected
def usage(connection: Connection) -> None:
    """Show what the fleet has of each kind, and what of it is used."""
    show_usage(connection, usage_pb2.UtilizationRequest())


def show_usage(connection: Connection, request: usage_pb2.UtilizationRequest) -> None:
    """Print the fleet's figures."""
    answer = connection.ask(lambda client: client.usage.utilization(request))

    def draw() -> None:
        output.console().print(usage_table(answer))
        output.say(summary(answer))

    connection.show(answer, draw)


def usage_table(answer: usage_pb2.UtilizationResponse) -> Table:
    """One kind a row, with a bar."""
    rows = [
        (
            kind.kind,
            bar(kind.used, kind.reserved, kind.capacity),
            f"{100 * kind.used / kind.capacity:.1f} %" if kind.capacity else "-",
            text_of(kind.kind, kind.used),
            text_of(kind.kind, kind.reserved),
            text_of(kind.kind, kind.available),
            text_of(kind.kind, kind.capacity),
            unit_of(kind.kind),
        )
        for kind in answer.kinds
    ]
    columns = ("KIND", "", "SHARE#", "USED#", "RESERVED#", "AVAILABLE#", "CAPACITY#", "UNIT")
    return output.table("", columns, rows)


def bar(used: int, reserved: int, capacity: int, width: int = 24) -> str:
    """`████▒▒····`: used, reserved, the rest. Anything above nothing shows."""
    if capacity <= 0:
        return ""
    filled = min(width, -(-used * width // capacity))
    held = min(width - filled, -(-reserved * width // capacity))
    return "█" * filled + "▒" * held + "·" * (width - filled - held)


def summary(answer: usage_pb2.UtilizationResponse) -> str:
    """The counts beside the kinds."""
    return (
        f"{answer.active_allocations} live, {answer.waiting_requests} waiting,"
        f" {answer.nodes_ready} of {answer.nodes_total} nodes ready, {answer.providers_total} providers"
    )
