"""Judges a run from the event logs of its replicas and from what its callers were told. Pure functions, no trust.

Inputs: `Log`, the events of one replica in order, and `Acknowledged`, every answer a caller got. Nothing here reads
a counter, digest or invariant that a server computed. Each check answers Faults; no Faults, no complaint.

    lost            an acknowledged grant, release or queueing that some replica's log does not have
    duplicated      one job granted more often than asked, or an allocation id or fencing token given twice
    over_capacity   a grant that took a node, device, provider or quota above what it had at that moment (ledger.py)
    disagreements   replicas whose logs differ, and logs with a hole or out of order
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from raftalloc.cli.demo.ledger import Ledger
from raftalloc.cli.demo.log import Fault, Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from raftalloc.cli.demo.log import Seen

DISAGREEMENTS_MAX: Final = 10
"""Of two logs: after so many the point is made."""


@dataclass(slots=True)
class Acknowledged:
    """What callers were told, and what they asked for.

    asked: workflow -> members asked for. Every job of a run is a workflow of its own, so that a job that was granted
    twice shows whatever became of its idempotency. grants: allocation id -> (fencing token or 0 if not told, workflow).
    queued: request id -> workflow. released: allocation ids.
    """

    asked: dict[str, int] = field(default_factory=dict)
    grants: dict[int, tuple[int, str]] = field(default_factory=dict)
    queued: dict[int, str] = field(default_factory=dict)
    released: set[int] = field(default_factory=set)

    def count(self) -> int:
        """Grants that somebody was told of."""
        return len(self.grants)


def lost(acknowledged: Acknowledged, logs: Mapping[str, Log]) -> list[Fault]:
    """What was acknowledged and is not in the log of every replica."""
    return [
        fault for replica, log in logs.items() for fault in _lost_in(acknowledged, replica, log)
    ]


def _lost_in(acknowledged: Acknowledged, replica: str, log: Log) -> Iterable[Fault]:
    tokens = {e.number("allocation_id"): e.number("token") for e in log if e.type == "Granted"}
    waits = {e.number("request_id") for e in log if e.type == "Queued"}
    ends = {
        e.number("allocation_id")
        for e in log
        if e.type == "Ended" and e.text("reason") == "RELEASED"
    }
    for allocation_id, (token, workflow) in acknowledged.grants.items():
        # An answer that was asked for again after the allocation had ended no longer has the token.
        if allocation_id not in tokens or token not in (0, tokens[allocation_id]):
            yield Fault(
                "lost", replica, 0, f"grant {allocation_id} with token {token} ({workflow})"
            )
    for request_id, workflow in acknowledged.queued.items():
        if request_id not in waits:
            yield Fault("lost", replica, 0, f"queued request {request_id} ({workflow})")
    for allocation_id in acknowledged.released:
        if allocation_id not in ends:
            yield Fault("lost", replica, 0, f"release of {allocation_id}")


def duplicated(acknowledged: Acknowledged, logs: Mapping[str, Log]) -> list[Fault]:
    """What was granted more than once."""
    return [
        fault
        for replica, log in logs.items()
        for fault in _duplicated_in(acknowledged.asked, replica, log)
    ]


def _duplicated_in(asked: Mapping[str, int], replica: str, log: Log) -> Iterable[Fault]:
    grants = [event for event in log if event.type == "Granted"]
    workflows: Counter[str] = Counter()
    ids: Counter[int] = Counter()
    token_before = 0
    for event in grants:
        workflow, allocation_id, token = (
            event.text("workflow_id"),
            event.number("allocation_id"),
            event.number("token"),
        )
        workflows[workflow] += 1
        ids[allocation_id] += 1
        if workflow in asked and workflows[workflow] == asked[workflow] + 1:
            message = f"job {workflow} asked for {asked[workflow]} and was granted more"
            yield Fault("duplicated", replica, event.index, message)
        if ids[allocation_id] == 2:
            yield Fault(
                "duplicated", replica, event.index, f"allocation id {allocation_id} given twice"
            )
        if token <= token_before:
            message = f"fencing token {token} after {token_before}: it must rise with every grant"
            yield Fault("duplicated", replica, event.index, message)
        token_before = max(token, token_before)
    yield from _answered_twice(replica, log)


def _answered_twice(replica: str, log: Log) -> Iterable[Fault]:
    attempts: Counter[tuple[int, int, str]] = Counter()
    for event in log:
        if event.type != "Answered":
            continue
        attempt = (event.number("session"), event.number("sequence"), event.text("key"))
        attempts[attempt] += 1
        # A free-form key may serve again a day after it expired; a sequence of a session never does.
        if attempts[attempt] == 2:
            yield Fault(
                "duplicated", replica, event.index, f"idempotency {attempt} carried out twice"
            )


def over_capacity(logs: Mapping[str, Log]) -> list[Fault]:
    """Grants above what was there, from the events alone, at every prefix."""
    faults = []
    for replica, log in logs.items():
        ledger = Ledger(replica)
        for event in log:
            ledger.take(event)
        faults += ledger.faults
    return faults


def disagreements(logs: Mapping[str, Log]) -> list[Fault]:
    """Where the replicas' logs differ, and where one is not in order."""
    faults = [fault for replica, log in logs.items() for fault in _out_of_order(replica, log)]
    replicas = list(logs)
    for replica in replicas[1:]:
        faults += _differences(replicas[0], logs[replicas[0]], replica, logs[replica])
    return faults


def _out_of_order(replica: str, log: Sequence[Seen]) -> Iterable[Fault]:
    before = (0, -1)
    for event in log:
        at = (event.index, event.sequence)
        follows = at == (before[0], before[1] + 1) or (at[0] > before[0] and at[1] == 0)
        if not follows:
            yield Fault("disagreement", replica, event.index, f"event {at} stands after {before}")
        before = at


def _differences(first: str, ours: Log, replica: str, theirs: Log) -> list[Fault]:
    faults = [
        Fault(
            "disagreement",
            replica,
            a.index,
            f"event {a.sequence} is {b.type} {b.index}/{b.sequence} here, {a.type} on {first}",
        )
        for a, b in zip(ours, theirs, strict=False)
        if a != b
    ]
    if len(ours) != len(theirs):
        message = f"{len(theirs)} events here, {len(ours)} on {first}"
        faults.insert(0, Fault("disagreement", replica, 0, message))
    return faults[:DISAGREEMENTS_MAX]
