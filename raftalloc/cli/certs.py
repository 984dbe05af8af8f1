"""`raftalloc certs`: the CA and the certificates of a group. Works on files; asks nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from raftalloc.cli import output
from raftalloc.cli.connection import guarded
from raftalloc.cli.group import DEFAULT_DIRECTORY
from raftalloc.config import load_config
from raftalloc.errors import ConfigError
from raftalloc.security.authority import CA_DAYS, DAY_SECONDS, END_DAYS, Authority, Issued
from raftalloc.security.names import is_name
from raftalloc.system import SystemClock

if TYPE_CHECKING:
    from raftalloc.config import Config
    from raftalloc.security.certificates import Described

DAYS_MAX: Final = 36_500
app = typer.Typer(no_args_is_help=True, help="The CA and the certificates of a group.")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The group's cluster.toml. Default: ./cluster.toml, or the one of the group in ./local.",
    ),
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        metavar="DIR",
        help="Where the certificates are. Default: as [tls] of the configuration says.",
    ),
]
Days = Annotated[
    int, typer.Option("--days", min=1, max=DAYS_MAX, help="How long it is good from now.")
]


@app.command("init")
@guarded
def init(
    as_json: bool,
    config: ConfigFile = None,
    directory: Directory = None,
    days: Days = CA_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Make a new CA; those there are stay trusted.")
    ] = False,
    forget_old: Annotated[
        bool, typer.Option("--forget-old", help="Trust the newest CA only, from now on.")
    ] = False,
) -> None:
    """Make a CA for the group, unless there is one."""
    authority = _authority(_config(config), directory)
    issued = [authority.init(days=days, force=force)]
    forgotten = authority.forget_old() if forget_old else 0
    if as_json:
        output.show_json(
            {"certificates": [_plain(each) for each in issued], "forgotten": forgotten}
        )
        return
    _say(issued)
    if forgotten:
        output.say(f"no longer trusted: {forgotten} older CA{'s' if forgotten > 1 else ''}")


@app.command("issue")
@guarded
def issue(
    as_json: bool,
    config: ConfigFile = None,
    directory: Directory = None,
    replica: Annotated[
        list[str] | None, typer.Option("--replica", metavar="ID", help="Only for this replica.")
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option("--client", metavar="NAME", help="For a client, the principal NAME."),
    ] = None,
    days: Days = END_DAYS,
    force: Annotated[
        bool, typer.Option("--force", help="Make them anew where they exist.")
    ] = False,
) -> None:
    """Make certificates: for all replicas and this machine's client, or only for those named.

    What is there is never replaced without --force. Exits with 1 where something that is there will not do.
    """
    found = _config(config)
    authority = _authority(found, directory)
    addresses = found.tls_addresses()
    for name in replica or ():
        found.replica(name)
    for name in client or ():
        if not is_name(name):
            raise ConfigError(
                f"--client {name!r}: is no name; use up to 64 letters, digits, '.', '-' and '_'"
            )
    if replica or client:
        issued = [
            *(authority.replica(r, addresses[r], days=days, force=force) for r in replica or ()),
            *(authority.client(name, days=days, force=force) for name in client or ()),
        ]
    else:
        issued = authority.everybody(addresses, days=days, force=force)
    if as_json:
        output.show_json({"certificates": [_plain(each) for each in issued]})
    else:
        _say(issued)
    if any(each.what == "stale" for each in issued):
        raise typer.Exit(int(output.Exit.NO))


@app.command("show")
@guarded
def show(as_json: bool, config: ConfigFile = None, directory: Directory = None) -> None:
    """Show the certificates there are: for whom, and until when."""
    now_s = _now_s()
    authority = _authority(_config(config), directory)
    found = authority.show()
    if as_json:
        output.show_json({"certificates": [_described(path, each) for path, each in found]})
        return
    if not found:
        output.say(f"no certificates in {authority.directory}", note="raftalloc certs init")
        return
    rows = [
        (
            Path(path).name,
            "CA" if each.is_ca else _whose(each),
            " ".join(each.addresses),
            _day(each.until_s),
            _left(each.until_s - now_s),
        )
        for path, each in found
    ]
    output.console().print(
        output.table(str(authority.directory), ("file", "for", "addresses", "until", "left"), rows)
    )


def _config(given: Path | None) -> Config:
    """As named; else ./cluster.toml; else that of the local group."""
    usual = (Path("cluster.toml"), Path(DEFAULT_DIRECTORY) / "group.toml")
    path = given or next((each for each in usual if each.exists()), usual[0])
    return load_config(path)


def _authority(config: Config, directory: Path | None) -> Authority:
    return Authority(directory or config.tls.directory, config.cluster_id, _now_s())


def _now_s() -> int:
    return SystemClock().wall_ms() // 1000


def _plain(issued: Issued) -> output.Plain:
    made: dict[str, output.Plain] = {
        "path": issued.path,
        "what": issued.what,
        "until": _day(issued.until_s),
    }
    return {**made, "why": issued.why} if issued.why else made


def _described(path: str, each: Described) -> output.Plain:
    return {
        "path": path,
        "is_ca": each.is_ca,
        "role": each.identity.role if each.identity else "",
        "name": each.identity.name if each.identity else "",
        "cluster_id": each.identity.cluster_id if each.identity else "",
        "addresses": list(each.addresses),
        "from": _day(each.from_s),
        "until": _day(each.until_s),
        "serial": each.serial,
        "sha256": each.fingerprint,
    }


def _say(issued: list[Issued]) -> None:
    for each in issued:
        note = f"good until {_day(each.until_s)}"
        if each.what == "stale":
            note = f"{each.why}; --force makes it anew"
        output.say(f"{each.what}  {each.path}", note=note)


def _whose(each: Described) -> str:
    if each.identity is None:
        return each.subject
    return f"{each.identity.role} {each.identity.name}"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _left(seconds: int) -> str:
    return f"{seconds // DAY_SECONDS} days" if seconds > 0 else "expired"
