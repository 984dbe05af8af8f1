"""What-if over the API: the answer is what then happens, nothing happens by asking, and bad steps are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    simulation_pb2,
    usage_pb2,
)
from raftalloc.core.codec import content_digest
from raftalloc.core.commands import BEST_FIT
from raftalloc.errors import InvalidRequest
from raftalloc.server.rpc import Call
from raftalloc.server.still import StillReads
from raftalloc.service.whatif import ENTRIES_MAX
from tests.server.asking import allocate_request, ask, opened, register
from tests.service.test_whatif import log, state_after

if TYPE_CHECKING:
    from pathlib import Path

    from raftalloc.server.embedded import LocalTransport
    from tests.conftest import Run

Step = simulation_pb2.WhatIfStep
PATH = "/raftalloc.api.v1.Simulation/WhatIf"


def drain(node_id: str) -> fleet_pb2.DrainRequest:
    return fleet_pb2.DrainRequest(node_id=node_id)


async def what_if(transport: LocalTransport, *steps: Any, **fields: Any) -> Any:
    request = simulation_pb2.WhatIfRequest(steps=list(steps), **fields)
    return await ask(transport, "Simulation/WhatIf", request)


def without_times(message: Any) -> Any:
    """An AllocateResponse but for when it was: the live one is a moment later, and some entries on."""
    plain = type(message)()
    plain.CopyFrom(message)
    plain.index = 0
    plain.queued.deadline_ms = 0
    for each in plain.granted.allocations:
        each.granted_ms = each.expires_ms = each.ends_ms = each.index = 0
    return plain


def test_what_it_answers_is_what_then_happens(run: Run, tmp_path: Path):
    plan: list[tuple[str, Any, str]] = [
        ("allocate", allocate_request(resources={"cpu": 6_000}), "Allocator/Allocate"),
        ("allocate", allocate_request(resources={"cpu": 6_000}), "Allocator/Allocate"),
        (
            "allocate",
            allocate_request(agent_id="b_1", resources={"cpu": 3_000}, wait_ms=600_000),
            "Allocator/Allocate",
        ),
        (
            "set_quota",
            quotas_pb2.SetQuotaRequest(agent_type="a", limits={"cpu": 7_000}),
            "Quotas/SetQuota",
        ),
        ("allocate", allocate_request(resources={"cpu": 2_000}), "Allocator/Allocate"),
        ("register_node", fleet_pb2.RegisterNodeRequest(
            node_id="n2", capacity={"cpu": 16_000, "memory": 16_384}, static=True
        ), "Fleet/RegisterNode"),
        ("drain", drain("n1"), "Fleet/Drain"),
        ("allocate", allocate_request(agent_id="c", count=3, gang=True), "Allocator/Allocate"),
        ("allocate", allocate_request(agent_id="c", resources={"disk": 1}), "Allocator/Allocate"),
        ("remove_node", fleet_pb2.RemoveNodeRequest(node_id="n1", force=True), "Fleet/RemoveNode"),
    ]  # fmt: skip

    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)
            tried = await what_if(transport, *(Step(**{name: given}) for name, given, _ in plan))
            for (name, given, call), outcome in zip(plan, tried.outcomes, strict=True):
                done = await ask(transport, call, given)
                if name == "allocate":
                    assert without_times(outcome.allocated) == without_times(done)
                    refused = outcome.allocated.HasField("rejected")
                    assert outcome.HasField("why") == (
                        refused or outcome.allocated.HasField("queued")
                    )
            usage = await ask(transport, "Usage/Utilization", usage_pb2.UtilizationRequest())
            assert usage.kinds == tried.after.kinds
            assert usage.active_allocations == tried.after.active_allocations
            assert tried.before.active_allocations == 0
            assert dict(tried.event_counts)["Granted"] == usage.active_allocations + 1

    run(story())


def test_nothing_is_done_by_asking(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)
            await ask(transport, "Allocator/Allocate", allocate_request(duration_ms=3_600_000))
            read = events_pb2.ReadRequest(from_index=1, page_size=1000)
            before = await ask(transport, "Events/Read", read)
            answer = await what_if(
                transport,
                Step(lose_node="n1"),
                Step(allocate=allocate_request(agent_id="x", count=50)),
                Step(advance_ms=7_200_000),
            )
            after = await ask(transport, "Events/Read", read)
            assert list(after.events) == list(before.events)
            assert answer.before.active_allocations == 1
            assert answer.after.active_allocations == 0
            assert answer.end_ms - answer.at_ms == 7_200_000
            status = await ask(transport, "Admin/Status", admin_pb2.StatusRequest(with_digest=True))
            assert (status.invariants, status.allocations_live) == ("ok", 1)

    run(story())


def test_a_fork_may_begin_at_a_moment_of_the_past(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)
            first = await ask(transport, "Allocator/Allocate", allocate_request())
            full = allocate_request(agent_id="b", resources={"cpu": 7_000})
            await ask(transport, "Allocator/Allocate", full)
            now = await what_if(transport, Step(allocate=full))
            then = await what_if(transport, Step(allocate=full), at_index=first.index)
            assert now.outcomes[0].allocated.HasField("rejected")
            assert then.outcomes[0].allocated.HasField("granted")
            assert then.index == first.index
            with pytest.raises(InvalidRequest):
                await what_if(transport, Step(allocate=full), at_index=10**6)

    run(story())


def test_who_waits_and_who_waits_no_more_is_told(run: Run, tmp_path: Path):
    async def story() -> None:
        async with opened(tmp_path) as transport:
            await register(transport)
            held = await ask(
                transport, "Allocator/Allocate", allocate_request(resources={"cpu": 8_000})
            )
            waits = []
            for agent in ("x", "y"):
                request = allocate_request(
                    agent_id=agent, resources={"cpu": 5_000}, wait_ms=600_000
                )
                waits.append(await ask(transport, "Allocator/Allocate", request))
            mine = held.granted.allocations[0].id
            answer = await what_if(
                transport,
                Step(release=allocator_pb2.ReleaseRequest(allocation_id=mine)),
                Step(cancel=allocator_pb2.CancelRequest(request_id=77_777)),
                Step(release=allocator_pb2.ReleaseRequest(allocation_id=mine)),
            )
            changes = {each.agent_id: each for each in answer.queue}
            assert (changes["x"].position_before, changes["x"].position_after) == (1, 0)
            assert (changes["y"].position_before, changes["y"].position_after) == (2, 1)
            assert answer.queue_count == 2
            codes = [each.rejected.code for each in answer.outcomes]
            assert codes == ["", "UNKNOWN_ALLOCATION", "ALREADY_ENDED"]

    run(story())


BAD: list[tuple[list[Any], str]] = [
    ([], "steps"),
    ([Step(advance_ms=1)] * 1001, "steps"),
    ([Step()], "steps[0].what"),
    ([Step(advance_ms=0)], "steps[0].advance_ms"),
    ([Step(advance_ms=-5)], "steps[0].advance_ms"),
    ([Step(advance_ms=1 << 62)], "steps[0].advance_ms"),
    ([Step(lose_node="")], "steps[0].lose_node.node_id"),
    ([Step(lose_node="x" * 300)], "steps[0].lose_node.node_id"),
    (
        [Step(advance_ms=1), Step(allocate=allocate_request(resources={"cpu": -1}))],
        "steps[1].allocate.resources.cpu",
    ),
    ([Step(allocate=allocate_request(count=10**9))], "steps[0].allocate.count"),
    ([Step(release=allocator_pb2.ReleaseRequest())], "steps[0].release.allocation_id"),
    (
        [Step(reserve=reservations_pb2.ReserveRequest(workflow_id="w"))],
        "steps[0].reserve.start_ms",
    ),
    (
        [Step(cancel_reservation=reservations_pb2.CancelReservationRequest(id=-1))],
        "steps[0].cancel_reservation.id",
    ),
    ([Step(drain=fleet_pb2.DrainRequest())], "steps[0].drain.node_id"),
    ([Step(delete_quota=quotas_pb2.DeleteQuotaRequest())], "steps[0].delete_quota.agent_type"),
]


@pytest.mark.parametrize(("steps", "field"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_step_is_named_and_leaves_the_state_as_it_was(run: Run, steps: list[Any], field: str):
    async def story() -> None:
        reads = StillReads(default_policy=BEST_FIT)
        reads.still.state = state_after(log(1))
        digest = content_digest(reads.still.state)
        request = simulation_pb2.WhatIfRequest(steps=steps)
        with pytest.raises(InvalidRequest) as refused:
            await reads.answer(PATH, request.SerializeToString(), "local", 0)
        assert refused.value.field == field
        assert refused.value.remedy
        assert content_digest(reads.still.state) == digest

    run(story())


def test_every_sort_of_step_can_be_tried_on_any_state(run: Run):
    """Whatever the state says to it: nobody is asked for more than names that may not exist."""
    steps = [
        Step(allocate=allocate_request(count=5, wait_ms=1_000)),
        Step(renew=allocator_pb2.RenewRequest(allocation_id=1)),
        Step(resize=allocator_pb2.ResizeRequest(allocation_id=1, resources={"cpu": 500})),
        Step(release=allocator_pb2.ReleaseRequest(allocation_id=1)),
        Step(cancel=allocator_pb2.CancelRequest(request_id=1)),
        Step(reserve=reservations_pb2.ReserveRequest(
            workflow_id="w", resources={"cpu": 1_000}, start_ms=1 << 40, duration_ms=1_000
        )),
        Step(cancel_reservation=reservations_pb2.CancelReservationRequest(id=99)),
        Step(register_node=fleet_pb2.RegisterNodeRequest(node_id="n9", capacity={"cpu": 1_000})),
        Step(cordon=fleet_pb2.CordonRequest(node_id="n9")),
        Step(uncordon=fleet_pb2.UncordonRequest(node_id="n9")),
        Step(lose_node="n9"),
        Step(return_node="n9"),
        Step(drain=fleet_pb2.DrainRequest(node_id="n9")),
        Step(remove_node=fleet_pb2.RemoveNodeRequest(node_id="nobody")),
        Step(set_quota=quotas_pb2.SetQuotaRequest(agent_type="t9", limits={"cpu": 0})),
        Step(delete_quota=quotas_pb2.DeleteQuotaRequest(agent_type="t9")),
        Step(set_queue=queue_pb2.SetQueueRequest(ageing_ms=60_000)),
        Step(advance_ms=60_000),
    ]  # fmt: skip

    async def story() -> None:
        reads = StillReads(default_policy=BEST_FIT)
        reads.still.state = state_after(log(2))
        digest = content_digest(reads.still.state)
        request = simulation_pb2.WhatIfRequest(steps=steps)
        data = await reads.answer(PATH, request.SerializeToString(), "local", 0)
        answer = simulation_pb2.WhatIfResponse.FromString(data)
        assert len(answer.outcomes) == len(steps)
        assert content_digest(reads.still.state) == digest

    run(story())
    covered = {step.WhichOneof("what") for step in steps}
    every = Step.DESCRIPTOR.oneofs_by_name["what"].fields
    assert sorted(map(str, covered)) == sorted(field.name for field in every)


def test_what_lets_too_much_happen_is_refused_with_its_step(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raftalloc.service.whatif.ENTRIES_MAX", 3)

    async def story() -> None:
        reads = StillReads(default_policy=BEST_FIT)
        request = simulation_pb2.WhatIfRequest(steps=[Step(lose_node="n")] * 9)
        with pytest.raises(InvalidRequest) as refused:
            await reads.answer(PATH, request.SerializeToString(), "local", 0)
        assert refused.value.field == "steps[3].lose_node"
        assert ENTRIES_MAX > 1000
        assert Call().principal

    run(story())
