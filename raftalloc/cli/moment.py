"""A moment of the log on the command line: `--index N`, or `--time 2026-12-01T09:00:00Z` or `--time -2h`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.cli import arguments
from raftalloc.cli.connection import group_now_ms
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from raftalloc.cli.connection import Connection

IndexOption = Annotated[int, typer.Option("--index", metavar="N", min=0, help="At this log index.")]
TimeOption = Annotated[
    str,
    typer.Option("--time", metavar="TIME", help="At this time: 2026-12-01T09:00:00Z, or -2h."),
]


@dataclass(frozen=True, slots=True)
class Moment:
    """Which moment; neither is given: none."""

    index: IndexOption = 0
    time: TimeOption = ""

    @property
    def is_given(self) -> bool:
        """Whether one is named."""
        return bool(self.index or self.time)

    def resolved(self, connection: Connection) -> tuple[int, int]:
        """`at_index` and `at_time_ms` of a request; asks the group for its time where that counts from now."""
        if self.index and self.time:
            raise InvalidRequest("time", "is given beside an index", "give one of them")
        if not self.time:
            return self.index, 0
        now_ms = connection.ask(group_now_ms) if self.time.startswith(("-", "+")) else 0
        return 0, arguments.moment(self.time, field="time", now_ms=now_ms)
