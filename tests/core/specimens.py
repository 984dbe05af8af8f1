"""One of each command and of each event, no field at its default; and a log that leaves something in every table."""

from __future__ import annotations

from raftalloc.core import commands, events
from raftalloc.core.codec import Block, encode_entry, encode_events, next_chain
from raftalloc.core.commands import Asked, Command, Constraint, Entry, Origin
from raftalloc.core.events import Event, Happened
from raftalloc.core.machine import apply
from raftalloc.core.state import State
from raftalloc.core.terms import (
    GANG_SPREAD,
    Affinity,
    Alternative,
    Spread,
    Terms,
    Toleration,
    Typical,
)
from tests.core.asking import allocate, node, provider, quota, reserve

CONSTRAINTS = (
    Constraint("zone", commands.IN, ("east", "wést:2")),
    Constraint("rank", commands.GT, ("-3",)),
    Constraint("spot", commands.EXISTS),
)
DEMAND = (("cpu", 1500), ("disk.nvme", 1024), ("gpu", 2000))
SUPPLIERS = ("n1", "n1", "n1")
DEVICES = (("0", 1000), ("63", 1000))
TERMS = Terms(
    pool="audits", scorers=(("fgd", 2), ("best_fit", 1)), tolerations=(Toleration("gpu", ("yes",)), Toleration()),
    labels=(("app", "audit"),), spread=(Spread("zone", ("app", "audit"), 2, soft=True),),
    affinity=(Affinity("rack", ("app", "wést"), anti=True), Affinity("", ("agent", "a"), soft=True)),
    alternatives=(Alternative((("cpu", 2000), ("gpu", 1000)), ("T4",)),), gang_min=2, gang_layout=GANG_SPREAD,
    gang_key="zone",
)  # fmt: skip

COMMANDS: tuple[Command, ...] = (
    commands.Allocate(
        "agent_7", "agent", "audit", commands.HIGH, DEMAND, ("A100", "T4"), CONSTRAINTS, 3, gang=True,
        duration_ms=3_600_000, lease_ttl_ms=30_000, wait_ms=5_000, policy=commands.WORST_FIT, reservation_id=9,
        protected=True,
        terms=TERMS,
    ),
    commands.Renew(7, 12, "agent_7", 60_000),
    commands.Release(7, 12, "agent_7"),
    commands.Cancel(8, "agent_7"),
    commands.Reserve(
        "agent_7", "agent", "audit", commands.CRITICAL, DEMAND, 1_800_000_000_000, 7_200_000, ("T4",), CONSTRAINTS
    ),
    commands.CancelReservation(9),
    commands.RegisterNode(
        "n1", provider=False, capacity=(("cpu", 64_000), ("gpu", 2000)), devices=("A100", "T4"),
        attributes=(("rank", "2"), ("zone", "east")), static=True, taints=(("gpu", "yes"),), soft_taints=(("x", ""),),
    ),
    commands.RegisterNode("openai", provider=True, capacity=(("api_quota.openai", 1 << 50),), soft_taints=(("a", ""),)),
    commands.Cordon("n1"),
    commands.Uncordon("n1"),
    commands.Drain("n1", 1_800_000_000_000),
    commands.RemoveNode("n1", force=True),
    commands.MarkLost("n1"),
    commands.MarkReturned("n1"),
    commands.SetQuota("agent", "team", (("cpu", 0), ("memory", 4096)), 2500),
    commands.DeleteQuota("agent"),
    commands.OpenSession(),
    commands.SwitchRules(1),
    commands.TakeLead("r2", 750),
    commands.Tick(),
    commands.Resize(7, 12, "agent_7", DEMAND),
    commands.SetQueue(
        initial=True, order=commands.FAIR_SHARE, ageing_ms=90_000, backfill=commands.EASY, depth=7,
        preemption=commands.LOWER_PRIORITY, grace_ms=5_000, min_run_ms=9_000, per_hour=3,
    ),
)  # fmt: skip

