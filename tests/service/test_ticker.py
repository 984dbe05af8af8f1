"""What the leader does by itself, in a time that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.core import views
from raftalloc.core.commands import RegisterNode
from raftalloc.core.events import LOST, READY
from raftalloc.errors import NoLeader, NotLeader
from raftalloc.service.ticker import Ticker
from tests.service.fakes import ME, Replica, ask, node

if TYPE_CHECKING:
    from tests.conftest import Run


class Ticking(Replica):
    def __init__(self) -> None:
        super().__init__()
        self.ticker = Ticker(
            engine=self.engine,
            consensus=self.consensus,
            submitter=self.submitter,
            clock=self.clock,
            cluster_clock=self.cluster_clock,
            replica_id=ME,
            heartbeat_timeout_ms=1_000,
        )

    async def open(self) -> Ticking:
        await super().open()
        await self.ticker.start()
        return self

    async def close(self) -> None:
        await self.ticker.close()
        await super().close()

    def state_of(self, node_id: str) -> int:
        found = views.node(self.engine.state, node_id)
        assert found is not None
        return found.state


def test_a_leader_takes_the_lead_without_being_asked(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.clock.advance(0.1)
        assert replica.commands == [["TakeLead"]]
        assert replica.ticker.has_lead
        await replica.close()

    run(story())


def test_whoever_is_told_that_it_leads_does_not_wait(run: Run):
    async def story() -> None:
        replica = Ticking()
        replica.consensus.follow("r2")
        await replica.open()
        await replica.clock.advance(1)
        replica.consensus.lead()
        replica.ticker.wake()
        await replica.clock.advance(0.001, step=0.001)
        assert replica.commands == [["TakeLead"]]
        await replica.close()

    run(story())


def test_nothing_is_proposed_while_nothing_is_due(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node(), ask())
        before = len(replica.decided)
        await replica.clock.advance(30, step=0.5)
        assert len(replica.decided) == before, "an allocation without an end needs no time"
        await replica.close()

    run(story())


def test_a_duration_ends_on_time_by_a_tick(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node(), ask(duration_ms=500))
        granted_ms = replica.engine.state.now_ms
        await replica.clock.advance(0.49)
        assert replica.engine.state.live_count() == 1
        await replica.clock.advance(0.06)
        assert replica.engine.state.live_count() == 0
        assert replica.commands[-1] == ["Tick"]
        assert replica.engine.state.now_ms - granted_ms <= 500 + 40
        await replica.close()

    run(story())


def test_while_a_lease_runs_the_logs_time_is_at_most_a_second_old(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node(), ask(lease_ttl_ms=60_000))
        for _ in range(10):
            await replica.clock.advance(1.1)
            assert replica.cluster_clock.now_ms() - replica.engine.state.now_ms <= 1_030
        assert 9 <= len([names for names in replica.commands if names == ["Tick"]]) <= 11
        await replica.close()

    run(story())


def test_a_follower_proposes_nothing(run: Run):
    async def story() -> None:
        replica = Ticking()
        replica.consensus.follow("r2")
        await replica.open()
        await replica.clock.advance(1)
        assert replica.consensus.proposed == []
        with pytest.raises(NotLeader):
            replica.ticker.heartbeat(["n1"])
        replica.consensus.follow("")
        with pytest.raises(NoLeader):
            replica.ticker.heartbeat(["n1"])
        await replica.close()

    run(story())


def test_a_silent_node_is_lost_once_and_returns_when_it_is_heard(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node("loud", static=False), node("silent", static=False))
        for _ in range(25):
            await replica.clock.advance(0.1)
            assert replica.ticker.heartbeat(["loud"]) == []
        assert replica.state_of("loud") == READY
        assert replica.state_of("silent") == LOST
        assert sum(names.count("MarkLost") for names in replica.commands) == 1
        replica.ticker.heartbeat(["silent"])
        await replica.clock.advance(0.2)
        assert replica.state_of("silent") == READY
        await replica.close()

    run(story())


def test_static_nodes_and_providers_are_never_lost(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        provider = RegisterNode(node_id="p", provider=True, capacity=(("api_quota", 1000),))
        await replica.submit(node("n", static=True), provider)
        await replica.clock.advance(5, step=0.1)
        assert replica.state_of("n") == replica.state_of("p") == READY
        assert replica.ticker.heartbeat(["n", "p"]) == []
        await replica.close()

    run(story())


def test_unknown_nodes_are_told_to_register(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node("n", static=False))
        assert replica.ticker.heartbeat(["x", "n", "y"]) == ["x", "y"]
        await replica.close()

    run(story())


def test_a_new_leader_gives_every_node_a_full_timeout(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node("n", static=False))
        await replica.clock.advance(0.9)
        replica.consensus.follow("r2")
        await replica.clock.advance(5, step=0.1)
        replica.consensus.lead()
        await replica.clock.advance(0.9)
        assert replica.state_of("n") == READY
        await replica.clock.advance(0.5)
        assert replica.state_of("n") == LOST
        await replica.close()

    run(story())


def test_a_lost_node_stays_lost_under_a_new_leader_until_it_is_heard(run: Run):
    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node("n", static=False))
        await replica.clock.advance(2)
        assert replica.state_of("n") == LOST
        replica.consensus.follow("r2")
        await replica.clock.advance(0.1)
        replica.consensus.lead()
        await replica.clock.advance(3, step=0.1)
        assert replica.state_of("n") == LOST
        assert sum(names.count("MarkLost") for names in replica.commands) == 1
        replica.ticker.heartbeat(["n"])
        await replica.clock.advance(0.2)
        assert replica.state_of("n") == READY
        await replica.close()

    run(story())


def test_removed_nodes_are_forgotten(run: Run):
    from raftalloc.core.commands import RemoveNode

    async def story() -> None:
        replica = await Ticking().open()
        await replica.submit(node("n", static=False))
        await replica.submit(RemoveNode("n"))
        await replica.clock.advance(3, step=0.1)
        assert not any("MarkLost" in names for names in replica.commands)
        assert replica.ticker.heartbeat(["n"]) == ["n"]
        await replica.close()

    run(story())
