"""`raftalloc policy evaluate`: both runs side by side, from a data directory; from the group it is the same code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from raftalloc.cli.output import Exit
from tests.server.asking import allocate_request, ask, opened, register

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run


def lived(run: Run, path: Path) -> str:
    """A replica's directory with a log of four requests for room for two."""

    async def story() -> None:
        async with opened(path) as transport:
            await register(transport, cpu=4_000)
            for number in range(4):
                request = allocate_request(
                    agent_id=f"a{number}", resources={"cpu": 2_000}, wait_ms=3_600_000
                )
                await ask(transport, "Allocator/Allocate", request)

    run(story())
    return str(path / "data")


def test_without_another_setting_the_log_is_the_same(run: Run, tmp_path: Path, raftalloc):
    directory = lived(run, tmp_path)
    shown = raftalloc("policy", "evaluate", "--directory", directory, "--json")
    assert shown.exit_code == Exit.OK, shown.output
    report = json.loads(shown.stdout)
    assert report["same"]
    assert report["lived"] == report["other"]
    assert (report["lived"]["granted"], report["lived"]["waiting"]) == (2, 2)
    drawn = raftalloc("policy", "evaluate", "--directory", directory)
    assert "the same log to the last byte" in drawn.stdout


def test_since_may_count_back_from_the_end_of_the_log(run: Run, tmp_path: Path, raftalloc):
    directory = lived(run, tmp_path)
    shown = raftalloc(
        *("policy", "evaluate", "--directory", directory, "--since", "-365d", "--json")
    )
    assert shown.exit_code == Exit.OK, shown.output
    assert json.loads(shown.stdout)["from_index"] == 1


def test_with_others_both_runs_are_shown(run: Run, tmp_path: Path, raftalloc):
    directory = lived(run, tmp_path)
    shown = raftalloc(
        *("policy", "evaluate", "--directory", directory),
        *("--policy", "worst_fit", "--queue-policy", "fifo", "--ageing", "30m"),
    )
    assert shown.exit_code == Exit.OK, shown.output
    for words in ("another way", "worst_fit", "fifo", "Jain's index", "share of a0", "assumed:"):
        assert words in shown.stdout, words


def test_what_cannot_be_evaluated_says_so(run: Run, tmp_path: Path, raftalloc):
    nowhere = raftalloc("policy", "evaluate", "--directory", str(tmp_path / "nowhere"))
    assert nowhere.exit_code == Exit.USAGE
    late = raftalloc("policy", "evaluate", "--directory", lived(run, tmp_path), "--since", "999999")
    assert late.exit_code == Exit.USAGE
    assert "above the last index" in late.stderr
