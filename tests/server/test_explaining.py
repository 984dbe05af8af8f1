"""Explain over the API: of what waits, was granted or refused, now and then."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import allocator_pb2, events_pb2, fleet_pb2, queue_pb2, types_pb2
from raftalloc.errors import InvalidRequest, Rejected
from raftalloc.server.render_events import detail_json
from tests.core import specimens
from tests.server.asking import allocate_request, ask, opened, register

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Run

Explain = allocator_pb2.ExplainRequest
FITS = allocator_pb2.ExplainResponse.VERDICT_FITS_NOW
MUST_WAIT = allocator_pb2.ExplainResponse.VERDICT_MUST_WAIT


def test_a_grant_a_wait_and_a_refusal_are_explained_by_what_the_decision_saw(
    run: Run, tmp_path: Path
):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)  # n1: 8 cores
            other = fleet_pb2.RegisterNodeRequest(
                node_id="n2", capacity={"cpu": 16_000, "memory": 16_384}, static=True
            )
            await ask(transport, "Fleet/RegisterNode", other)

            async def told(**fields: Any) -> Any:
                return await ask(transport, "Allocator/Explain", Explain(**fields))

            granted = await ask(
                transport, "Allocator/Allocate", allocate_request(resources={"cpu": 8_000})
            )
            first = granted.granted.allocations[0]
            large = allocate_request(agent_id="b", resources={"cpu": 16_000})
            await ask(transport, "Allocator/Allocate", large)
            waits = allocate_request(agent_id="c", resources={"cpu": 3_000}, wait_ms=600_000)
            queued = (await ask(transport, "Allocator/Allocate", waits)).queued
            refused = await ask(
                transport, "Allocator/Allocate", allocate_request(resources={"cpu": 1_000})
            )

            why = await told(request_id=first.id)
            assert why.verdict == FITS
            assert (why.decision.event, why.decision.node_id) == ("Granted", "n1")
            assert why.decision.runner_up_node_id == "n2"
            assert (why.chosen_node_id, why.feasible_count) == ("n1", 2)

            why = await told(request_id=queued.request_id)
            assert (why.verdict, why.position) == (MUST_WAIT, 1)
            assert [change.what for change in why.changes] == ["FREE"]
            assert why.changes[0].amount == 3_000
            assert "give 3 of cpu" in why.changes[0].message

            page = await ask(
                transport,
                "Events/Read",
                events_pb2.ReadRequest(from_index=refused.index, page_size=1),
            )
            (event,) = [each for each in page.events if each.type == "Refused"]
            why = await told(event_index=event.index, event_sequence=event.sequence)
            assert why.verdict == MUST_WAIT
            assert why.decision.event == "Refused"
            assert [b.code for each in why.sets for b in each.blockers] == ["NO_CAPACITY"]

            why = await told(request_id=queued.request_id, at_index=refused.index)
            assert why.verdict == MUST_WAIT
            with pytest.raises(Rejected) as unknown:
                await told(request_id=987_654)
            assert unknown.value.code == "NOT_WAITING"
            for bad in (
                {"request_id": 1, "event_index": 2},
                {"event_index": 10**9},
                {"event_index": event.index, "event_sequence": 99},
                {"event_index": event.index, "event_sequence": -1},
            ):
                with pytest.raises(InvalidRequest):
                    await told(**bad)

    run(story())


def test_who_was_preempted_is_told_for_whom_and_why_that_could_not_start(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)
            settings = queue_pb2.SetQueueRequest(
                preemption=queue_pb2.QueueSettings.PREEMPTION_LOWER_PRIORITY,
                min_run_ms=0,
                grace_ms=600_000,
            )
            await ask(transport, "Queue/SetQueue", settings)
            low = allocate_request(resources={"cpu": 8_000}, priority=types_pb2.PRIORITY_LOW)
            victim = (await ask(transport, "Allocator/Allocate", low)).granted.allocations[0].id
            high = allocate_request(
                agent_id="urgent",
                resources={"cpu": 3_000},
                priority=types_pb2.PRIORITY_CRITICAL,
                wait_ms=3_600_000,
            )
            queued = (await ask(transport, "Allocator/Allocate", high)).queued
            why = await ask(transport, "Allocator/Explain", Explain(request_id=victim))
            assert (why.decision.event, why.decision.subject) == ("Preempting", victim)
            assert why.decision.preemptor_id == queued.request_id
            assert (why.decision.agent_id, why.verdict) == ("urgent", MUST_WAIT)
            assert why.changes[0].amount == 3_000

    run(story())


def test_every_event_there_is_can_be_shown_as_json():
    for item in specimens.happened():
        detail = json.loads(detail_json(item.event))
        assert sorted(detail) == sorted(each.name for each in fields(item.event))
