from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from raftalloc.api.v1 import allocator_pb2, fleet_pb2, quotas_pb2, reservations_pb2, types_pb2
from raftalloc.core import commands
from raftalloc.core.quantities import AMOUNT_MAX, BASE_KINDS, DURATION_MS_MAX
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert

Constraint = types_pb2.Constraint


def request(**fields) -> allocator_pb2.AllocateRequest:
    return allocator_pb2.AllocateRequest(**{"agent_id": "a_1", "resources": {"cpu": 1}, **fields})


def refused(convert_it, message) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        convert_it(message)
    assert caught.value.remedy, "a remedy is named"
    return caught.value


def allocate(message: allocator_pb2.AllocateRequest) -> commands.Allocate:
    return convert.allocate(message, commands.WORST_FIT)


def test_a_request_becomes_a_command_with_its_defaults():
    assert allocate(request()) == commands.Allocate(
        agent_id="a_1",
        agent_type="a",
        workflow_id="",
        priority=commands.MEDIUM,
        demand=(("cpu", 1),),
        policy=commands.WORST_FIT,
    )


def test_a_request_becomes_a_command_with_all_it_says():
    message = request(
        agent_type="t",
        workflow_id="w",
        priority=types_pb2.PRIORITY_CRITICAL,
        resources={"memory": 2, "gpu": 2000, "api_quota.openai": 3},
        gpu_models=["A100"],
        constraints=[
            Constraint(key="zone", operator=Constraint.OPERATOR_IN, values=["x", "y"]),
            Constraint(key="rank", operator=Constraint.OPERATOR_GT, values=["-3"]),
        ],
        count=4,
        gang=True,
        duration_ms=5,
        lease_ttl_ms=100,
        wait_ms=7,
        policy=types_pb2.POLICY_FIRST_FIT,
        reservation_id=8,
    )
    assert allocate(message) == commands.Allocate(
        agent_id="a_1",
        agent_type="t",
        workflow_id="w",
        priority=commands.CRITICAL,
        demand=(("api_quota.openai", 3), ("gpu", 2000), ("memory", 2)),
        gpu_models=("A100",),
        constraints=(
            commands.Constraint("zone", commands.IN, ("x", "y")),
            commands.Constraint("rank", commands.GT, ("-3",)),
        ),
        count=4,
        gang=True,
        duration_ms=5,
        lease_ttl_ms=100,
        wait_ms=7,
        policy=commands.FIRST_FIT,
        reservation_id=8,
    )


@pytest.mark.parametrize(
    ("agent_id", "agent_type"),
    [
        ("policy_analyzer_01", "policy_analyzer"),
        ("auditor", "auditor"),
        ("auditor_", "auditor_"),
        ("auditor_7a", "auditor_7a"),
        ("a_1_2", "a_1"),
        ("_01", "_01"),
        ("a_٣", "a_٣"),  # a digit, but not of ours
    ],
)
def test_the_agent_type_is_the_id_without_its_number(agent_id: str, agent_type: str):
    assert convert.agent_type_of(agent_id) == agent_type


