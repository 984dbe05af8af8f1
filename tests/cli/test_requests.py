"""submit, watch, explain and allocation ask what was typed, and show what was answered."""

from __future__ import annotations

import itertools
import json

import pytest

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    types_pb2,
)
from raftalloc.cli.output import Exit

LIVE = types_pb2.Allocation.STATE_LIVE
WAITING = types_pb2.Allocation.STATE_WAITING
_indices = itertools.count(100)


def allocation(number: int = 7, **fields) -> types_pb2.Allocation:
    given = {
        "request_id": number,
        "state": LIVE,
        "agent_id": "auditor_01",
        "agent_type": "auditor",
        "priority": types_pb2.PRIORITY_HIGH,
        "resources": {"cpu": 4000},
        "node_id": "n-1",
        "suppliers": {"cpu": "n-1"},
        "fencing_token": 30 + number,
        **fields,
    }
    return types_pb2.Allocation(id=number, **given)


def granted(*allocations: types_pb2.Allocation) -> allocator_pb2.AllocateResponse:
    return allocator_pb2.AllocateResponse(
        granted=allocator_pb2.Granted(allocations=allocations), index=5
    )


def queued(**fields) -> allocator_pb2.AllocateResponse:
    given = {"request_id": 7, "waiting_count": 1, "position": 3, "deadline_ms": 1000, **fields}
    return allocator_pb2.AllocateResponse(queued=allocator_pb2.Queued(**given), index=5)


def event(kind: str, detail: dict) -> events_pb2.WatchResponse:
    """An event of an entry of its own, behind those made before."""
    index = next(_indices)
    made = events_pb2.Event(index=index, type=kind, detail_json=json.dumps(detail))
    return events_pb2.WatchResponse(events=[made], index=index)


# submit


def test_submit_asks_for_what_was_typed(group, raftalloc):
    group.answer("Allocate", granted(allocation()))
    shown = raftalloc(
        *("submit", "cpu=4", "memory=8", "api_quota=1000", "-a", "auditor_01", "-w", "wf"),
        *("-p", "Critical", "--count", "2", "--gang", "--duration", "1h", "--lease", "30s"),
        *("--wait", "5s", "-c", "zone=a,b", "-c", "generation>3", "--gpu-model", "A100"),
        *("--policy", "worst_fit", "--reservation", "9", "--key", "once", "--type", "auditor"),
    )
    assert shown.exit_code == Exit.OK, shown.stderr
    asked = group.only("Allocate")
    assert dict(asked.resources) == {"cpu": 4000, "memory": 8192, "api_quota": 1_000_000}
    assert (asked.agent_id, asked.agent_type, asked.workflow_id) == ("auditor_01", "auditor", "wf")
    assert asked.priority == types_pb2.PRIORITY_CRITICAL
    assert (asked.count, asked.gang) == (2, True)
    assert (asked.duration_ms, asked.lease_ttl_ms, asked.wait_ms) == (3_600_000, 30_000, 5000)
    assert [each.key for each in asked.constraints] == ["zone", "generation"]
    assert list(asked.gpu_models) == ["A100"]
    assert asked.policy == types_pb2.POLICY_WORST_FIT
    assert (asked.reservation_id, asked.idempotency.key) == (9, "once")


def test_submit_shows_the_grant(group, raftalloc):
    group.answer("Allocate", granted(allocation(7)))
    shown = raftalloc("submit", "cpu=4")
    assert "LIVE" in shown.stdout
    assert "cpu=4" in shown.stdout
    assert "37" in shown.stdout, "the fencing token"


def test_submit_exits_with_1_and_the_reason_when_it_is_refused(group, raftalloc):
    refused = types_pb2.Rejection(code="NO_CAPACITY", message="no room", remedy="wait")
    group.answer("Allocate", allocator_pb2.AllocateResponse(rejected=refused))
    shown = raftalloc("submit", "cpu=4")
    assert shown.exit_code == Exit.NO
    assert "no room" in shown.stderr
    assert "wait" in shown.stderr


def test_submit_exits_with_its_own_code_when_it_waits(group, raftalloc):
    group.answer("Allocate", queued())
    shown = raftalloc("submit", "cpu=4", "--wait", "1m")
    assert shown.exit_code == Exit.QUEUED
    assert "number 3 in the queue" in shown.stdout


def test_submit_follow_needs_wait(group, raftalloc):
    shown = raftalloc("submit", "cpu=4", "--follow")
    assert shown.exit_code == Exit.USAGE
    assert "--wait" in shown.stderr


