"""The language of the scenarios: text in, commands of the core; events of the core, text out.

    # One node. The second request waits until the first lease runs out.
    at 0 node n1 cpu=2
    at 0 allocate a cpu=2 lease=1000
    at 200 allocate b cpu=2 wait=5000
    ----
    NodeRegistered ...

A STEP is some `at MS COMMAND` lines, `----`, and what came of them. Lines with the same MS stand in
one entry of the log. Outcomes begin with `=>` and stand after the events of their entry. Amounts
are whole units (`memory=1.5` is 1.5 GB), times are ms. LABELS name allocations, requests, reservations
and sessions by what made them; `a+1` is the second member of `a`.

    node ID KIND=N.. [gpus=MODEL,..] [attr.KEY=VALUE..] [static]       provider ID KIND=N..
    allocate LABEL KIND=N.. [agent= type= workflow= priority= lease= duration= wait= count= gang policy= protected
                             models=A|B where=KEY:OPERATOR:V|W reservation=LABEL]
    renew LABEL [extension= token= agent=]     resize LABEL KIND=N.. [token= agent=]
    release LABEL [token= agent=]     cancel LABEL [agent=]
    reserve LABEL KIND=N.. start= duration= [agent= type= workflow= priority= models= where=]     unreserve LABEL
    cordon ID   uncordon ID   drain ID [deadline=]   remove ID [force]   lost ID   returned ID
    quota NAME KIND=N.. [parent= weight=]     unquota NAME      (weight in thousandths)
    queue set|start [order=fifo|priority|fair_share|priority_with_fairshare ageing= backfill=greedy|easy|conservative
                     depth= preemption=none|lower_priority grace= min_run= per_hour=]    (start: of the configuration)
    session LABEL     lead REPLICA gap=MS     tick     rules VERSION
    show node ID | quota NAME | waiting | live      (a question, not an entry)

Any command takes `session=LABEL sequence=N` or `key=TEXT`, and `principal=NAME`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from fractions import Fraction
from hashlib import blake2b

from raftalloc.core import commands, events
from raftalloc.core.commands import Asked, Command, Constraint, Origin
from raftalloc.core.events import Event
from raftalloc.core.quantities import Vector, is_kind, scale_of, text_of
from raftalloc.core.records import DONE, GRANTED, QUEUED, Outcome
from raftalloc.core.rejections import describe
from raftalloc.core.terms import NO_TERMS

_STATUS_NAMES = {GRANTED: "GRANTED", QUEUED: "QUEUED", DONE: "DONE"}
_OPERATORS = {name: number for number, name in commands.OPERATOR_NAMES.items()}
_POLICIES = {name: number for number, name in commands.POLICY_NAMES.items()}
_ORDERS = {name: number for number, name in commands.ORDER_NAMES.items()}
_BACKFILLS = {name: n for n, name in commands.BACKFILL_NAMES.items()} | {"leave": commands.LEAVE}
_PREEMPTIONS = {n: i for i, n in commands.PREEMPTION_NAMES.items()} | {"leave": commands.LEAVE}
_PRIORITIES = {name.lower(): number for number, name in commands.PRIORITY_NAMES.items()}

_NOT_TOLD = ("WeightsSet", "Sought")
"""Events that scenarios leave out: they come with every change of the fleet, or every while; golden files pin them."""
_REPEATED = (
    "principal",
    "digest",
    "agent_type",
    "wait_ms",
    "lease_ttl_ms",
    "policy",
    "rejection_field",
)
"""Fields that scenarios leave out: they repeat what was asked, or stand in the outcome."""
_USUAL = {
    "priority": commands.MEDIUM,
    "count": 1,
    "weight": commands.WEIGHT_ONE,
    "terms": NO_TERMS,
}
"""Values that are told only where they differ."""


@dataclass(slots=True)
class Line:
    """One `at` line, taken apart: what, about whom, and the rest as words and settings."""

    at_ms: int
    verb: str
    name: str
    words: list[str]
    settings: dict[str, str]
    text: str

    def take(self, key: str, default: str = "") -> str:
        """A setting, taken out: what is left at the end was not understood."""
        return self.settings.pop(key, default)

    def take_ms(self, key: str) -> int:
        """A time or length of time."""
        return int(self.take(key, "0"))

    def take_word(self, word: str) -> bool:
        """A bare word."""
        if word in self.words:
            self.words.remove(word)
            return True
        return False

    def take_vector(self) -> Vector:
        """Everything that is called like a kind."""
        kinds = sorted(key for key in self.settings if is_kind(key))
        return tuple((kind, amount_of(kind, self.settings.pop(kind))) for kind in kinds)


def amount_of(kind: str, text: str) -> int:
    """Whole units as text -> canonical units, exactly."""
    amount = Fraction(text) * scale_of(kind)
    assert amount.denominator == 1, f"{text} of {kind} is no whole number of canonical units"
    return int(amount)


def parse_line(text: str) -> Line:
    """`at 200 allocate b cpu=2` taken apart."""
    match = re.fullmatch(r"at (\d+) (\w+) ?(.*)", text)
    assert match, f"not a line of a scenario: {text!r}"
    words, settings = [], {}
    for word in match[3].split():
        key, equals, value = word.partition("=")
        if equals:
            settings[key] = value
        else:
            words.append(word)
    name = words.pop(0) if words else ""
    return Line(int(match[1]), match[2], name, words, settings, text)


@dataclass(slots=True)
class Labels:
    """What the labels of a scenario stand for, and the tokens of the grants seen so far."""

    ids: dict[str, int] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)

    def id_of(self, label: str) -> int:
        """`a`, `a+1`, or a number."""
        name, _, offset = label.partition("+")
        return self.ids.get(name, int(name) if name.isdigit() else 0) + int(offset or 0)

    def agent_of(self, label: str) -> str:
        """Who asked for it."""
        return self.agents.get(label.partition("+")[0], label)


def asked_by(line: Line, labels: Labels) -> Asked:
    """The command of a line and its origin. Complains of what it does not know."""
    key = line.take("key")
    origin = Origin(
        principal=line.take("principal", "local"),
        session=labels.id_of(line.take("session", "0")),
        sequence=line.take_ms("sequence"),
        key=blake2b(key.encode(), digest_size=16).hexdigest() if key else "",
    )
    command = _command(line, labels)
    assert not line.settings, f"not understood: {line.settings} in {line.text!r}"
    assert not line.words, f"not understood: {line.words} in {line.text!r}"
    return Asked(command, origin)


def _command(line: Line, labels: Labels) -> Command:
    match line.verb:
        case "node" | "provider":
            return _register(line)
        case "allocate":
            return _allocate(line, labels)
        case "reserve":
            return _reserve(line, labels)
        case "renew":
            ident, token, agent = _holder(line, labels)
            return commands.Renew(ident, token, agent, line.take_ms("extension"))
        case "resize":
            return commands.Resize(*_holder(line, labels), line.take_vector())
        case "release":
            return commands.Release(*_holder(line, labels))
        case "cancel":
            agent = line.take("agent", labels.agent_of(line.name))
            return commands.Cancel(labels.id_of(line.name), agent)
        case "unreserve":
            return commands.CancelReservation(labels.id_of(line.name))
        case "quota":
            weight = line.take_ms("weight")
            return commands.SetQuota(line.name, line.take("parent"), line.take_vector(), weight)
        case "queue":
            return _set_queue(line)
        case "unquota":
            return commands.DeleteQuota(line.name)
        case "session":
            return commands.OpenSession()
        case "lead":
            return commands.TakeLead(line.name, line.take_ms("gap"))
        case "rules":
            return commands.SwitchRules(int(line.name))
        case "tick":
            return commands.Tick()
    return _node_command(line)


def _node_command(line: Line) -> Command:
    match line.verb:
        case "cordon":
            return commands.Cordon(line.name)
        case "uncordon":
            return commands.Uncordon(line.name)
        case "drain":
            return commands.Drain(line.name, line.take_ms("deadline"))
        case "remove":
            return commands.RemoveNode(line.name, line.take_word("force"))
        case "lost":
            return commands.MarkLost(line.name)
        case "returned":
            return commands.MarkReturned(line.name)
    raise AssertionError(f"no such command: {line.text!r}")


def _set_queue(line: Line) -> Command:
    order = line.take("order")
    return commands.SetQueue(
        initial=line.name == "start",
        order=_ORDERS[order] if order else commands.LEAVE,
        ageing_ms=int(line.take("ageing", str(commands.LEAVE))),
        backfill=_BACKFILLS[line.take("backfill", "leave")],
        depth=int(line.take("depth", str(commands.LEAVE))),
        preemption=_PREEMPTIONS[line.take("preemption", "leave")],
        grace_ms=int(line.take("grace", str(commands.LEAVE))),
        min_run_ms=int(line.take("min_run", str(commands.LEAVE))),
        per_hour=int(line.take("per_hour", str(commands.LEAVE))),
    )


def _register(line: Line) -> Command:
    gpus = line.take("gpus")
    devices = tuple(gpus.split(",")) if gpus else ()
    attributes = {
        key.removeprefix("attr."): line.take(key)
        for key in sorted(line.settings)
        if key.startswith("attr.")
    }
    capacity = dict(line.take_vector())
    if devices:
        capacity["gpu"] = 1000 * len(devices)
    return commands.RegisterNode(
        node_id=line.name,
        provider=line.verb == "provider",
        capacity=tuple(sorted(capacity.items())),
        devices=devices,
        attributes=tuple(sorted(attributes.items())),
        static=line.take_word("static"),
    )


def _allocate(line: Line, labels: Labels) -> Command:
    agent = labels.agents[line.name] = line.take("agent", line.name)
    return commands.Allocate(
        agent_id=agent,
        agent_type=line.take("type", re.sub(r"_\d+$", "", agent)),
        workflow_id=line.take("workflow"),
        priority=_PRIORITIES[line.take("priority", "medium")],
        gpu_models=_parts(line.take("models")),
        constraints=_constraints(line),
        count=int(line.take("count", "1")),
        gang=line.take_word("gang"),
        protected=line.take_word("protected"),
        duration_ms=line.take_ms("duration"),
        lease_ttl_ms=line.take_ms("lease"),
        wait_ms=line.take_ms("wait"),
        policy=_POLICIES[line.take("policy", "best_fit")],
        reservation_id=labels.id_of(line.take("reservation", "0")),
        demand=line.take_vector(),
    )


def _reserve(line: Line, labels: Labels) -> Command:
    agent = labels.agents[line.name] = line.take("agent", line.name)
    return commands.Reserve(
        agent_id=agent,
        agent_type=line.take("type", re.sub(r"_\d+$", "", agent)),
        workflow_id=line.take("workflow", "w"),
        priority=_PRIORITIES[line.take("priority", "medium")],
        start_ms=line.take_ms("start"),
        duration_ms=line.take_ms("duration"),
        gpu_models=_parts(line.take("models")),
        constraints=_constraints(line),
        demand=line.take_vector(),
    )


def _holder(line: Line, labels: Labels) -> tuple[int, int, str]:
    ident = labels.id_of(line.name)
    token = line.take_ms("token") or labels.tokens.get(ident, 0)
    return ident, token, line.take("agent", labels.agent_of(line.name))


def _constraints(line: Line) -> tuple[Constraint, ...]:
    found = []
    for text in line.take("where").split(","):
        if text:
            key, operator, values = (*text.split(":"), "")[:3]
            found.append(Constraint(key, _OPERATORS[operator], _parts(values)))
    return tuple(found)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split("|")) if text else ()


def told(event: Event) -> list[str]:
    """One event as a line: its type, and every field that says something. No line for some."""
    words = [type(event).__name__]
    if words[0] in _NOT_TOLD:
        return []
    for each in fields(event):
        value = getattr(event, each.name)
        if value and value != _USUAL.get(each.name) and not _goes_without_saying(event, each.name):
            words.append(f"{each.name}={_value(each.name, value)}")
    return [" ".join(words)]


def _goes_without_saying(event: Event, name: str) -> bool:
    if isinstance(event, events.QueueSet):
        return name != "order" and getattr(event, name) == getattr(events.QueueSet(), name)
    match name, event:
        case "suppliers", events.Promised():
            return all(supplier in event.nodes for supplier in event.suppliers)
        case (
            "suppliers",
            events.Resized()
            | events.Granted()
            | events.ReservationMade()
            | events.ReservationMoved(),
        ):
            return all(supplier == event.node_id for supplier in event.suppliers)
        case "request_id", events.Granted():
            return event.request_id == event.allocation_id
    return name in _REPEATED


def _value(name: str, value: object) -> str:
    match name, value:
        case "state", int(state):
            return events.NODE_STATE_NAMES[state]
        case "backfill", int(backfill):
            return commands.BACKFILL_NAMES[backfill]
        case "preemption", int(preemption):
            return commands.PREEMPTION_NAMES[preemption]
        case "order", int(order):
            return commands.ORDER_NAMES[order]
        case "priority", int(priority):
            return commands.PRIORITY_NAMES[priority]
        case "status", int(status):
            return _STATUS_NAMES.get(status, "REJECTED")
        case "weights", tuple(pairs):
            return ",".join(kind for kind, _ in pairs)
        case _, bool():
            return "yes"
        case _, tuple(items):
            return ",".join(_item(item) for item in items)
    return str(value)


def _item(item: object) -> str:
    match item:
        case Constraint(key, operator, values):
            return ":".join([key, commands.OPERATOR_NAMES[operator], "|".join(values)])
        case (str(kind), int(amount)) if is_kind(kind):
            return f"{kind}:{text_of(kind, amount)}"
        case (key, value):
            return f"{key}:{value}"
    return str(item)


def answered(outcome: Outcome) -> list[str]:
    """One outcome as a line. No line for a plain DONE."""
    words = ["=>", _STATUS_NAMES.get(outcome.status, "REJECTED")]
    if outcome.status == DONE and not outcome.subject and not outcome.replayed:
        return []
    if outcome.subject:
        words.append(str(outcome.subject))
    if outcome.count > 1:
        words.append(f"count={outcome.count}")
    if outcome.token:
        words.append(f"token={outcome.token}")
    if outcome.replayed:
        words.append("(as before)")
    if outcome.rejection:
        words.append(f"{outcome.rejection.code}: {describe(outcome.rejection)}")
    return [" ".join(words)]
