"""The leader of three real replicas is killed while the command replays: it goes on, and says so."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from raftalloc.cli.group import LocalGroup

ROWS = 240
SECONDS = 8
REPLAY = "from raftalloc.cli.main import main; main()"


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_replay_goes_on_when_the_leader_is_killed_and_says_so(run, tmp_path, trace_file):
    rows = [f"j{n},{n * 10},{20 + n % 50},u{n % 7},,,{1 + n % 3},500,256,,,," for n in range(ROWS)]
    path = trace_file(*rows)

    async def story():
        async with LocalGroup.create(tmp_path / "group", replicas=3, any_ports=True) as group:
            group.start()
            leader = await group.wait_leader()
            arguments = ["replay", path, "--nodes", "uniform:20,cpu=8,memory=8", "--json"]
            arguments += ["--speed", str(ROWS * 10 / SECONDS)]
            for endpoint in group.endpoints:
                arguments += ["--endpoint", endpoint]
            replaying = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                REPLAY,
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "RAFTALLOC_TLS_DIRECTORY": group.config.tls.directory},
            )
            await until_allocations(group, leader, at_least=20)
            await group.kill(leader)
            output, _ = await replaying.communicate()
            return replaying.returncode, json.loads(output)

    code, report = run(story(), timeout=230)
    members = sum(1 + n % 3 for n in range(ROWS))
    assert code == 0, report
    assert (report["placed"], report["acknowledged"]) == (members, members)
    assert (report["lost"], report["duplicated"], report["unacknowledged"]) == (0, 0, 0)
    assert report["failovers"] >= 1
    assert report["retries"] >= 1


async def until_allocations(group, leader, *, at_least):
    """Until the group has granted so many: then the replay is in its middle."""
    while (await group.status(leader)).grants_total < at_least:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.05)
