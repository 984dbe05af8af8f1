"""What the commands print: tables for people, JSON for scripts, exit codes for both.

JSON keeps the fields of the API's messages: times in ms, amounts in canonical units (docs/api.md), enum values without
their prefix. Tables show whole units. Errors go to stderr, but to stdout as `{"error": ...}` where JSON was asked for.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raftalloc.core.quantities import text_of
from raftalloc.errors import (
    Compacted,
    ConfigError,
    DataDirectoryError,
    Forbidden,
    InvalidRequest,
    OutcomeUnknown,
    RaftallocError,
    Rejected,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

    Plain = str | int | float | bool | None | Sequence["Plain"] | Mapping[str, "Plain"]

PIPE_WIDTH: Final = 200
"""Columns of a table that goes into a file or pipe: nothing is cut at the 80 that Rich takes there."""
_MS_PER_UNIT: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


class Exit(IntEnum):
    """Exit codes. They are part of the surface: `raftalloc --help` and docs/cli.md list them."""

    OK = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    UNKNOWN = 4
    FORBIDDEN = 5
    LOCAL = 6
    QUEUED = 7
    INTERRUPTED = 130


EXIT_MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.OK: "done, granted, healthy",
    Exit.NO: "the answer is no: rejected, not found, ended, a check failed",
    Exit.USAGE: "the command line, the request or the configuration is invalid",
    Exit.UNAVAILABLE: "no replica or no leader answered; nothing was done, try again",
    Exit.UNKNOWN: "the answer was lost; it may have been done, look before you repeat it",
    Exit.FORBIDDEN: "the caller may not do this",
    Exit.LOCAL: "something on this machine stands in the way: port, process, data directory",
    Exit.QUEUED: "submit: accepted and waiting, not granted yet",
    Exit.INTERRUPTED: "Ctrl-C",
}
_EXIT_OF: Final[tuple[tuple[type[RaftallocError], Exit], ...]] = (
    (InvalidRequest, Exit.USAGE),
    (ConfigError, Exit.USAGE),
    (Rejected, Exit.NO),
    (Compacted, Exit.NO),
    (Unavailable, Exit.UNAVAILABLE),
    (OutcomeUnknown, Exit.UNKNOWN),
    (Unauthenticated, Exit.FORBIDDEN),
    (Forbidden, Exit.FORBIDDEN),
    (DataDirectoryError, Exit.LOCAL),
)
_REMEDY_OF: Final[tuple[tuple[type[RaftallocError], str], ...]] = (
    (Compacted, "start at that index"),
    (
        Unavailable,
        "is the group up? see `raftalloc status`, name replicas with --endpoint, or allow more --timeout",
    ),
    (
        OutcomeUnknown,
        "look with `raftalloc allocation list` or `raftalloc events tail` before repeating it",
    ),
)


def exit_of(error: RaftallocError) -> Exit:
    """The exit code of an error. Whatever is not in the table is a fault of this machine."""
    return next((code for kind, code in _EXIT_OF if isinstance(error, kind)), Exit.LOCAL)


def remedy_of(error: RaftallocError) -> str:
    """What would help, or nothing."""
    if isinstance(error, Rejected | InvalidRequest) and error.remedy:
        return error.remedy
    return next((words for kind, words in _REMEDY_OF if isinstance(error, kind)), "")


def error_record(error: RaftallocError) -> dict[str, Plain]:
    """An error as JSON has it."""
    record: dict[str, Plain] = {
        "code": error.code if isinstance(error, Rejected) else type(error).__name__,
        "field": error.field if isinstance(error, Rejected | InvalidRequest) else "",
        "message": str(error.problem if isinstance(error, InvalidRequest) else error),
        "remedy": remedy_of(error),
        "exit_code": int(exit_of(error)),
    }
    if isinstance(error, Rejected):
        record["numbers"] = error.numbers
    return record


def console(*, error: bool = False) -> Console:
    """A console on what stdout or stderr are now; wide where it is no terminal."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False)