IN = Constraint.OPERATOR_IN
BAD_REQUESTS = [
    (request(agent_id=""), "agent_id", "is missing"),
    (request(agent_id="a\x00b"), "agent_id", "control character U+0000 at position 1"),
    (request(agent_id="a\x85"), "agent_id", "control character U+0085"),
    (request(workflow_id="\n"), "workflow_id", "control character U+000A"),
    (request(agent_type="\x7f"), "agent_type", "control character U+007F"),
    (request(agent_id="x" * 257), "agent_id", "257 characters long"),
    (request(agent_id="ü" * 129), "agent_id", "129 characters long"),
    (request(resources={}), "resources", "is empty"),
    (request(resources={"cpus": 1}), "resources.cpus", "'cpus' is no kind"),
    (request(resources={"": 1}), "resources.", "'' is no kind"),
    (request(resources={"cp\x1b\nu": 1}), "resources.cp??u", r"'cp\x1b\nu' is no kind"),
    (request(resources={"CPU": 1}), "resources.CPU", "'CPU' is no kind"),
    (request(resources={"gpu.a100": 1}), "resources.gpu.a100", "gpu has no dotted types"),
    (request(resources={"disk.": 1}), "resources.disk.", "malformed"),
    (request(resources={"disk.NVMe": 1}), "resources.disk.NVMe", "malformed"),
    (request(resources={"cpu": 0}), "resources.cpu", "0 is not above 0"),
    (request(resources={"cpu": -5}), "resources.cpu", "-5 is not above 0"),
    (request(resources={"cpu": AMOUNT_MAX + 1}), "resources.cpu", "too much"),
    (request(resources={"cpu": (1 << 63) - 1}), "resources.cpu", "too much"),
    (request(resources={f"disk.t{n}": 1 for n in range(9)}), "resources", "has 9 kinds"),
    (request(resources={"gpu": 1500}), "resources.gpu", "neither a share of one device nor"),
    (request(gpu_models=["A100"]), "gpu_models", "no gpu is asked for"),
    (request(resources={"gpu": 1}, gpu_models=[""]), "gpu_models[0]", "is missing"),
    (request(resources={"gpu": 1}, gpu_models=["x"] * 17), "gpu_models", "has 17 items"),
    (request(count=-1), "count", "-1 is out of bounds"),
    (request(count=10_001), "count", "10001 is out of bounds"),
    (request(duration_ms=-1), "duration_ms", "-1 is out of bounds"),
    (request(duration_ms=DURATION_MS_MAX + 1), "duration_ms", "out of bounds"),
    (request(lease_ttl_ms=99), "lease_ttl_ms", "99 is out of bounds"),
    (request(wait_ms=-1), "wait_ms", "-1 is out of bounds"),
    (request(reservation_id=-1), "reservation_id", "-1 is no id"),
    (request(priority=9), "priority", "9 is not known"),
    (request(policy=9), "policy", "9 is not known"),
    (request(constraints=[Constraint()] * 17), "constraints", "has 17 items"),
    (request(constraints=[Constraint(key="k")]), "constraints[0].operator", "is missing"),
    (
        request(constraints=[Constraint(key="k", operator=Constraint.Operator.ValueType(77))]),
        "constraints[0].operator",
        "77 is not known",
    ),
    (
        request(constraints=[Constraint(operator=IN, values=["x"])]),
        "constraints[0].key",
        "is missing",
    ),
    (
        request(constraints=[Constraint(key="k", operator=IN)]),
        "constraints[0].values",
        "has 0 items",
    ),
    (
        request(constraints=[Constraint(key="k", operator=IN, values=["x"] * 65)]),
        "constraints[0].values",
        "has 65 items",
    ),
    (
        request(
            constraints=[Constraint(key="k", operator=Constraint.OPERATOR_EXISTS, values=["x"])]
        ),
        "constraints[0].values",
        "has 1 items",
    ),
    (
        request(constraints=[Constraint(key="k", operator=Constraint.OPERATOR_GT, values=["3.5"])]),
        "constraints[0].values",
        "'3.5' is not a whole number",
    ),
]


@pytest.mark.parametrize(("message", "field", "problem"), BAD_REQUESTS)
def test_what_could_never_be_meant_is_refused_with_its_field(message, field: str, problem: str):
    error = refused(allocate, message)
    assert error.field == field
    assert problem in error.problem


def test_the_nearest_kind_is_suggested_or_all_are_named():
    assert refused(allocate, request(resources={"memroy": 1})).remedy == "did you mean memory?"
    assert all(
        kind in refused(allocate, request(resources={"xyz": 1})).remedy for kind in BASE_KINDS
    )


def test_an_error_does_not_repeat_a_long_value():
    for message in (request(agent_id="x" * 3_000_000), request(resources={"x" * 3_000_000: 1})):
        assert len(str(refused(allocate, message))) < 500


class Endless(Mapping[str, int]):
    """So many kinds that looking at any of them is a mistake."""

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, kind: str) -> int:
        raise AssertionError("looked at a kind")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("looked at the kinds")


def test_the_number_of_kinds_is_refused_before_any_is_looked_at():
    with pytest.raises(InvalidRequest, match="has 100000 kinds; give at most 8"):
        checks.vector("resources", Endless(), 8, 1)


