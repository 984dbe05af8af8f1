"""Structured logs: the one door to structlog.

`get_logger` may be called by any module, at import. Records go through the standard library's loggers below
`raftalloc`, and nowhere until `configure` (the daemon) or the application that embeds us attaches a handler.
Everything logged while a request is worked on carries what `bind_request` bound: its id, its principal.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog

if TYPE_CHECKING:
    from typing import TextIO

ROOT: Final = "raftalloc"
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

logging.getLogger(ROOT).addHandler(logging.NullHandler())


class Logger(Protocol):
    """What a logger does. `event` is a fixed sentence; what varies goes into the fields."""

    def debug(self, event: str, **fields: object) -> object:
        """Only of use to a developer."""

    def info(self, event: str, **fields: object) -> object:
        """Worth a line in production."""

    def warning(self, event: str, **fields: object) -> object:
        """Somebody should look at it some day."""

    def error(self, event: str, **fields: object) -> object:
        """Somebody should look at it now."""

    def exception(self, event: str, **fields: object) -> object:
        """An error, with the traceback of the exception that is being handled."""


_Fields = MutableMapping[str, Any]

# What a record gets whoever made it: one of our loggers, or another library's.
_COMMON: Final[list[structlog.typing.Processor]] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_OURS: Final[list[structlog.typing.Processor]] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    *_COMMON,
    cast("structlog.typing.Processor", structlog.stdlib.ProcessorFormatter.wrap_for_formatter),
]


def get_logger(name: str) -> Logger:
    """A logger called `raftalloc.<name>`, or just `name` where it already begins so."""
    full = name if name.partition(".")[0] == ROOT else f"{ROOT}.{name}"
    logger = structlog.wrap_logger(
        logging.getLogger(full), processors=_OURS, wrapper_class=structlog.stdlib.BoundLogger
    )
    return cast("Logger", logger)


def configure(level: str, style: str, replica_id: str, stream: TextIO | None = None) -> None:
    """Write records of `level` and above to `stream` (stderr), as `json` or `console`, each with the replica's id.

    For the daemon, which owns its process; other libraries' warnings go the same way. A second call replaces the first.
    """
    stream = sys.stderr if stream is None else stream

    def add_replica(_: object, __: str, fields: _Fields) -> _Fields:
        fields.setdefault("replica", replica_id)
        return fields

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_COMMON,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                add_replica,
                *_renderers(style, colors=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(_LEVELS[level])


def bind_request(**fields: object) -> None:
    """Bind fields (request_id, principal) to everything that this task logs from here on; what was bound goes."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**fields)


def _renderers(style: str, *, colors: bool) -> list[structlog.typing.Processor]:
    """One line for a person, or one JSON object."""
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the pretty ones print every local variable, secrets among them.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
