"""`raftalloc up` and `raftalloc down`: a group of replicas on this machine."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from raftalloc.cli import output
from raftalloc.cli.connection import guarded
from raftalloc.cli.group import DEFAULT_DIRECTORY, GroupError, LocalGroup, leader_of
from raftalloc.cli.status import replicas_table
from raftalloc.errors import RaftallocError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from raftalloc.cli.status import Statuses

REPLICAS = 3
LOOK_SECONDS = 1.0
ENDING = (signal.SIGINT, signal.SIGTERM)

Directory = Annotated[
    Path,
    typer.Option("--directory", "-d", metavar="DIR", help="Where the group keeps its files."),
]


@guarded
def up(
    as_json: bool,
    replicas: Annotated[int, typer.Option("--replicas", "-n", help="1, 3 or 5.")] = REPLICAS,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A cluster.toml; left out: one is made in the directory."
        ),
    ] = None,
    directory: Directory = Path(DEFAULT_DIRECTORY),
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Return when it has a leader; `raftalloc down` ends it."),
    ] = False,
    any_ports: Annotated[
        bool, typer.Option("--any-ports", help="Free ports in place of 7001 and so on.")
    ] = False,
) -> None:
    """Start a group of replicas on this machine, and show how it is until Ctrl-C ends it.

    What runs already is left as it is: with --detach, the same again does nothing.
    """
    group = _group(directory, config, replicas, any_ports=any_ports)
    running = group.running()
    if running and not detach:
        raise GroupError(
            f"{', '.join(running)} of {directory} run already; end them with `raftalloc down`, or add --detach"
        )
    asyncio.run(
        _detached(group, as_json=as_json) if detach else _foreground(group, as_json=as_json)
    )


@guarded
def down(as_json: bool, directory: Directory = Path(DEFAULT_DIRECTORY)) -> None:
    """End the group that `raftalloc up` started; its data stays."""
    group = LocalGroup.find(directory)
    running = group.running() if group else []
    killed = asyncio.run(group.stop()) if group else []
    if as_json:
        output.show_json({"ended": running, "killed": killed})
    elif running:
        output.say(f"ended {', '.join(running)}", note=_killed(killed))
    else:
        output.say(f"nothing runs in {directory}")


def _group(directory: Path, config: Path | None, replicas: int, *, any_ports: bool) -> LocalGroup:
    """The group of this directory: running, as it was made before, as configured, or a new one."""
    found = LocalGroup.find(directory)
    if found is not None and found.running():
        if config is not None and config.resolve() != Path(found.config.path).resolve():
            raise GroupError(f"{directory} runs with {found.config.path}; `raftalloc down` first")
        return found
    if config is not None:
        return LocalGroup.configured(directory, config)
    if not (directory / "group.toml").exists():
        return LocalGroup.create(directory, replicas=replicas, any_ports=any_ports)
    group = LocalGroup.configured(directory, directory / "group.toml")
    if len(group.replica_ids) != replicas:
        raise GroupError(
            f"{directory} holds a group of {len(group.replica_ids)}, not of {replicas};"
            " name another --directory"
        )
    return group


async def _detached(group: LocalGroup, *, as_json: bool) -> None:
    started = group.start()
    _say_started(started)
    try:
        leader = await _ready(group)
    except (RaftallocError, asyncio.CancelledError):
        # Half a group that nobody watches would only keep the ports.
        for replica_id in started:
            await group.kill(replica_id)
        await group.close()
        raise
    _announce(group, leader, as_json=as_json)
    await group.close()


async def _foreground(group: LocalGroup, *, as_json: bool) -> None:
    with ending() as ended:
        async with group:
            _say_started(group.start())
            ready = asyncio.create_task(_ready(group))
            stop = asyncio.create_task(ended.wait())
            await asyncio.wait((ready, stop), return_when=asyncio.FIRST_COMPLETED)
            if not stop.done():
                stop.cancel()
                _announce(group, ready.result(), as_json=as_json)
                await _watch(group, ended, silent=as_json)
            ready.cancel()
            await asyncio.wait((ready, stop))
            if not as_json:
                output.say("ending the replicas", error=True)


def _say_started(replica_ids: list[str]) -> None:
    """On stderr: the answer is still to come, and may be JSON."""
    if replica_ids:
        output.say("", note=f"starting {', '.join(replica_ids)} ...", error=True)


async def _ready(group: LocalGroup) -> str:
    """Until all answer and one leads."""
    await group.wait_answering()
    return await group.wait_leader()


async def _watch(group: LocalGroup, ended: asyncio.Event, *, silent: bool) -> None:
    """Show how the group is until it is to end; on a terminal live, else a line when something changes."""
    screen = output.console()
    live = Live(console=screen, auto_refresh=False) if screen.is_terminal and not silent else None
    before = ""
    with live or nullcontext():
        while not ended.is_set():
            statuses = by_endpoint(group, await group.statuses())
            leader = leader_of(statuses) or "nobody"
            now = f"{leader} leads, {len(group.running())} of {len(group.replica_ids)} replicas run"
            if live is not None:
                live.update(_drawn(statuses), refresh=True)
            elif now != before and not silent:
                output.say(now)
            before = now
            await _pause(ended)


async def _pause(ended: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await ended.wait()
    except TimeoutError:
        return


def by_endpoint(group: LocalGroup, statuses: Statuses) -> Statuses:
    """By endpoint in place of replica id."""
    return {group.endpoint(name): answer for name, answer in statuses.items()}


def _drawn(statuses: Statuses) -> Table:
    drawn = replicas_table(statuses)
    drawn.caption = "Ctrl-C ends the group"
    drawn.caption_justify = "left"
    return drawn


@contextmanager
def ending() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set, in place of interrupting whatever runs."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)


def _announce(group: LocalGroup, leader: str, *, as_json: bool) -> None:
    if as_json:
        record: output.Plain = {
            "leader": leader,
            "endpoints": group.endpoints,
            "directory": str(group.directory),
            "config": group.config.path,
            "replicas": {
                name: {
                    "pid": group.pid(name),
                    "endpoint": group.endpoint(name),
                    "http": str(group.config.replica(name).http),
                    "log": str(group.log(name)),
                }
                for name in group.replica_ids
            },
        }
        output.show_json(record)
        return
    for name in group.replica_ids:
        mark = "leads" if name == leader else ""
        http = group.config.replica(name).http
        output.say(
            f"{name}  {group.endpoint(name)}  pid {group.pid(name)}  metrics http://{http}/metrics {mark}"
        )


def _killed(replica_ids: list[str]) -> str:
    return f"killed, since they did not end: {', '.join(replica_ids)}" if replica_ids else ""
