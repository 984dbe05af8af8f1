"""Each check of the demonstration's oracle finds the fault it is there for, and finds none in a clean run."""

from __future__ import annotations

from dataclasses import replace

from raftalloc.api.v1.events_pb2 import Event
from raftalloc.cli.demo import oracle
from raftalloc.cli.demo.log import Log, Seen, seen
from raftalloc.cli.demo.oracle import Acknowledged


def registered(node_id: str, capacity: dict[str, int], devices: tuple[str, ...] = ()) -> Seen:
    detail = {"node_id": node_id, "capacity": capacity, "devices": list(devices)}
    return Seen(0, 0, "NodeRegistered", detail)


def granted(
    allocation_id: int,
    demand: dict[str, int],
    *,
    token: int = 0,
    workflow: str = "",
    suppliers: dict[str, str] | None = None,
    devices: dict[str, int] | None = None,
    agent_type: str = "auditor",
) -> Seen:
    detail = {
        "allocation_id": allocation_id,
        "token": token or allocation_id,
        "workflow_id": workflow or f"job-{allocation_id}",
        "agent_type": agent_type,
        "node_id": "n1",
        "demand": demand,
        "suppliers": [(suppliers or {}).get(kind, "n1") for kind in sorted(demand)],
        "devices": devices or {},
    }
    return Seen(0, 0, "Granted", detail)


def ended(allocation_id: int, reason: str = "RELEASED") -> Seen:
    return Seen(0, 0, "Ended", {"allocation_id": allocation_id, "reason": reason})


def answered(session: int, sequence: int) -> Seen:
    return Seen(0, 0, "Answered", {"session": session, "sequence": sequence, "key": ""})


def quota(name: str, limits: dict[str, int], parent: str = "") -> Seen:
    return Seen(0, 0, "QuotaSet", {"name": name, "parent": parent, "limits": limits})


def log(*events: Seen) -> Log:
    """One entry per event."""
    return tuple(replace(event, index=row + 1) for row, event in enumerate(events))


CLEAN = log(
    registered("n1", {"cpu": 4000}),
    granted(1, {"cpu": 3000}),
    answered(7, 1),
    ended(1),
    granted(2, {"cpu": 4000}),
    answered(7, 2),
)


def told(*grants: tuple[int, int]) -> Acknowledged:
    acknowledged = Acknowledged()
    for allocation_id, token in grants:
        acknowledged.asked[f"job-{allocation_id}"] = 1
        acknowledged.grants[allocation_id] = (token, f"job-{allocation_id}")
    return acknowledged


def test_a_clean_run_has_no_faults():
    acknowledged = told((1, 1), (2, 2))
    acknowledged.released.add(1)
    logs = {"r1": CLEAN, "r2": CLEAN}
    assert oracle.lost(acknowledged, logs) == []
    assert oracle.duplicated(acknowledged, logs) == []
    assert oracle.over_capacity(logs) == []
    assert oracle.disagreements(logs) == []


def test_a_grant_that_one_replica_does_not_have_is_lost():
    logs = {"r1": CLEAN, "r2": log(*(event for event in CLEAN if event.index != 5))}
    faults = oracle.lost(told((1, 1), (2, 2)), logs)
    assert [(fault.replica, fault.message) for fault in faults] == [
        ("r2", "grant 2 with token 2 (job-2)")
    ]


def test_a_grant_that_is_logged_with_another_token_is_lost():
    assert len(oracle.lost(told((2, 9)), {"r1": CLEAN})) == 1


def test_a_release_that_was_acknowledged_and_is_not_logged_is_lost():
    acknowledged = Acknowledged(released={2})
    assert [fault.message for fault in oracle.lost(acknowledged, {"r1": CLEAN})] == ["release of 2"]


def test_an_expiry_does_not_pass_for_the_release_that_was_acknowledged():
    logs = {"r1": log(ended(1, "LEASE_EXPIRED"))}
    assert len(oracle.lost(Acknowledged(released={1}), logs)) == 1


def test_a_queued_request_that_is_not_logged_is_lost():
    assert len(oracle.lost(Acknowledged(queued={5: "job-5"}), {"r1": CLEAN})) == 1


def test_a_job_granted_twice_is_duplicated():
    twice = log(granted(1, {"cpu": 1}, workflow="job"), granted(2, {"cpu": 1}, workflow="job"))
    faults = oracle.duplicated(Acknowledged(asked={"job": 1}), {"r1": twice})
    assert [fault.index for fault in faults] == [2]


def test_an_array_granted_as_often_as_asked_is_not_duplicated():
    twice = log(granted(1, {"cpu": 1}, workflow="job"), granted(2, {"cpu": 1}, workflow="job"))
    assert oracle.duplicated(Acknowledged(asked={"job": 2}), {"r1": twice}) == []


def test_an_allocation_id_given_twice_is_duplicated():
    twice = log(granted(1, {"cpu": 1}, token=1), granted(1, {"cpu": 1}, token=2))
    assert len(oracle.duplicated(Acknowledged(), {"r1": twice})) == 1


def test_a_token_given_twice_is_duplicated():
    twice = log(granted(1, {"cpu": 1}, token=4), granted(2, {"cpu": 1}, token=4))
    assert len(oracle.duplicated(Acknowledged(), {"r1": twice})) == 1