def unknown_field(message):
    """The same message, with a field that nobody knows."""
    return type(message).FromString(message.SerializeToString() + b"\xd8\x04\x01")  # field 75


@pytest.mark.parametrize(
    ("convert_it", "message"),
    [
        (allocate, request()),
        (convert.renew, allocator_pb2.RenewRequest()),
        (convert.release, allocator_pb2.ReleaseRequest()),
        (convert.cancel, allocator_pb2.CancelRequest()),
        (convert.reserve, reservations_pb2.ReserveRequest()),
        (convert.register_node, fleet_pb2.RegisterNodeRequest()),
        (convert.drain, fleet_pb2.DrainRequest()),
        (convert.set_quota, quotas_pb2.SetQuotaRequest()),
        (lambda message: convert.origin("p", message), types_pb2.Idempotency()),
    ],
)
def test_a_field_that_this_server_does_not_know_is_refused(convert_it, message):
    error = refused(convert_it, unknown_field(message))
    assert error.field == "field 75"
    assert message.DESCRIPTOR.full_name in error.problem


def test_a_batch_names_the_request_that_is_wrong():
    with pytest.raises(InvalidRequest) as caught:
        convert.batch_asked([request(), request(resources={"cpu": 0})], "p", 1)
    assert caught.value.field == "requests[1].resources.cpu"


def test_a_batch_has_one_to_ten_thousand_requests_and_members():
    for requests, problem in (
        ([], "is empty"),
        ([request()] * 10_001, "has 10001 items"),
        ([request(count=9_999), request(count=2)], "adds up to 10001 members"),
    ):
        with pytest.raises(InvalidRequest, match=problem):
            convert.batch_asked(requests, "p", 1)
    assert len(convert.batch_asked([request(count=9_999), request()], "p", 1)) == 2


def test_an_attempt_is_named_by_a_pair_a_key_or_nothing():
    attempt = types_pb2.Idempotency
    assert convert.origin("p", attempt()) == commands.Origin("p")
    assert convert.origin("p", attempt(session=3, sequence=4)) == commands.Origin("p", 3, 4)
    keyed = convert.origin("p", attempt(key="once"))
    assert (len(keyed.key), keyed.session, keyed.sequence) == (32, 0, 0)
    assert keyed != convert.origin("p", attempt(key="twice"))
    assert keyed.key != convert.origin("another", attempt(key="once")).key


@pytest.mark.parametrize(
    ("attempt", "field"),
    [
        (types_pb2.Idempotency(session=3), "idempotency.sequence"),
        (types_pb2.Idempotency(sequence=3), "idempotency.session"),
        (types_pb2.Idempotency(session=-3, sequence=1), "idempotency.session"),
        (types_pb2.Idempotency(session=3, sequence=-1), "idempotency.sequence"),
        (types_pb2.Idempotency(session=3, sequence=1, key="k"), "idempotency.key"),
        (types_pb2.Idempotency(key="k" * 257), "idempotency.key"),
        (types_pb2.Idempotency(key="ü" * 129), "idempotency.key"),
    ],
)
def test_half_an_attempt_is_refused(attempt, field: str):
    assert refused(lambda each: convert.origin("p", each), attempt).field == field


@pytest.mark.parametrize(
    ("convert_it", "message", "field"),
    [
        (convert.renew, allocator_pb2.RenewRequest(), "allocation_id"),
        (convert.renew, allocator_pb2.RenewRequest(allocation_id=-1), "allocation_id"),
        (convert.renew, allocator_pb2.RenewRequest(allocation_id=1), "fencing_token"),
        (
            convert.renew,
            allocator_pb2.RenewRequest(allocation_id=1, fencing_token=1),
            "agent_id",
        ),
        (
            convert.renew,
            allocator_pb2.RenewRequest(
                allocation_id=1, fencing_token=1, agent_id="a", extension_ms=-1
            ),
            "extension_ms",
        ),
        (convert.release, allocator_pb2.ReleaseRequest(), "allocation_id"),
        (
            convert.release,
            allocator_pb2.ReleaseRequest(allocation_id=1, fencing_token=-1),
            "fencing_token",
        ),
        (convert.cancel, allocator_pb2.CancelRequest(agent_id="a"), "request_id"),
        (convert.cancel, allocator_pb2.CancelRequest(request_id=1), "agent_id"),
        (convert.drain, fleet_pb2.DrainRequest(), "node_id"),
        (convert.drain, fleet_pb2.DrainRequest(node_id="n", deadline_ms=-1), "deadline_ms"),
        (
            convert.drain,
            fleet_pb2.DrainRequest(node_id="n", deadline_ms=1 << 62),
            "deadline_ms",
        ),
        (convert.set_quota, quotas_pb2.SetQuotaRequest(), "agent_type"),
        (
            convert.set_quota,
            quotas_pb2.SetQuotaRequest(agent_type="t", limits={"cpu": -1}),
            "limits.cpu",
        ),
    ],
)
def test_other_commands_are_checked_too(convert_it, message, field: str):
    assert refused(convert_it, message).field == field