EVENTS: tuple[Event, ...] = (
    events.KindDefined("disk.nvme"),
    events.WeightsSet((("cpu", 4_398_046_511), ("memory", 68_719_476_736))),
    events.NodeRegistered(
        "n1", provider=False, capacity=(("cpu", 64_000), ("gpu", 2000)), devices=("A100", "T4"),
        attributes=(("rank", "2"), ("zone", "east")), static=True, taints=(("gpu", "yes"),), soft_taints=(("old", ""),),
    ),
    events.NodeStateChanged("n1", events.DRAINING, 1_800_000_000_000),
    events.NodeRemoved("n1"),
    events.QuotaSet("agent", "team", (("cpu", 0), ("memory", 4096)), implicit=True, weight=2500),
    events.QuotaDeleted("agent"),
    events.Queued(
        7, 3, gang=True, agent_id="agent_7", agent_type="agent", workflow_id="audit", principal="local", priority=3,
        demand=DEMAND, gpu_models=("T4",), constraints=CONSTRAINTS, duration_ms=60_000, lease_ttl_ms=5_000, policy=2,
        reservation_id=9, deadline_ms=1_800_000_000_000, started=1, protected=True, terms=TERMS,
    ),
    events.Granted(
        7, 6, "agent_7", "agent", "audit", "local", 4, DEMAND, "n1", SUPPLIERS, DEVICES, 12, 1_800_000_005_000,
        1_800_000_060_000, 5_000, 9, 250, protected=True, labels=(("app", "audit"), ("tier", "wést")), alternative=1,
    ),
    events.Renewed(7, 1_800_000_010_000, 1_800_000_060_000),
    events.Ended(7, events.LEASE_EXPIRED, "agent_7", "audit", "n1"),
    events.Withdrawn(8, events.DEADLINE, 2, "agent_7", "audit"),
    events.Refused(
        "NO_CAPACITY", "resources.cpu", "cpu", (("asked.cpu", 4000), ("free.cpu", 0)), "agent_7", "audit"
    ),
    events.ReservationMade(
        9, "agent_7", "agent", "audit", "local", 4, DEMAND, "n1", SUPPLIERS, DEVICES, 1_800_000_000_000,
        1_800_000_060_000, ("A100",), CONSTRAINTS,
    ),
    events.ReservationMoved(9, "n2", ("n2", "n2", "n2"), DEVICES),
    events.ReservationOpened(9),
    events.ReservationEnded(9, events.BROKEN, "agent_7", "audit"),
    events.LeaderTook("r2", 750),
    events.RulesSwitched(1),
    events.SessionOpened(10, "local"),
    events.SessionsExpired(1_799_999_400_000),
    events.Answered(
        10, 4, "00112233445566778899aabbccddeeff", "0123456789abcdef", 3, 7, 3, 12, "NO_CAPACITY", "resources.cpu",
        "cpu", (("asked.cpu", 4000),),
    ),
    events.QueueSet(
        order=commands.FIFO, ageing_ms=90_000, backfill=commands.EASY, depth=7,
        preemption=commands.LOWER_PRIORITY, grace_ms=5_000, min_run_ms=9_000, per_hour=3,
    ),
    events.Aged(7, 2),
    events.EntrySkipped("00112233445566778899aabbccddeeff"),
    events.Promised(
        7, 1_800_000_000_000, 1_800_000_060_000, held=True, members=1, demand=DEMAND, nodes=("n1",),
        suppliers=SUPPLIERS, devices=DEVICES,
    ),
    events.PromiseDropped(7),
    events.Resized(7, DEMAND, SUPPLIERS, DEVICES, "agent_7", "audit", "n1"),
    events.Sought(7, 1_800_000_015_000),
    events.Preempting(8, 7, 1_800_000_030_000, "agent_7", "audit", "n1"),
    events.Spared(8, "agent_7", "audit", "n1"),
    events.WorkloadSet(7, (Typical(DEMAND, 4), Typical((("cpu", 1),), 3)), declared=True),
)  # fmt: skip


def entry() -> Entry:
    """An entry with every command, each asked in another way."""
    origins = (Origin("local", 10, 4), Origin("other", key="00ff"), Origin())
    asked = tuple(Asked(one, origins[place % 3]) for place, one in enumerate(COMMANDS))
    return Entry(1_700_000_000_000, "r1", asked)


def happened() -> tuple[Happened, ...]:
    """A block with every event."""
    return tuple(Happened(event, place - 1) for place, event in enumerate(EVENTS))


def block() -> Block:
    """One index of the event store."""
    packed, events_packed = encode_entry(entry()), encode_events(happened())
    chain = next_chain(bytes(32), 41, packed, events_packed)
    return Block(41, 1_700_000_000_000, packed, events_packed, chain)


def state() -> State:
    """A state with something in every table: live, waiting, booked, open, answered, ended, free rows."""
    made = State.genesis()
    key, stale = Origin(key="ab" * 16), Origin(key="cd" * 16)
    log: list[tuple[int, list[Command | Asked]]] = [
        (1_000, [node("n1", ("A100", "T4"), cpu=8000, memory=8192, attributes=(("zone", "east"),))]),
        (1_000, [node("gone", cpu=1000), node("n2", cpu=4000, disk__nvme=2048, static=True)]),
        (1_000, [provider("openai", api_quota__openai=60_000), quota("team", cpu=9000)]),
        (1_000, [quota("auditor", "team", cpu=6000, gpu=2000), Asked(allocate(cpu=1), stale)]),
        (700_000, [commands.Tick(), commands.OpenSession(), commands.RemoveNode("gone", force=True)]),
        (700_100, [Asked(allocate("auditor", cpu=2000, gpu=500, api_quota__openai=1000), Origin("local", 2, 1))]),
        (700_200, [Asked(allocate("policy", cpu=500, count=2, lease_ttl_ms=60_000, duration_ms=600_000), key)]),
        (700_300, [reserve("auditor", cpu=1000, gpu=1000, start_ms=700_400, duration_ms=100_000)]),
        (700_300, [reserve("risk", disk__nvme=1024, start_ms=800_000, duration_ms=1_000)]),
        (700_400, [allocate("auditor", cpu=400, reservation_id=6)]),
        (700_500, [allocate("gap", cpu=7000, wait_ms=50_000, constraints=CONSTRAINTS[:1])]),
        (700_500, [allocate("gap", cpu=1500, wait_ms=90_000, count=6, gang=True, priority=1)]),
        (700_600, [commands.Release(4, 3, "policy"), commands.Drain("n2", 900_000)]),
        (700_700, [commands.TakeLead("r2", 50), commands.Cordon("n1"), commands.SetQueue(ageing_ms=100)]),
    ]  # fmt: skip
    for index, (at_ms, asked) in enumerate(log, 1):
        block_of = [one if isinstance(one, Asked) else Asked(one) for one in asked]
        apply(made, Entry(at_ms, "r1", tuple(block_of)), index)
    return made