def test_submit_follow_stays_until_it_is_granted(group, raftalloc):
    group.answer("Allocate", queued())
    other = event("Granted", {"request_id": 6, "allocation_id": 6})
    ours = event("Granted", {"request_id": 7, "allocation_id": 7})
    group.stream("Watch", [other, ours])
    group.answer("Get", lambda asked: allocator_pb2.GetResponse(allocation=allocation(asked.id)))
    shown = raftalloc("submit", "cpu=4", "--wait", "1m", "--follow", "--json")
    assert shown.exit_code == Exit.OK
    answer = json.loads(shown.stdout)
    assert [each["id"] for each in answer["granted"]["allocations"]] == [7]
    assert group.only("Watch").from_index == 5, "from the entry that queued it"


def test_submit_follow_waits_for_every_member(group, raftalloc):
    first = granted(allocation(7))
    first.granted.queued.CopyFrom(queued(waiting_count=2).queued)
    group.answer("Allocate", first)
    group.stream(
        "Watch",
        [event("Granted", {"request_id": 7, "allocation_id": number}) for number in (7, 8, 9)],
    )
    group.answer("Get", lambda asked: allocator_pb2.GetResponse(allocation=allocation(asked.id)))
    shown = raftalloc("submit", "cpu=4", "--count", "3", "--wait", "1m", "--follow", "--json")
    allocations = json.loads(shown.stdout)["granted"]["allocations"]
    assert [each["id"] for each in allocations] == [7, 8, 9]


def test_submit_follow_exits_with_1_when_it_is_withdrawn(group, raftalloc):
    group.answer("Allocate", queued(why=types_pb2.Rejection(message="no room")))
    group.stream("Watch", [event("Withdrawn", {"request_id": 7, "reason": "DEADLINE"})])
    shown = raftalloc("submit", "cpu=4", "--wait", "1m", "--follow")
    assert shown.exit_code == Exit.NO
    assert "DEADLINE" in shown.stderr
    assert "no room" in shown.stderr


def test_a_gang_of_one_is_refused(group, raftalloc):
    assert raftalloc("submit", "cpu=4", "--gang").exit_code == Exit.USAGE
    assert group.asked == []


# watch


def test_watch_follows_until_all_have_ended(group, raftalloc):
    group.answer("Get", lambda asked: allocator_pb2.GetResponse(allocation=allocation(asked.id)))
    group.answer("Status", admin_pb2.StatusResponse(applied_index=40))
    group.stream(
        "Watch",
        [
            event("Renewed", {"allocation_id": 7}),
            event("Ended", {"allocation_id": 99, "reason": "RELEASED"}),
            event("Ended", {"allocation_id": 7, "reason": "RELEASED"}),
            event("Ended", {"allocation_id": 8, "reason": "LEASE_EXPIRED"}),
        ],
    )
    shown = raftalloc("watch", "7", "8", "--json")
    assert shown.exit_code == Exit.OK
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [(line["type"], line["detail"]["allocation_id"]) for line in lines] == [
        ("Renewed", 7),
        ("Ended", 7),
        ("Ended", 8),
    ]
    assert group.only("Watch").from_index == 41


def test_watch_until_granted_exits_with_1_when_it_is_withdrawn(group, raftalloc):
    waits = allocation(7, state=WAITING, waiting_count=1)
    group.answer("Get", allocator_pb2.GetResponse(allocation=waits))
    group.stream("Watch", [event("Withdrawn", {"request_id": 7, "reason": "CANCELLED"})])
    assert raftalloc("watch", "7", "--until", "granted").exit_code == Exit.NO


def test_watch_of_what_waits_goes_on_with_its_members(group, raftalloc):
    waits = allocation(7, state=WAITING, waiting_count=2)
    group.answer("Get", allocator_pb2.GetResponse(allocation=waits))
    group.stream(
        "Watch",
        [
            event("Granted", {"request_id": 7, "allocation_id": 7}),
            event("Granted", {"request_id": 7, "allocation_id": 8}),
            event("Ended", {"allocation_id": 8, "reason": "RELEASED"}),
            event("Ended", {"allocation_id": 7, "reason": "RELEASED"}),
        ],
    )
    shown = raftalloc("watch", "7", "--json")
    assert shown.exit_code == Exit.OK
    assert len(shown.stdout.splitlines()) == 4


def test_watch_of_what_has_ended_ends_at_once(group, raftalloc):
    ended = allocation(7, state=types_pb2.Allocation.STATE_ENDED, end_reason="RELEASED")
    group.answer("Get", allocator_pb2.GetResponse(allocation=ended))
    assert raftalloc("watch", "7").exit_code == Exit.OK
    assert raftalloc("watch", "7", "--until", "granted").exit_code == Exit.NO
    assert group.requests("Watch") == []