def test_a_token_that_falls_is_reported():
    falling = log(granted(1, {"cpu": 1}, token=4), granted(2, {"cpu": 1}, token=3))
    assert len(oracle.duplicated(Acknowledged(), {"r1": falling})) == 1


def test_an_attempt_carried_out_twice_is_duplicated():
    twice = log(answered(7, 1), answered(7, 1))
    assert len(oracle.duplicated(Acknowledged(), {"r1": twice})) == 1


def over_capacity(*events: Seen) -> list[str]:
    return [fault.message for fault in oracle.over_capacity({"r1": log(*events)})]


def test_a_node_that_gives_more_than_it_has_is_over_capacity():
    messages = over_capacity(
        registered("n1", {"cpu": 4000}), granted(1, {"cpu": 3000}), granted(2, {"cpu": 1001})
    )
    assert messages == ["n1 gives 4001 of cpu and has 4000"]


def test_overcommitment_is_found_even_where_it_was_given_back_at_once():
    messages = over_capacity(registered("n1", {"cpu": 1}), granted(1, {"cpu": 2}), ended(1))
    assert len(messages) == 1


def test_a_provider_that_gives_more_than_it_has_is_over_capacity():
    messages = over_capacity(
        registered("n1", {"cpu": 4000}),
        registered("llm", {"api_quota": 10}),
        granted(1, {"api_quota": 11, "cpu": 1}, suppliers={"api_quota": "llm"}),
    )
    assert messages == ["llm gives 11 of api_quota and has 10"]


def test_a_kind_that_the_row_does_not_offer_is_over_capacity():
    assert over_capacity(registered("n1", {"cpu": 1}), granted(1, {"cache": 1})) != []


def test_a_row_that_is_not_there_gives_nothing():
    assert over_capacity(granted(1, {"cpu": 1})) == ["n1 gives cpu and is not there"]


def test_a_removed_node_gives_nothing():
    removed = Seen(0, 0, "NodeRemoved", {"node_id": "n1"})
    assert over_capacity(registered("n1", {"cpu": 9}), removed, granted(1, {"cpu": 1})) != []


def test_a_device_shared_beyond_one_whole_is_over_capacity():
    node = registered("n1", {"cpu": 1, "gpu": 2000}, ("T4", "T4"))
    messages = over_capacity(
        node,
        granted(1, {"gpu": 600}, devices={"0": 600}),
        granted(2, {"gpu": 600}, devices={"0": 600}),
    )
    assert messages == ["n1 gives 1200 of device 0"]


def test_a_device_that_is_not_there_is_over_capacity():
    node = registered("n1", {"gpu": 1000}, ("T4",))
    assert over_capacity(node, granted(1, {"gpu": 500}, devices={"1": 500})) == [
        "n1 has no device 1"
    ]


def test_devices_must_add_up_to_the_gpu_that_was_asked():
    node = registered("n1", {"gpu": 1000}, ("T4",))
    assert len(over_capacity(node, granted(1, {"gpu": 500}, devices={"0": 250}))) == 1


def test_a_row_made_smaller_under_its_holders_is_no_fault_until_it_grants_again():
    before = (registered("n1", {"cpu": 4}), granted(1, {"cpu": 4}), registered("n1", {"cpu": 2}))
    assert over_capacity(*before) == []
    assert len(over_capacity(*before, granted(2, {"cpu": 1}))) == 1


def test_an_end_of_what_was_not_live_is_reported():
    assert over_capacity(ended(9)) == ["allocation 9 ended and was not live"]


def test_a_quota_holds_for_its_children_together():
    messages = over_capacity(
        registered("n1", {"cpu": 9}),
        quota("root", {}),
        quota("compliance", {"cpu": 3}, "root"),
        quota("auditor", {}, "compliance"),
        quota("analyzer", {}, "compliance"),
        granted(1, {"cpu": 2}, agent_type="auditor"),
        granted(2, {"cpu": 2}, agent_type="analyzer"),
    )
    assert messages == ["quota compliance has 4 of cpu and allows 3"]


def test_logs_that_differ_in_one_field_disagree():
    other = tuple(
        replace(event, detail={**event.detail, "token": 99}) if event.index == 5 else event
        for event in CLEAN
    )
    assert [fault.index for fault in oracle.disagreements({"r1": CLEAN, "r2": other})] == [5]


def test_a_log_that_ends_early_disagrees():
    assert len(oracle.disagreements({"r1": CLEAN, "r2": CLEAN[:-1]})) == 1


def test_a_log_with_an_event_missing_within_an_entry_is_out_of_order():
    holed = (replace(CLEAN[0], sequence=0), replace(CLEAN[1], index=1, sequence=2))
    assert len(oracle.disagreements({"r1": holed})) == 1


def test_a_log_out_of_order_disagrees_with_itself():
    assert len(oracle.disagreements({"r1": (CLEAN[1], CLEAN[0])})) >= 1


def test_an_event_of_the_api_is_read_with_its_details():
    event = Event(index=3, sequence=1, type="Ended", detail_json='{"allocation_id": 4}')
    assert seen(event) == Seen(3, 1, "Ended", {"allocation_id": 4})
