"""An entry that no replica can apply: all stop at it, it is skipped by hand on a majority, and the group goes on."""

from __future__ import annotations

import asyncio
import functools
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from raftalloc.cli.main import app
from raftalloc.core import machine
from raftalloc.core.commands import Allocate
from raftalloc.errors import OutcomeUnknown, RaftallocError
from raftalloc.raft.local import LocalNetwork
from raftalloc.server.composition import open_replica
from raftalloc.server.embedded import LocalTransport
from raftalloc.server.parts import system_ports
from raftalloc.service.engine import EntryFailed
from raftalloc.system import SystemClock
from tests.server.asking import allocate_request, ask, register
from tests.server.test_group import configured, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from raftalloc.config import Config
    from raftalloc.core.commands import Command
    from raftalloc.server.composition import RunningReplica
    from tests.conftest import Run

POISON = "poison"


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """One command that the state machine of every replica dies of, after it has changed something."""
    decide = machine.decide

    def dies(state: Any, command: Command, origin: Any) -> Any:
        if isinstance(command, Allocate) and command.agent_id == POISON:
            state.token += 1
            raise ZeroDivisionError("a bug")
        return decide(state, command, origin)

    monkeypatch.setattr(machine, "decide", dies)


class Group:
    """Replicas of this process on directories that stay; `fatal` has what stopped each."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.fatal: dict[str, BaseException] = {}
        self.running: dict[str, RunningReplica] = {}
        self._clock = SystemClock()
        self._ports = system_ports(clock=self._clock, net=LocalNetwork(self._clock))

    def directory(self, replica_id: str) -> str:
        return self.config.data_directory(replica_id)

    async def start(self, *replica_ids: str) -> None:
        for name in replica_ids:
            self.fatal.pop(name, None)
            self.running[name] = await open_replica(
                self.config,
                name,
                ports=self._ports,
                directory=self.directory(name),
                on_fatal=functools.partial(self._failed, name),
            )

    async def stop(self) -> None:
        for replica in self.running.values():
            replica.end_streams()
            await replica.close()
        self.running.clear()

    def _failed(self, name: str, error: BaseException) -> None:
        self.fatal[name] = error

    async def restart_the_dead(self) -> None:
        """As a supervisor does."""
        for name in list(self.fatal):
            await self.running.pop(name).close()
            await self.start(name)

    async def leader(self) -> LocalTransport:
        def leading() -> list[RunningReplica]:
            return [each for each in self.running.values() if each.sample().is_leader]

        await until(lambda: bool(leading()))
        return LocalTransport(leading()[0].backend)

    def digests(self) -> set[tuple[int, str, str]]:
        return {each._engine.digests() for each in self.running.values()}


def skip(*words: str) -> Result:
    return CliRunner().invoke(app, ["log", "skip", *words])


async def allocate(leader: LocalTransport, agent_id: str) -> Any:
    request = allocate_request(agent_id=agent_id, resources={"cpu": 10})
    return await ask(leader, "Allocator/Allocate", request)


def test_all_stop_at_the_entry_and_go_on_once_a_majority_skips_it(
    run: Run, tmp_path: Path, free_ports: Callable[[int], list[int]], bug: None
):
    group = Group(configured(tmp_path, free_ports(9)))
    names = ["n0", "n1", "n2"]

    async def story() -> None:
        async with AsyncExitStack() as opened:
            opened.push_async_callback(group.stop)
            await group.start(*names)
            leader = await group.leader()
            await register(leader)
            await allocate(leader, "before")
            with pytest.raises((OutcomeUnknown, RaftallocError)):
                await allocate(leader, POISON)
            # Those whose leader died elect another, which meets the entry as well; then there is no quorum.
            await until(lambda: len(group.fatal) >= 2)
            dead = sorted(group.fatal)
            assert all(isinstance(error, EntryFailed) for error in group.fatal.values())
            (index,) = {group.fatal[name].index for name in dead}  # type: ignore[attr-defined]

            live = skip(group.directory("n0"), str(index), "--reason", "bug 17")
            assert live.exit_code != 0
            assert "in use by pid" in live.output
            await group.stop()

            wrong = skip(group.directory(dead[0]), str(index - 1), "--reason", "bug 17")
            assert wrong.exit_code != 0
            assert f"it stopped at {index}" in " ".join(wrong.output.split())
            for name in dead[:2]:
                done = skip(group.directory(name), str(index), "--reason", f"bug 17 on {name}")
                assert done.exit_code == 0, done.output
                assert "Allocate*1" in done.output
            again = skip(group.directory(dead[0]), str(index), "--reason", "bug 17")
            assert "skipped already" in again.output

            await group.start(*names)
            leader = await group.leader()
            await allocate(leader, "after")
            # The third may meet the entry before it hears of it from the two; it learns it in its next life.
            await until(lambda: len(group.digests()) == 1 or bool(group.fatal))
            await group.restart_the_dead()
            await until(lambda: len(group.digests()) == 1)
            assert group.fatal == {}

            snapshot = await ask(leader, "Admin/Snapshot", _snapshot())
            assert snapshot.index >= index
            before = group.digests()
            await group.stop()
            await group.start(*names)
            leader = await group.leader()
            await allocate(leader, "after a restart")
            await until(lambda: len(group.digests()) == 1)
            assert next(iter(group.digests()))[0] > next(iter(before))[0]
            assert group.fatal == {}
        for name in names:
            dumped = CliRunner().invoke(app, ["log", "dump", group.directory(name)])
            assert f"entry {index} is skipped since" in dumped.stdout
            assert "bug 17 on n" in dumped.stdout

    run(story(), timeout=110)


def test_what_was_not_skipped_by_a_majority_stops_the_replica_again(
    run: Run, tmp_path: Path, free_ports: Callable[[int], list[int]], bug: None
):
    group = Group(configured(tmp_path, free_ports(9)))

    async def story() -> None:
        async with AsyncExitStack() as opened:
            opened.push_async_callback(group.stop)
            await group.start("n0", "n1", "n2")
            leader = await group.leader()
            await register(leader)
            with pytest.raises((OutcomeUnknown, RaftallocError)):
                await allocate(leader, POISON)
            await until(lambda: len(group.fatal) >= 2)
            one, other = sorted(group.fatal)[:2]
            index = group.fatal[one].index  # type: ignore[attr-defined]
            await group.stop()
            assert skip(group.directory(one), str(index), "--reason", "x").exit_code == 0
            await group.start(one, other)
            await until(lambda: group.fatal.keys() == {other})
            assert group.running[one].health() == ""
            mark = json.loads(await asyncio.to_thread(_read, group.directory(other)))
            assert mark["index"] == index

    run(story(), timeout=60)


def _snapshot() -> Any:
    from raftalloc.api.v1 import admin_pb2

    return admin_pb2.SnapshotRequest()


def _read(directory: str) -> str:
    with open(f"{directory}/stopped.json") as file:
        return file.read()
