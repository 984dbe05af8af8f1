"""Every refusal that the core gives is a whole sentence: all its numbers are there, and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from raftalloc.core import admission, booking, commands, dedupe, operations, queues, rejections
from raftalloc.core.commands import Asked, Constraint, Origin
from raftalloc.core.events import Refused
from raftalloc.core.records import REJECTED
from raftalloc.core.rejections import CODES, Rejection, describe, remedy_of
from tests.core.asking import Talk, allocate, node, provider, quota, reserve
from tests.core.dice import SeededDice
from tests.core.walk import Walk


@pytest.fixture(autouse=True)
def _no_dashes(monkeypatch):
    """A number that a sentence wants and a refusal does not give is an error here."""

    def missing(self, key):
        raise AssertionError(f"no number for {key}")

    monkeypatch.setattr(rejections._Numbers, "__missing__", missing)


@pytest.fixture
def talk():
    """A small fleet with one allocation (1, token 1), a window ahead (2) and a session (3)."""
    talk = Talk()
    talk.rig.judged = False
    talk.ask(1000, node("n1", ("T4", "A100"), cpu=4000, memory=1024), node("n2", memory=8192))
    talk.ask(1000, provider("p", api_quota=1000), quota("q", cpu=500), quota("r", "q"))
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=60_000))
    talk.ask(1000, reserve("a", cpu=2000, start_ms=5000, duration_ms=1000), commands.OpenSession())
    return talk


EAST = (Constraint("zone", commands.IN, ("east",)),)
CASES = {
    "QUOTA_EXCEEDED": (
        allocate("q", cpu=501),
        "quota q allows 0.5 of cpu (cores), 0 used, 0.501 asked",
    ),
    "NO_CAPACITY": (
        allocate("a", cpu=3500),
        "no feasible node or provider has 3.5 of cpu (cores) free; the most is 3, 3 in all",
    ),
    "UNSATISFIABLE": (
        allocate("a", memory=9216),
        "no node or provider could ever serve 9 of memory (GB): the largest has 8",
    ),
    "UNSATISFIABLE constraints": (
        allocate("a", cpu=100, constraints=EAST),
        "no node that satisfies the constraints could ever serve 0.1 of cpu (cores): 0 do, the largest has 0",
    ),
    "UNSATISFIABLE gpu_models": (
        allocate("a", gpu=2000, gpu_models=("T4",)),
        "no node could ever serve 2 of gpu (GPUs) on suitable devices: the most on one is 1",
    ),
    "UNSATISFIABLE count": (
        allocate("a", cpu=2000, count=3, gang=True),
        "the whole fleet could hold 2 members, a gang of 3 was asked",
    ),
    "UNSATISFIABLE count of a provider": (
        allocate("a", api_quota=400, count=3, gang=True),
        "the whole fleet could hold 2 members, a gang of 3 was asked",
    ),
    "UNSATISFIABLE resources": (
        allocate("a", cpu=100, memory=2048),
        "each kind asked is offered, but not all by one of 2 nodes",
    ),
    "UNKNOWN_KIND": (allocate("a", disk__nvme=1), "nothing registered offers the kind disk.nvme"),
    "WRONG_SCOPE": (node("n3", api_quota=5), "api_quota does not live on this sort of row"),
    "WRONG_SCOPE of a row": (provider("n1", api_quota=5), "n1 does not live on this sort of row"),
    "UNKNOWN_ALLOCATION": (
        commands.Release(99, 1, "a"),
        "there was never an allocation or request 99",
    ),
    "UNKNOWN_ALLOCATION of a request": (
        commands.Cancel(99, "a"),
        "there was never an allocation or request 99",
    ),
    "STALE_TOKEN": (commands.Renew(1, 9, "a"), "fencing token 9 is not the one of allocation 1"),
    "WRONG_OWNER": (
        commands.Renew(1, 1, "b"),
        "allocation 1 belongs to another principal or agent",
    ),
    "NOT_WAITING": (commands.Cancel(1, "a"), "nothing of request 1 is waiting"),
    "UNKNOWN_NODE": (commands.Cordon("n9"), "there is no node or provider n9"),
    "NODE_IN_USE": (commands.RemoveNode("n1"), "node n1 has 1 allocations and 1 reservations"),
    "UNKNOWN_QUOTA": (commands.DeleteQuota("x"), "there is no quota x"),
    "UNKNOWN_QUOTA as parent": (commands.SetQuota("x", "y", ()), "there is no quota y"),
    "QUOTA_IN_USE": (
        commands.DeleteQuota("a"),
        "quota a has 2 allocations charged and 0 quotas below it",
    ),
    "QUOTA_IN_USE of root": (
        commands.DeleteQuota("root"),
        "quota root has 1 allocations charged and 3 quotas below it",
    ),
    "QUOTA_CYCLE": (commands.SetQuota("q", "r", ()), "quota q would come to stand above itself"),
    "QUOTA_CYCLE of root": (
        commands.SetQuota("root", "q", ()),
        "quota root would come to stand above itself",
    ),
    "UNKNOWN_RESERVATION": (commands.CancelReservation(99), "there is no reservation 99"),
    "UNKNOWN_RESERVATION of a draw": (
        allocate("a", cpu=1, reservation_id=99),
        "there is no reservation 99",
    ),
    "RESERVATION_NOT_OPEN": (
        allocate("a", cpu=1, reservation_id=2),
        "the window of reservation 2 is not open",
    ),
    "WINDOW_PAST": (
        reserve("a", cpu=1, start_ms=900, duration_ms=1),
        "the window begins 100 ms in the past",
    ),
    "RULES_UNKNOWN": (
        commands.SwitchRules(0),
        "rules version 0 cannot be switched to: the group decides by 1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_is_a_sentence_with_its_numbers(talk, name):
    command, sentence = CASES[name]
    refused = talk.ask(1000, command)
    assert refused.status == REJECTED
    assert refused.rejection.code == name.split()[0]
    assert describe(refused.rejection) == sentence
    assert remedy_of(refused.rejection)
    assert talk.happened(Refused)[0].numbers == refused.rejection.numbers


LATER: dict[str, tuple[list[Any], int, str]] = {
    "ALREADY_ENDED": (
        [commands.Release(1, 1, "a"), commands.Renew(1, 1, "a")],
        1001,
        "allocation 1 has already ended",
    ),
    "LEASE_EXPIRED": (
        [commands.Tick(), commands.Renew(1, 1, "a")],
        90_000,
        "the lease of allocation 1 expired",
    ),
    "NO_LEASE": (
        [allocate("b", cpu=1), commands.Renew(4, 2, "b")],
        1001,
        "allocation 4 has no lease to renew",
    ),
    "NOT_RESIZABLE": (
        [allocate("b", cpu=1), commands.Resize(4, 2, "b", (("api_quota", 1),))],
        1001,
        "allocation 4 cannot be resized: node resources neither come nor go altogether",
    ),
    "NODE_STATE": (
        [commands.MarkLost("n1"), commands.Cordon("n1")],
        1001,
        "node n1 is in a state that does not allow this",
    ),
    "NODE_STATE of a draw": (
        [commands.Drain("n1"), allocate("a", cpu=1, reservation_id=2)],
        5000,
        "node n1 is in a state that does not allow this",
    ),
    "RESERVATION_EXHAUSTED": (
        [commands.Tick(), allocate("a", cpu=700, count=3, reservation_id=2)],
        5000,
        "reservation 2 has 2 of cpu (cores) left, 2.1 asked",
    ),
    "RESERVATION_EXHAUSTED of another kind": (
        [commands.Tick(), allocate("a", gpu=500, reservation_id=2)],
        5000,
        "reservation 2 has 0 of gpu (GPUs) left, 0.5 asked",
    ),
    "NO_CAPACITY gpu_models": (
        [allocate("b", gpu=1000, gpu_models=("A100",)), allocate("b", gpu=300, gpu_models=("A100",))],
        1001,
        "no feasible node has 0.3 of gpu (GPUs) free on suitable devices; the most is 0",
    ),
    "NO_CAPACITY count": (
        [allocate("b", cpu=2000, duration_ms=9), allocate("b", cpu=1000, count=2, gang=True, duration_ms=9)],
        1001,
        "no room for all 2 members at once; 1 nodes could take one",
    ),
    "NO_CAPACITY duration_ms": (
        [commands.Tick(), allocate("b", cpu=2000)],
        1001,
        "1 nodes have room now, but windows booked or starts promised ahead need it",
    ),
    "NO_CAPACITY extension_ms": (
        [allocate("b", cpu=1000, duration_ms=4000), reserve("b", cpu=1000, start_ms=5500, duration_ms=9),
         commands.Renew(4, 2, "b", 5000)],
        1001,
        "a window booked ahead needs 1 of cpu (cores) that a longer run would keep",
    ),
    "NO_CAPACITY resources": (
        [allocate("b", memory=1000, cpu=100), allocate("b", memory=1000, cpu=100)],
        1001,
        "each kind asked is free somewhere, but no one of 2 nodes has all",
    ),
    "KEY_EXPIRED": (
        [commands.Tick(), Asked(commands.Tick(), Origin("local", 99, 1))],
        1001,
        "the outcome of this attempt is no longer kept",
    ),
    "KEY_REUSED": (
        [Asked(commands.Tick(), Origin(key="k")), Asked(commands.Cordon("n1"), Origin(key="k"))],
        1001,
        "this idempotency was used for another command",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LATER)
def test_a_refusal_after_something_else_is_one_too(talk, name):
    asked, at_ms, sentence = LATER[name]
    refused = talk.ask(at_ms, *asked)
    assert refused.status == REJECTED
    assert refused.rejection.code == name.split()[0]
    assert describe(refused.rejection) == sentence
    assert remedy_of(refused.rejection)


LIMITS = {
    "kinds": (operations, "KINDS_MAX", 9, node("n3", disk__x=1), "9 kinds"),
    "nodes": (operations, "ROWS_MAX", 3, node("n3", cpu=1), "3 nodes"),
    "quotas": (operations, "QUOTAS_MAX", 2, quota("new"), "2 quotas"),
    "quotas by a request": (admission, "QUOTAS_MAX", 2, allocate("new", cpu=1), "2 quotas"),
    "levels of quotas": (operations, "QUOTA_DEPTH_MAX", 1, quota("new"), "1 levels of quotas"),
    "sessions": (operations, "SESSIONS_MAX", 1, commands.OpenSession(), "1 sessions"),
    "waiting requests": (
        queues, "WAITING_MAX", 0, allocate("a", cpu=3500, wait_ms=9), "0 waiting requests",
    ),
    "reservations": (
        booking, "RESERVATIONS_MAX", 1, reserve("a", cpu=1, start_ms=9000, duration_ms=1), "1 reservations",
    ),
    "cpu": (operations, "FLEET_AMOUNT_MAX", 6000, node("n3", cpu=3000), "6 cpu"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_says_what_it_is(talk, name, monkeypatch):
    module, limit, value, command, told = LIMITS[name]
    monkeypatch.setattr(module, limit, value)
    refused = talk.ask(1000, command)
    assert describe(refused.rejection) == f"the limit of {told} is reached"


def test_exhausted_keys_say_how_many_there_may_be(talk, monkeypatch):
    monkeypatch.setattr(dedupe, "KEYS_MAX", 0)
    refused = talk.ask(1000, Asked(commands.Tick(), Origin(key="k")))
    assert describe(refused.rejection) == "too many idempotency keys are in use (0)"


def test_every_code_is_shown_here():
    shown = {name.split()[0] for name in (*CASES, *LATER)} | {"LIMIT_REACHED", "KEYS_EXHAUSTED"}
    assert shown == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_remedy(code):
    assert remedy_of(Rejection(code))


def test_whatever_is_refused_on_a_walk_is_a_sentence():
    walk, dice = Walk(judged=False), SeededDice(11)
    walk.begin(dice)
    told: list[str] = []
    follow = walk.rig.audit.follow

    def listen(entry, applied):
        follow(entry, applied)
        told.extend(describe(o.rejection) for o in applied.outcomes if o.rejection)

    walk.rig.audit.follow = listen  # type: ignore[method-assign]  # to look over its shoulder
    for _ in range(150):
        walk.step(dice)
    assert len(told) > 30
    assert not [sentence for sentence in told if "{" in sentence]


def test_a_number_by_its_name():
    rejection = Rejection("WINDOW_PAST", numbers=(("late_ms", 7),))
    assert rejection.number("late_ms") == 7
    assert rejection.number("early_ms") == 0
