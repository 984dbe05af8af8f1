"""From commands to outcomes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.core.commands import Asked, TakeLead
from raftalloc.core.records import GRANTED, REJECTED
from raftalloc.errors import (
    InvalidRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ReplicaFailed,
)
from tests.service.fakes import Replica, ask, node, settle

if TYPE_CHECKING:
    from tests.conftest import Run


def test_the_first_command_of_a_leader_is_take_lead_alone(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node(), ask())
        assert replica.commands == [["TakeLead"], ["RegisterNode", "Allocate"]]
        assert replica.submitter.has_lead
        await replica.close()

    run(story())


def test_outcomes_come_in_the_order_of_the_commands_with_their_allocations(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        answer = await replica.submitter.submit(
            [Asked(node(cpu=2)), Asked(ask("a")), Asked(ask("b", cpu=9)), Asked(ask("c"))]
        )
        assert [one.status for one in answer.outcomes][1:] == [GRANTED, REJECTED, GRANTED]
        assert [[a.agent_id for a in one] for one in answer.granted] == [[], ["a"], [], ["c"]]
        assert answer.index == replica.engine.index
        await replica.close()

    run(story())


def test_what_comes_while_an_entry_is_under_way_is_the_next_entry(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        first = asyncio.create_task(replica.submit(ask("first")))
        await settle()
        others = [asyncio.create_task(replica.submit(ask(f"a{number}"))) for number in range(5)]
        await settle()
        assert replica.submitter.waiting == 6
        replica.consensus.gate.set()
        await asyncio.gather(first, *others)
        assert replica.commands[2:] == [["Allocate"], ["Allocate"] * 5]
        assert replica.submitter.waiting == 0
        await replica.close()

    run(story())


def test_a_batch_ends_at_its_number_of_commands_and_a_submit_is_never_split(run: Run):
    async def story() -> None:
        replica = await Replica(batch_commands=4).open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        tasks = [asyncio.create_task(replica.submit(ask()))]
        await settle()
        tasks += [asyncio.create_task(replica.submit(ask(), ask(), ask())) for _ in range(3)]
        await settle()
        replica.consensus.gate.set()
        await asyncio.gather(*tasks)
        assert [len(names) for names in replica.commands[2:]] == [1, 3, 3, 3]
        await replica.close()

    run(story())


def test_a_batch_ends_at_the_members_that_its_commands_ask_for(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        tasks = [asyncio.create_task(replica.submit(ask()))]
        await settle()
        counts = (1_500, 400, 200, 9_000, 1)
        tasks += [asyncio.create_task(replica.submit(ask(count=count))) for count in counts]
        await settle()
        replica.consensus.gate.set()
        await asyncio.gather(*tasks)
        assert [len(entry) for entry in replica.commands[3:]] == [2, 1, 1, 1]
        await replica.close()

    run(story())


def test_a_batch_ends_at_its_bytes(run: Run):
    async def story() -> None:
        replica = await Replica(batch_bytes=3_000).open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        tasks = [asyncio.create_task(replica.submit(ask()))]
        await settle()
        tasks += [
            asyncio.create_task(replica.submit(ask(f"{number}" + "x" * 250)))
            for number in range(40)
        ]
        await settle()
        replica.consensus.gate.set()
        await asyncio.gather(*tasks)
        assert all(len(entry) <= 3_000 for entry in replica.consensus.proposed)
        agents = replica.asked_agents(3)
        assert agents == [f"{number}" + "x" * 250 for number in range(40)]
        await replica.close()

    run(story())


def test_what_was_cancelled_before_its_entry_was_made_is_not_proposed(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        first = asyncio.create_task(replica.submit(ask("first")))
        await settle()
        gone = asyncio.create_task(replica.submit(ask("gone")))
        await settle()
        gone.cancel()
        await settle()
        assert replica.submitter.waiting == 1
        replica.consensus.gate.set()
        await first
        await replica.submit(ask("last"))
        agents = replica.asked_agents(2)
        assert agents == ["first", "last"]
        await replica.close()

    run(story())


def test_a_follower_refuses_at_once_and_names_the_leader(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        replica.consensus.follow("r2")
        with pytest.raises(NotLeader) as refusal:
            await replica.submit(ask())
        assert refusal.value.leader == "r2"
        replica.consensus.follow("")
        with pytest.raises(NoLeader):
            await replica.submit(ask())
        assert replica.consensus.proposed == []
        await replica.close()

    run(story())


def test_too_much_waiting_is_shed_before_it_is_taken(run: Run):
    async def story() -> None:
        replica = await Replica(queue_commands=3).open()
        replica.consensus.gate.clear()
        tasks = [asyncio.create_task(replica.submit(ask())) for _ in range(3)]
        await settle()
        with pytest.raises(Overloaded, match="3 commands are waiting"):
            await replica.submit(ask())
        replica.consensus.gate.set()
        await asyncio.gather(*tasks)
        await replica.submit(ask())
        await replica.close()

    run(story())


@pytest.mark.parametrize("count", [0, 5])
def test_a_submit_of_no_commands_or_too_many_is_malformed(run: Run, count: int):
    async def story() -> None:
        replica = await Replica(batch_commands=4).open()
        with pytest.raises(InvalidRequest, match=f"{count} commands; send 1 to 4"):
            await replica.submit(*[ask()] * count)
        await replica.close()

    run(story())


def test_all_callers_of_a_batch_hear_that_its_outcome_is_unknown_and_the_next_goes_on(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        replica.consensus.fail_with = OutcomeUnknown("the leader lost its place")
        results = await asyncio.gather(
            replica.submit(ask()), replica.submit(ask()), return_exceptions=True
        )
        assert [type(one) for one in results] == [OutcomeUnknown, OutcomeUnknown]
        replica.consensus.fail_with = None
        await replica.submit(ask())
        await replica.close()

    run(story())


def test_a_leader_that_comes_back_takes_the_lead_again_with_the_gap(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        now_ms = replica.engine.state.now_ms
        replica.consensus.follow("r2")
        replica.cluster_clock.hear(now_ms + 1_000)
        replica.clock.now += 0.4
        replica.consensus.lead()
        assert not replica.submitter.has_lead
        await replica.submit(ask())
        took = replica.decided[2].asked[0].command
        assert replica.commands[2] == ["TakeLead"]
        assert isinstance(took, TakeLead)
        assert took.gap_ms == 400
        assert replica.decided[2].at_ms == now_ms + 1_400
        await replica.close()

    run(story())


def test_a_lead_that_cannot_be_taken_is_not_tried_in_circles(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        replica.consensus.fail_with = NoLeader("standing back")
        with pytest.raises(NoLeader):
            await replica.submit(ask())
        assert len(replica.consensus.proposed) == 1
        replica.consensus.fail_with = None
        await replica.submit(ask())
        assert replica.commands == [["TakeLead"], ["Allocate"]]
        await replica.close()

    run(story())


def test_an_index_that_is_stored_already_cannot_be_given_to_a_new_entry(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        replica.consensus.apply = lambda index, entry: None
        with pytest.raises(ReplicaFailed):
            await replica.submit(ask())
        assert "behind the event store" in str(replica.fatal[0])
        with pytest.raises(ReplicaFailed):
            await replica.submit(ask())
        await replica.close()

    run(story())


def test_closing_refuses_what_waits(run: Run):
    async def story() -> None:
        replica = await Replica().open()
        await replica.submit(node())
        replica.consensus.gate.clear()
        under_way = asyncio.create_task(replica.submit(ask()))
        await settle()
        waiting = asyncio.create_task(replica.submit(ask()))
        await settle()
        await replica.close()
        results = await asyncio.gather(under_way, waiting, return_exceptions=True)
        assert [type(one) for one in results] == [OutcomeUnknown, NoLeader]

    run(story())
