"""`raftalloc log`: the Raft log of a replica that is stopped. Reads files and asks nobody; only `skip` changes any."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftalloc.cli import output
from raftalloc.cli.connection import guarded
from raftalloc.errors import DataDirectoryError, InvalidRequest
from raftalloc.raft.inspection import check_unused, log_directory, overview
from raftalloc.raft.skipping import skip_entry
from raftalloc.storage.directory import stopped_at
from raftalloc.system import SystemClock, SystemDisk, SystemRng

if TYPE_CHECKING:
    from raftalloc.raft.inspection import Overview, Shown

app = typer.Typer(no_args_is_help=True, help="The Raft log of a replica that is stopped.")

Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="The replica's data directory, or the raft directory in it."
    ),
]


@app.command("verify")
@guarded
def verify(as_json: bool, directory: Directory) -> None:
    """Read the whole log and check every checksum. Exits with 1 where it is damaged."""
    path = log_directory(str(directory))
    check_unused(path)
    try:
        found = overview(path)
    except DataDirectoryError as error:
        if as_json:
            output.show_json({"ok": False, "problem": str(error)})
        else:
            output.say(str(error), error=True)
        raise typer.Exit(int(output.Exit.NO)) from error
    if as_json:
        output.show_json({"ok": True, **dataclasses.asdict(found)})
    else:
        _say(found)


@app.command("dump")
@guarded
def dump(
    as_json: bool,
    directory: Directory,
    start: Annotated[
        int, typer.Option("--from", metavar="INDEX", min=0, help="Leave out entries below.")
    ] = 0,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, help="Show so many records; 0: all.")
    ] = 0,
) -> None:
    """Show the records of the log in the order they were written. --json: one a line, with the payload in hex."""
    shown = 0

    def show(record: Shown) -> None:
        nonlocal shown
        if (record.kind == "entry" and record.a < start) or (limit and shown >= limit):
            return
        shown += 1
        if as_json:
            output.show_json(_json_of(record), line=True)
        else:
            output.say(_line_of(record), note=f"batch {record.batch}")

    overview(log_directory(str(directory)), show)


@app.command("skip")
@guarded
def skip(
    as_json: bool,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The replica's data directory.")],
    index: Annotated[int, typer.Argument(metavar="INDEX", min=1, help="The entry.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the log.")
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Also if this replica did not note that it stopped there."),
    ] = False,
) -> None:
    """Have an entry passed over that stops every replica; no replica may have applied it.

    Do the same, with the same INDEX, on a majority of the replicas while all are stopped; the others learn it.
    What the entry asked for is not done.
    """
    path = log_directory(str(directory))
    check_unused(path)
    stopped = stopped_at(SystemDisk(), str(Path(path).parent))
    if stopped != index and not force:
        said = f"it stopped at {stopped}" if stopped else "it has not noted any at which it stopped"
        raise InvalidRequest(
            "INDEX",
            f"this replica did not stop at {index}: {said}",
            "--force skips it all the same",
        )
    entry = skip_entry(
        path, index, at_ms=SystemClock().wall_ms(), reason=reason, token=SystemRng().token
    )
    record: dict[str, output.Plain] = {
        "index": index,
        "reason": reason,
        "skipped": _summary_of(entry),
    }
    if as_json:
        output.show_json(record)
    else:
        output.say(
            f"entry {index} will be skipped: {_summary_of(entry)}",
            note="now do the same on a majority of the replicas, then start them",
        )


def _say(found: Overview) -> None:
    vote = "no vote" if found.vote is None else f"vote for {found.vote}"
    output.say(
        f"replica {found.replica_id} of {found.cluster_id}: entries {found.first_index}..{found.last_index}, "
        f"term {found.term}, {vote}, committed at least up to {found.commit_index}",
        note=f"{found.batches} batches in {found.segments} segments, all checksums right",
    )
    if found.unfinished_bytes:
        output.say(
            f"a write of up to {found.unfinished_bytes} bytes at the end was not finished; the next start cuts it off"
        )


def _line_of(record: Shown) -> str:
    if record.kind == "entry":
        return f"entry {record.a} term {record.b}: {_summary_of(record)}"
    if record.kind == "vote":
        vote = record.payload[1:].decode() if record.payload else "nobody"
        return f"term {record.a}, vote for {vote}"
    if record.kind == "truncate":
        return f"entries above {record.a} cut off: in conflict with the leader's"
    if record.kind == "skip":
        return f"entry {record.a} is skipped since {output.moment(record.b)}: {record.payload.decode()}"
    if record.kind == "base":
        return f"entries below {record.a} are in a snapshot (term before: {record.b})"
    return f"{record.kind} {record.a}"


def _summary_of(record: Shown) -> str:
    if record.entry is None:
        return "Raft's own"
    asked = _asked_of(record.entry)
    names = (
        " ".join(f"{name}*{count}" for name, count in asked.items()) if asked else "not decodable"
    )
    return f"{names} ({len(record.entry)} bytes)"


def _asked_of(entry: bytes) -> dict[str, int] | None:
    """Names of the commands in an entry, and how many; None where this build cannot decode it."""
    # Here, for it is slow to import, and every other command would pay.
    from raftalloc.core.codec import decode_entry

    try:
        decoded = decode_entry(entry)
    except ValueError:
        return None
    return dict(Counter(type(asked.command).__name__ for asked in decoded.asked))


def _json_of(record: Shown) -> dict[str, output.Plain]:
    asked = None if record.entry is None else _asked_of(record.entry)
    return {
        "segment": record.segment,
        "offset": record.offset,
        "batch": record.batch,
        "kind": record.kind,
        "a": record.a,
        "b": record.b,
        "asked": asked,
        "payload": record.payload.hex(),
    }
