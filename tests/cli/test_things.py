"""node, quota, reservation, events, status, usage, top and admin ask what was typed, and show what was answered."""

from __future__ import annotations

import json

import pytest

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.cli.output import Exit
from raftalloc.errors import Rejected, Unavailable

# node


def test_a_node_is_registered_with_devices_and_attributes(group, raftalloc):
    node = fleet_pb2.Node(node_id="n-1", capacity={"cpu": 16_000}, state=fleet_pb2.Node.STATE_READY)
    group.answer("RegisterNode", fleet_pb2.RegisterNodeResponse(node=node))
    shown = raftalloc(
        *("node", "register", "n-1", "cpu=16", "memory=64", "--gpu", "A100:2", "--gpu", "T4"),
        *("-a", "zone=a", "--heartbeat"),
    )
    assert shown.exit_code == Exit.OK, shown.stderr
    asked = group.only("RegisterNode")
    assert dict(asked.capacity) == {"cpu": 16_000, "memory": 65_536}
    assert list(asked.devices) == ["A100", "A100", "T4"]
    assert dict(asked.attributes) == {"zone": "a"}
    assert not asked.static


def test_a_node_of_gpus_alone_needs_no_capacity(group, raftalloc):
    group.answer("RegisterNode", fleet_pb2.RegisterNodeResponse())
    assert raftalloc("node", "register", "g", "--gpu", "T4").exit_code == Exit.OK
    assert raftalloc("node", "register", "g").exit_code == Exit.USAGE


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "remove", "drain"])
def test_nodes_are_changed_by_name(verb, group, raftalloc):
    method = {"remove": "RemoveNode"}.get(verb, verb.capitalize())
    group.answer(method, fleet_pb2.NodeChangeResponse(index=3))
    shown = raftalloc("node", verb, "n-1")
    assert shown.exit_code == Exit.OK
    assert "n-1" in shown.stdout
    assert group.only(method).node_id == "n-1"


def test_a_drain_may_have_a_deadline_by_the_clock_of_the_group(group, raftalloc):
    ahead = 4_000_000_000_000
    group.answer("Utilization", usage_pb2.UtilizationResponse(at_ms=ahead))
    group.answer("Drain", fleet_pb2.NodeChangeResponse())
    raftalloc("node", "drain", "n-1", "--deadline", "+10m")
    assert group.only("Drain").deadline_ms == ahead + 600_000


def test_a_node_that_is_not_there_is_a_no(group, raftalloc):
    group.answer("ListNodes", fleet_pb2.ListNodesResponse())
    shown = raftalloc("node", "show", "n-9")
    assert shown.exit_code == Exit.NO
    assert "n-9" in shown.stderr


def test_a_node_is_shown_with_its_devices(group, raftalloc):
    node = fleet_pb2.Node(
        node_id="n-1",
        state=fleet_pb2.Node.STATE_DRAINING,
        capacity={"cpu": 16_000, "gpu": 1000},
        used={"cpu": 4000},
        devices=[fleet_pb2.Device(model="A100", used=250)],
        drain_deadline_ms=1_796_115_600_000,
    )
    group.answer("ListNodes", fleet_pb2.ListNodesResponse(nodes=[node]))
    shown = raftalloc("node", "show", "n-1").stdout
    for words in ("DRAINING", "A100", "25 %", "2026-12-01 09:00:00"):
        assert words in shown


def test_a_heartbeat_of_an_unknown_node_is_a_no(group, raftalloc):
    group.answer("Heartbeat", fleet_pb2.HeartbeatResponse(unknown_node_ids=["b"]))
    shown = raftalloc("node", "heartbeat", "a", "b")
    assert shown.exit_code == Exit.NO
    assert "b is unknown" in shown.stdout


# quota


def test_quotas_are_set_and_shown_in_whole_units(group, raftalloc):
    kind = quotas_pb2.QuotaUsage.Kind(kind="cpu", used=1500, limited=True, limit=16_000)
    usage = quotas_pb2.QuotaUsage(agent_type="auditor", parent="root", kinds=[kind])
    group.answer("SetQuota", quotas_pb2.SetQuotaResponse(quota=usage))
    group.answer("ListQuotas", quotas_pb2.ListQuotasResponse(quotas=[usage]))
    assert raftalloc("quota", "set", "auditor", "cpu=16", "api_quota=0").exit_code == Exit.OK
    assert dict(group.only("SetQuota").limits) == {"cpu": 16_000, "api_quota": 0}
    assert "cpu=1.5/16" in raftalloc("quota", "list").stdout


