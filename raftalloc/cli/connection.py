"""How a command reaches the group, and how its errors become exit codes.

`connected` gives a command the three options that all of them have (--endpoint, --timeout, --json), as a Connection;
`guarded` gives only --json, for commands about this machine. A parameter that is a dataclass stands for its fields.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, Final, ParamSpec, TypeVar, cast

import typer

from raftalloc.cli import output
from raftalloc.cli.group import DEFAULT_DIRECTORY, LocalGroup
from raftalloc.cli.output import Exit
from raftalloc.cli.parameters import disguised, gathered, wanted_by
from raftalloc.client.client import Client
from raftalloc.config import tls_of_client
from raftalloc.errors import InvalidRequest, RaftallocError
from raftalloc.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from google.protobuf.message import Message

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")

DEFAULT_ENDPOINTS: Final = ("127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003")
TIMEOUT_SECONDS: Final = 10.0
_PANEL: Final = "Connection and output"

Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        "-e",
        metavar="HOST:PORT",
        envvar="RAFTALLOC_ENDPOINTS",
        help="A replica; repeat it or separate with commas. Default: the group in ./local, or 127.0.0.1:7001-7003.",
        rich_help_panel=_PANEL,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        help="How long to go on trying.",
        rich_help_panel=_PANEL,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Which group is asked, for how long, and how the answer is printed."""

    endpoints: tuple[str, ...]
    timeout: float
    as_json: bool

    def ask(self, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
        """Open a client, ask, close it."""

        async def asking() -> Answer:
            async with open_client(self.endpoints, self.timeout) as client:
                return await question(client)

        return asyncio.run(asking())

    def show(self, message: Message, draw: Callable[[], None]) -> None:
        """Print an answer: the message itself as JSON, or what `draw` draws."""
        if self.as_json:
            output.show_json(output.plain(message))
        else:
            draw()


def open_client(endpoints: Sequence[str], timeout: float) -> Client:
    """A client of the group; it connects with its first call."""
    return Client(endpoints=list(endpoints), tls=tls_of_client(endpoints), timeout=timeout)


async def group_now_ms(client: Client) -> int:
    """What time it is: the group's clock, or this machine's where the group has been idle."""
    usage = await client.usage.utilization()
    return max(usage.at_ms, SystemClock().wall_ms())


def known_endpoints(given: Sequence[str] | None) -> tuple[str, ...]:
    """Those given; else those of the group that runs from ./local; else the usual three."""
    if given:
        words = [word.strip() for text in given for word in text.split(",")]
        return tuple(word for word in words if word)
    group = LocalGroup.find(Path(DEFAULT_DIRECTORY))
    return tuple(group.endpoints) if group else DEFAULT_ENDPOINTS


def connected(command: Callable[Concatenate[Connection, Parameters], None]) -> Callable[..., None]:
    """A command of the group: adds the common options, opens nothing yet, turns errors into exit codes."""
    wanted = wanted_by(command)[1:]

    def run(
        *,
        endpoint: list[str] | None,
        timeout: float,
        as_json: bool,
        **given: object,
    ) -> None:
        with answering(as_json=as_json):
            connection = Connection(known_endpoints(endpoint), timeout, as_json)
            cast("Callable[..., None]", command)(connection, **gathered(wanted, given))

    common: list[tuple[str, object, object]] = [
        ("endpoint", Endpoint, None),
        ("timeout", Timeout, TIMEOUT_SECONDS),
        ("as_json", AsJson, False),
    ]
    return disguised(run, command, wanted, common)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command about this machine: it takes `as_json`, and its errors become exit codes."""
    wanted = [parameter for parameter in wanted_by(command) if parameter.name != "as_json"]

    def run(*, as_json: bool, **given: object) -> None:
        with answering(as_json=as_json):
            command(as_json=as_json, **gathered(wanted, given))

    return disguised(run, command, wanted, [("as_json", AsJson, False)])


@contextmanager
def answering(*, as_json: bool) -> Iterator[None]:
    """What goes wrong inside is said in words, and ends the command with its exit code."""
    try:
        yield
    except RaftallocError as error:
        output.show_error(error, as_json=as_json)
        raise typer.Exit(int(output.exit_of(error))) from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        named = InvalidRequest(str(error.filename or "this machine"), error.strerror or str(error))
        output.show_error(named, as_json=as_json)
        raise typer.Exit(int(Exit.LOCAL)) from error
    except KeyboardInterrupt:
        raise typer.Exit(int(Exit.INTERRUPTED)) from None