# explain


def explained(verdict: str) -> allocator_pb2.ExplainResponse:
    return allocator_pb2.ExplainResponse(
        verdict=allocator_pb2.ExplainResponse.Verdict.Value(f"VERDICT_{verdict}"),
        blockers=[
            allocator_pb2.Blocker(code="NO_CAPACITY", kind="cpu", asked=4000, available=1500)
        ],
        nodes_count=10,
        filtered={"state": 0, "capacity.cpu": 10},
    )


@pytest.mark.parametrize(
    ("verdict", "code"), [("FITS_NOW", 0), ("MUST_WAIT", 1), ("NEVER_FITS", 1)]
)
def test_explain_exits_with_1_unless_it_fits_now(verdict, code, group, raftalloc):
    group.answer("Explain", explained(verdict))
    shown = raftalloc("explain", "cpu=4")
    assert shown.exit_code == code
    assert "1.5" in shown.stdout, "what there is, in whole units"
    assert "10 by capacity.cpu" in shown.stdout
    assert "by state" not in shown.stdout, "a filter that nothing fell to is no news"


def test_explain_takes_a_waiting_request_or_a_hypothetical_one(group, raftalloc):
    group.answer("Explain", explained("MUST_WAIT"))
    raftalloc("explain", "17")
    raftalloc("explain", "cpu=4", "-p", "low")
    by_id, by_request = group.requests("Explain")
    assert by_id.request_id == 17
    assert not by_id.HasField("request")
    assert by_request.request.resources["cpu"] == 4000
    assert by_request.request.priority == types_pb2.PRIORITY_LOW


# allocation


def test_allocations_are_listed_page_by_page_and_cut_at_the_limit(group, raftalloc):
    def page(asked):
        first = asked.page_after == 0
        numbers = (1, 2) if first else (3, 4)
        return allocator_pb2.ListResponse(
            allocations=[allocation(number) for number in numbers],
            next_page_after=2 if first else 0,
        )

    group.answer("List", page)
    everything = json.loads(raftalloc("allocation", "list", "--limit", "0", "--json").stdout)
    assert [each["id"] for each in everything["allocations"]] == [1, 2, 3, 4]
    some = json.loads(raftalloc("allocation", "list", "--limit", "3", "--json").stdout)
    assert [each["id"] for each in some["allocations"]] == [1, 2, 3]
    assert some["next_page_after"] == 3
    assert "the first 3" in raftalloc("allocation", "list", "--limit", "3").stdout


def test_allocations_are_filtered(group, raftalloc):
    group.answer("List", allocator_pb2.ListResponse())
    raftalloc("allocation", "list", "--agent", "a", "--node", "n", "--state", "waiting")
    asked = group.only("List")
    assert (asked.agent_id, asked.node_id, asked.state) == ("a", "n", WAITING)


def test_release_looks_holder_and_token_up_unless_they_are_given(group, raftalloc):
    group.answer("Get", allocator_pb2.GetResponse(allocation=allocation(7)))
    group.answer("Release", allocator_pb2.ReleaseResponse(index=9))
    assert raftalloc("allocation", "release", "7").exit_code == Exit.OK
    assert raftalloc("allocation", "release", "7", "--agent", "b", "--token", "1").exit_code == 0
    looked_up, given = group.requests("Release")
    assert (looked_up.agent_id, looked_up.fencing_token) == ("auditor_01", 37)
    assert (given.agent_id, given.fencing_token) == ("b", 1)
    assert len(group.requests("Get")) == 1


def test_renew_asks_for_an_extension(group, raftalloc):
    group.answer("Get", allocator_pb2.GetResponse(allocation=allocation(7)))
    group.answer("Renew", allocator_pb2.RenewResponse(allocation=allocation(7)))
    assert raftalloc("allocation", "renew", "7", "--extend", "30m").exit_code == Exit.OK
    assert group.only("Renew").extension_ms == 1_800_000


def test_cancel_is_done_in_the_name_of_the_one_who_asked(group, raftalloc):
    group.answer("Get", allocator_pb2.GetResponse(allocation=allocation(7)))
    group.answer("Cancel", allocator_pb2.CancelResponse(cancelled_count=2))
    assert "2 withdrawn" in raftalloc("allocation", "cancel", "7").stdout
    assert group.only("Cancel").agent_id == "auditor_01"