def test_a_quota_without_limits_takes_them_all_away(group, raftalloc):
    group.answer("SetQuota", quotas_pb2.SetQuotaResponse())
    assert raftalloc("quota", "set", "auditor", "--parent", "team").exit_code == Exit.OK
    asked = group.only("SetQuota")
    assert (dict(asked.limits), asked.parent) == ({}, "team")


def test_a_quota_in_use_is_not_deleted(group, raftalloc):
    group.answer("DeleteQuota", Rejected("QUOTA_IN_USE", "in use"))
    assert raftalloc("quota", "delete", "auditor").exit_code == Exit.NO


# reservation


def test_a_reservation_is_booked_from_now_on_or_at_a_time(group, raftalloc):
    made = reservations_pb2.Reservation(id=3, start_ms=1000, end_ms=2000)
    group.answer("Reserve", reservations_pb2.ReserveResponse(reservation=made))
    group.answer("Utilization", usage_pb2.UtilizationResponse())
    words = ("reservation", "create", "wf", "cpu=8", "gpu=1", "--duration", "2h")
    assert raftalloc(*words, "--start", "2026-12-01T09:00:00Z").exit_code == Exit.OK
    asked = group.only("Reserve")
    assert (asked.start_ms, asked.duration_ms) == (1_796_115_600_000, 7_200_000)
    assert dict(asked.resources) == {"cpu": 8000, "gpu": 1000}


def test_reservations_are_listed_and_cancelled(group, raftalloc):
    booked = reservations_pb2.Reservation(
        id=3,
        state=reservations_pb2.Reservation.STATE_BOOKED,
        workflow_id="wf",
        start_ms=1,
        end_ms=2,
    )
    group.answer(
        "Reservations/List", reservations_pb2.ListReservationsResponse(reservations=[booked])
    )
    group.answer("Reservations/Cancel", reservations_pb2.CancelReservationResponse(index=4))
    assert "BOOKED" in raftalloc("reservation", "list").stdout
    assert raftalloc("reservation", "cancel", "3").exit_code == Exit.OK
    assert group.only("Cancel").id == 3


# events


def test_events_are_read_page_by_page_until_the_limit(group, raftalloc):
    def page(asked):
        made = [
            events_pb2.Event(index=asked.from_index, sequence=row, type="Ended", detail_json="{}")
            for row in range(2)
        ]
        return events_pb2.ReadResponse(
            events=made, next_index=asked.from_index + 1, head_index=3, lowest_index=1
        )

    group.answer("Read", page)
    lines = raftalloc("events", "read", "--from", "1", "--json").stdout.splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 1, 2, 2, 3, 3]
    some = raftalloc("events", "read", "--from", "1", "--limit", "3", "--json").stdout
    assert len(some.splitlines()) == 3


def log_of(*indices: int, head: int):
    """A log of `head` entries, as Read pages through it; those named have one event each, the others none."""

    def page(asked):
        last = min(asked.from_index + asked.page_size - 1, head)
        made = [
            events_pb2.Event(index=index, type="Ended", detail_json="{}")
            for index in indices
            if asked.from_index <= index <= last
        ]
        return events_pb2.ReadResponse(
            events=made, next_index=last + 1, head_index=head, lowest_index=1
        )

    return page


def test_events_tail_shows_the_latest_events_and_goes_on(group, raftalloc):
    group.answer("Status", admin_pb2.StatusResponse(stored_index=50, lowest_index=1))
    group.answer("Read", log_of(41, 47, 48, 50, head=50))
    ended = events_pb2.Event(index=51, type="Ended", detail_json='{"reason": "RELEASED"}')
    response = events_pb2.WatchResponse(events=[ended], index=51)
    group.stream("Watch", [response, KeyboardInterrupt()])
    shown = raftalloc("events", "tail", "-n", "3", "--type", "Ended", "--agent", "a", "--json")
    assert shown.exit_code == Exit.INTERRUPTED
    assert [json.loads(line)["index"] for line in shown.stdout.splitlines()] == [47, 48, 50, 51]
    asked = group.only("Watch")
    assert asked.from_index == 51
    assert (list(asked.filter.types), asked.filter.agent_id) == (["Ended"], "a")