def printable(text: str) -> str:
    """Without what would move a terminal's cursor or turn its text around: names of others may hold such things."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def say(words: str, *, note: str = "", error: bool = False) -> None:
    """One line for people, and a note in small print. Names may hold what Rich takes for markup: it is not."""
    small = f"({note})" if words and note else note
    dimmed = f"[dim]{escape(printable(small))}[/]" if note else ""
    line = " ".join(part for part in (escape(printable(words)), dimmed) if part)
    console(error=error).print(line, soft_wrap=True)


def show_error(error: RaftallocError, *, as_json: bool) -> None:
    """Say what went wrong, with field and remedy."""
    record = error_record(error)
    if as_json:
        show_json({"error": record})
        return
    lines = console(error=True)
    field = f"{record['field']}: " if record["field"] else ""
    message = printable(f"{field}{record['message']}")
    lines.print(f"[bold red]error[/] {escape(message)}", soft_wrap=True)
    if record["remedy"]:
        remedy = printable(str(record["remedy"]))
        lines.print(f"[dim]remedy[/] {escape(remedy)}", soft_wrap=True)


def show_json(value: Plain, *, line: bool = False) -> None:
    """Print JSON on stdout; `line`: on one line, for streams."""
    sys.stdout.write(json.dumps(value, indent=None if line else 2) + "\n")
    sys.stdout.flush()


def plain(message: Message) -> dict[str, Plain]:
    """A message as JSON has it: every field, int64 as numbers (protobuf's own mapping makes them strings)."""
    fields = cast("list[FieldDescriptor]", list(message.DESCRIPTOR.fields))
    return {field.name: _plain_field(message, field) for field in fields}


def _plain_field(message: Message, field: FieldDescriptor) -> Plain:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {str(key): value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_plain_value(item, field) for item in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _plain_value(value, field)


def _plain_value(value: Plain | Message, field: FieldDescriptor) -> Plain:
    if field.message_type is not None:
        return plain(value)  # type: ignore[arg-type]  # protobuf's descriptors do not narrow what getattr answers
    if field.enum_type is not None:
        return enum_name(field.enum_type.values_by_number[value].name)  # type: ignore[index]  # as above
    return value  # type: ignore[return-value]  # as above


def enum_name(name: str) -> str:
    """`STATE_LIVE` -> `LIVE`, `VERDICT_FITS_NOW` -> `FITS_NOW`; an unset enum is empty."""
    short = name.partition("_")[2]
    return "" if short == "UNSPECIFIED" else short


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table; a column whose name ends with `#` is of numbers, on the right."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for name in columns:
        number = name.endswith("#")
        made.add_column(
            name.rstrip("#"),
            justify="right" if number else "left",
            header_style="dim",
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(escape(printable(cell)) for cell in row))
    return made


def amounts(resources: Mapping[str, int]) -> str:
    """Canonical units as they are typed: `cpu=4 memory=8`."""
    return " ".join(f"{kind}={text_of(kind, resources[kind])}" for kind in sorted(resources))


def moment(at_ms: int) -> str:
    """A time of the group's clock in UTC; a dash for none."""
    if not at_ms:
        return "-"
    return (
        datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
        + f".{at_ms % 1000:03d}Z"
    )


def span(length_ms: int) -> str:
    """A length of time in its two largest units: `1h 5m`, `2.5s`, `350ms`; a dash for none."""
    if not length_ms:
        return "-"
    if length_ms < 0:
        return f"-{span(-length_ms)}"
    if length_ms < 1000:
        return f"{length_ms}ms"
    if length_ms < 60_000:
        return f"{length_ms / 1000:.1f}".removesuffix(".0") + "s"
    parts = []
    for unit, size in _MS_PER_UNIT:
        count, length_ms = divmod(length_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
