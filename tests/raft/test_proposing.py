"""What is proposed between two ticks goes into the log at once, and nothing of it is lost or answered twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.errors import NotLeader, Overloaded
from raftalloc.raft import proposing
from tests.raft.replicas import Group
from tests.simulation.bench import Bench as Handled
from tests.simulation.bench import MemoryLog

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run


class Log(MemoryLog):
    def extend(self, commands: Any, term: int) -> int:  # type: ignore[override]
        first = len(self) + 1
        self += [(command, index, term) for index, command in enumerate(commands, first)]
        return first


class Bench(proposing.Proposing, Handled):
    def __init__(self) -> None:
        super().__init__([0, 1])
        self._SyncObj__raftLog: Any = Log(self._SyncObj__raftLog)
        self._SyncObj__commandsWaitingCommit = {}
        self.refused: list[Any] = []

    def refuse(self, answers: Any) -> None:
        self.refused += answers


def nobody(result: object, reason: int) -> None:
    """Is answered."""


def test_all_that_came_since_the_last_tick_goes_in_one_sending():
    leader = Bench()
    leader.lead()
    rounds = leader._round
    for command in (b"x", b"y", b"z"):
        assert leader.put_in_line(command, nobody)
    leader.take_commands()
    assert leader._SyncObj__raftLog[2:] == [(b"x", 3, 1), (b"y", 4, 1), (b"z", 5, 1)]
    assert leader._SyncObj__commandsWaitingCommit == {index: [(1, nobody)] for index in (3, 4, 5)}
    assert leader._round == rounds + 1
    leader.take_commands()
    assert leader._round == rounds + 1, "nothing came, nothing is sent"


def test_whoever_does_not_lead_refuses_all_of_it():
    follower = Bench()
    follower.put_in_line(b"x", nobody)
    follower.take_commands()
    assert follower.refused == [nobody]
    assert len(follower._SyncObj__raftLog) == 2


def test_too_many_are_refused_at_once(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposing, "PROPOSALS_MAX", 2)

    async def story() -> list[Any]:
        group = Group(tmp_path, 3)
        await group.start()
        leader = await group.leader()
        asked = [asyncio.ensure_future(leader.propose(b"%d" % number)) for number in range(3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        follower = next(each for each in group.replicas.values() if each is not leader)
        with pytest.raises(NotLeader):
            await follower.propose(b"there")
        await group.agree()
        await group.stop()
        return answers

    first, second, third = run(story())
    assert second[1] == first[1] + 1
    assert isinstance(third, Overloaded)