def test_events_tail_looks_behind_entries_that_have_no_events(group, raftalloc):
    group.answer("Status", admin_pb2.StatusResponse(stored_index=2000, lowest_index=1))
    group.answer("Read", log_of(3, 700, head=2000))
    group.stream("Watch", [KeyboardInterrupt()])
    shown = raftalloc("events", "tail", "-n", "2", "--json").stdout
    assert [json.loads(line)["index"] for line in shown.splitlines()] == [3, 700]


def test_history_needs_an_agent_or_a_workflow(group, raftalloc):
    assert raftalloc("events", "history").exit_code == Exit.USAGE


def test_history_goes_back_as_far_as_asked(group, raftalloc):
    now = 4_000_000_000_000
    group.answer("Utilization", usage_pb2.UtilizationResponse(at_ms=now))
    row = events_pb2.HistoryResponse.Row(
        allocation_id=7, granted_ms=1000, ended_ms=3500, end_reason="RELEASED"
    )
    group.answer("History", events_pb2.HistoryResponse(rows=[row]))
    shown = raftalloc("events", "history", "--agent", "a", "--since", "24h")
    assert group.only("History").from_ms == now - 86_400_000
    assert "2.5s" in shown.stdout
    assert "RELEASED" in shown.stdout


# status, usage, top, admin


def status(replica_id: str, leader: str = "n1", **fields) -> admin_pb2.StatusResponse:
    role = "leader" if replica_id == leader else "follower"
    return admin_pb2.StatusResponse(
        replica_id=replica_id, role=role, leader_id=leader, cluster_id="test", **fields
    )


def test_status_shows_the_leader(group, raftalloc):
    group.answer("Status", status("n1", applied_index=12))
    shown = raftalloc("status")
    assert shown.exit_code == Exit.OK
    assert "leader" in shown.stdout
    assert json.loads(raftalloc("status", "--json").stdout)["leader"] == "n1"


def test_status_without_a_leader_is_unavailable(group, raftalloc):
    group.answer("Status", admin_pb2.StatusResponse(replica_id="n1", role="candidate"))
    assert raftalloc("status").exit_code == Exit.UNAVAILABLE


def test_status_asks_replicas_that_others_name(group, raftalloc):
    named = [admin_pb2.Replica(replica_id="n2", address="127.0.0.1:7002")]
    group.answer("Status", status("n1", replicas=named))
    shown = json.loads(raftalloc("status", "--json").stdout)
    assert sorted(shown["replicas"]) == ["127.0.0.1:7002", "in-process"]


def test_a_replica_that_does_not_answer_is_down(group, raftalloc):
    answers = iter([status("n1", replicas=[admin_pb2.Replica(address="b:1")]), Unavailable("x")])
    group.answer("Status", lambda _: next(answers))
    shown = raftalloc("status")
    assert "down" in shown.stdout
    assert shown.exit_code == Exit.UNAVAILABLE, "one of two is no majority"


def test_status_with_digests_that_differ_is_a_no(group, raftalloc):
    answers = iter(
        [
            status(
                "n1",
                replicas=[admin_pb2.Replica(address="b:1")],
                content_digest="aa",
                digest_index=5,
                invariants="ok",
            ),
            status("n2", content_digest="bb", digest_index=5, invariants="ok"),
        ]
    )
    group.answer("Status", lambda _: next(answers))
    shown = raftalloc("status", "--digest")
    assert shown.exit_code == Exit.NO
    assert "DIFFER" in shown.stderr


def test_status_with_a_broken_law_is_a_no(group, raftalloc):
    broken = status("n1", content_digest="aa", invariants="node n-1: used 5, live sum 4")
    group.answer("Status", broken)
    shown = raftalloc("status", "--digest")
    assert shown.exit_code == Exit.NO
    assert "used 5, live sum 4" in shown.stderr


def utilization() -> usage_pb2.UtilizationResponse:
    kind = usage_pb2.KindUtilization(
        kind="cpu", capacity=16_000, used=4000, reserved=2000, available=10_000, scale=1000
    )
    return usage_pb2.UtilizationResponse(kinds=[kind], active_allocations=3, nodes_total=2)