def reservation(**fields) -> reservations_pb2.ReserveRequest:
    good = {"workflow_id": "w", "resources": {"cpu": 1}, "start_ms": 5, "duration_ms": 6}
    return reservations_pb2.ReserveRequest(**{**good, **fields})


def test_a_reservation_is_charged_to_the_agents_type_or_the_default_quota():
    assert convert.reserve(reservation()).agent_type == "default"
    assert convert.reserve(reservation(agent_id="a_1")).agent_type == "a"
    assert convert.reserve(reservation(agent_id="a_1", agent_type="t")).agent_type == "t"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"workflow_id": ""}, "workflow_id"),
        ({"start_ms": 0}, "start_ms"),
        ({"start_ms": -5}, "start_ms"),
        ({"duration_ms": 0}, "duration_ms"),
        ({"duration_ms": -5}, "duration_ms"),
        ({"resources": {}}, "resources"),
    ],
)
def test_half_a_reservation_is_refused(fields, field: str):
    assert refused(convert.reserve, reservation(**fields)).field == field


def node(**fields) -> fleet_pb2.RegisterNodeRequest:
    return fleet_pb2.RegisterNodeRequest(**{"node_id": "n", "capacity": {"cpu": 1}, **fields})


def test_a_nodes_gpu_capacity_is_what_its_devices_amount_to():
    command = convert.register_node(node(devices=["A100", "T4"], attributes={"b": "2", "a": ""}))
    assert command.capacity == (("cpu", 1), ("gpu", 2000))
    assert command.devices == ("A100", "T4")
    assert command.attributes == (("a", ""), ("b", "2"))
    assert convert.register_node(node(capacity={"gpu": 1000}, devices=["T4"])).capacity == (
        ("gpu", 1000),
    )


def test_a_kind_of_capacity_0_is_not_offered():
    assert convert.register_node(node(capacity={"cpu": 1, "disk": 0})).capacity == (("cpu", 1),)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"node_id": ""}, "node_id"),
        ({"capacity": {}}, "capacity"),
        ({"capacity": {"cpu": 0}}, "capacity"),
        ({"capacity": {"cpu": -1}}, "capacity.cpu"),
        ({"capacity": {"gpu": 1000}}, "capacity.gpu"),
        ({"devices": ["T4"] * 65}, "devices"),
        ({"devices": [""]}, "devices[0]"),
        ({"devices": ["T4"], "provider": True}, "devices"),
        ({"attributes": {"": "x"}}, "attributes"),
        ({"attributes": {"k": "\x01"}}, "attributes.k"),
        ({"attributes": {f"k{n}": "" for n in range(65)}}, "attributes"),
    ],
)
def test_a_node_that_cannot_be_is_refused(fields, field: str):
    assert refused(convert.register_node, node(**fields)).field == field


def test_a_quota_may_forbid_a_kind_with_0():
    command = convert.set_quota(quotas_pb2.SetQuotaRequest(agent_type="t", limits={"cpu": 0}))
    assert command == commands.SetQuota("t", "", (("cpu", 0),))


def test_a_heartbeat_names_one_to_a_thousand_nodes():
    assert convert.node_ids(["a", "b"]) == ["a", "b"]
    for values in ([], ["n"] * 1001, [""], ["\x02"]):
        with pytest.raises(InvalidRequest):
            convert.node_ids(values)