def test_usage_shows_each_kind_in_whole_units(group, raftalloc):
    group.answer("Utilization", utilization())
    shown = raftalloc("usage").stdout
    assert "25.0 %" in shown
    assert "cores" in shown


def test_top_once_shows_everything_and_ends(group, raftalloc):
    group.answer("Utilization", utilization())
    waits = types_pb2.Allocation(
        id=9, state=types_pb2.Allocation.STATE_WAITING, position=1, resources={"cpu": 4000}
    )
    group.answer("List", allocator_pb2.ListResponse(allocations=[waits]))
    quota = quotas_pb2.QuotaUsage(agent_type="auditor", allocations_count=1)
    group.answer("ListQuotas", quotas_pb2.ListQuotasResponse(quotas=[quota]))
    shown = raftalloc("top", "--once")
    assert shown.exit_code == Exit.OK, shown.stderr
    for words in ("leader n1", "25.0 %", "WAITING 1", "auditor"):
        assert words in shown.stdout
    look = json.loads(raftalloc("top", "--once", "--json").stdout)
    assert look["leader"] == "n1"
    assert look["usage"]["active_allocations"] == 3


def test_top_goes_on_showing_replicas_while_nobody_leads(group, raftalloc):
    for method in ("Utilization", "List", "ListQuotas"):
        group.answer(method, Unavailable("no leader"))
    shown = raftalloc("top", "--once")
    assert shown.exit_code == Exit.UNAVAILABLE
    assert "n1" in shown.stdout


def test_admin_commands_reach_the_replicas(group, raftalloc):
    group.answer("TransferLeadership", admin_pb2.TransferLeadershipResponse(leader_id="n2"))
    group.answer("Snapshot", admin_pb2.SnapshotResponse(index=9, path="/x", bytes=10))
    assert "n2 leads" in raftalloc("admin", "transfer", "n2").stdout
    assert group.only("TransferLeadership").to_replica_id == "n2"
    assert "index 9" in raftalloc("admin", "snapshot").stdout


def test_names_cannot_turn_a_terminals_text_around(group, raftalloc):
    node = fleet_pb2.Node(node_id="a\u202eb\x1b[2J")
    group.answer("ListNodes", fleet_pb2.ListNodesResponse(nodes=[node]))
    assert "a?b?[2J" in raftalloc("node", "list").stdout


# queue


def test_the_queue_is_set_shown_and_listed(group, raftalloc):
    settings = queue_pb2.QueueSettings(
        order=queue_pb2.QueueSettings.ORDER_FIFO,
        backfill=queue_pb2.QueueSettings.BACKFILL_EASY,
        preemption=queue_pb2.QueueSettings.PREEMPTION_LOWER_PRIORITY,
        grace_ms=30_000,
    )
    group.answer("SetQueue", queue_pb2.SetQueueResponse(settings=settings))
    shown = raftalloc("queue", "set", "--order", "fifo", "--grace", "30s", "--backfill", "easy")
    assert shown.exit_code == Exit.OK, shown.stderr
    assert "order fifo" in shown.stdout
    asked = group.only("SetQueue")
    assert (asked.order, asked.grace_ms) == (queue_pb2.QueueSettings.ORDER_FIFO, 30_000)
    assert not asked.HasField("ageing_ms")
    request = types_pb2.Allocation(id=7, agent_id="a", position=1, resources={"cpu": 1000})
    row = queue_pb2.ListQueueResponse.Row(request=request, standing=5, promised_start_ms=1)
    group.answer("ListQueue", queue_pb2.ListQueueResponse(rows=[row]))
    assert "overdue" in raftalloc("queue", "list").stdout
    group.answer("GetQueue", queue_pb2.GetQueueResponse(settings=settings, waiting_count=3))
    assert "3 waiting" in raftalloc("queue", "show").stdout


def test_an_allocation_is_resized_by_its_holder(group, raftalloc):
    held = types_pb2.Allocation(id=7, agent_id="a", fencing_token=3)
    group.answer("Get", allocator_pb2.GetResponse(allocation=held))
    group.answer("Resize", allocator_pb2.ResizeResponse(allocation=held))
    shown = raftalloc("allocation", "resize", "7", "cpu=2")
    assert shown.exit_code == Exit.OK, shown.stderr
    asked = group.only("Resize")
    assert (asked.fencing_token, dict(asked.resources)) == (3, {"cpu": 2000})
