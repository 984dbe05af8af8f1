"""What a run came to. The names of the figures are part of the surface: scripts read them (docs/cli.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from raftalloc.cli.demo.tally import quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.cli.demo.collect import Digests
    from raftalloc.cli.demo.log import Fault
    from raftalloc.cli.demo.tally import Tally
    from raftalloc.cli.output import Plain


@dataclass(frozen=True, slots=True)
class Judgement:
    """The oracle's complaints, one list a check."""

    lost: Sequence[Fault]
    duplicated: Sequence[Fault]
    over_capacity: Sequence[Fault]
    disagreements: Sequence[Fault]

    def all(self) -> list[Fault]:
        """Every complaint."""
        return [*self.lost, *self.duplicated, *self.over_capacity, *self.disagreements]


@dataclass(frozen=True, slots=True)
class Report:
    """A run. lost, duplicated, over_capacity: how many different things, not how many replicas said so.

    failover_ms: from SIGKILL to the first answer to a request made after it, as a caller sees it; None: never.
    """

    acknowledged: int
    lost: int
    duplicated: int
    over_capacity: int
    digests_equal: bool
    failover_ms: float | None
    allocations_per_s: float
    p50_ms: float
    p99_ms: float
    replicas: int
    nodes: int
    agents: int
    invariants: str
    killed: str
    new_leader: str
    load_seconds: float
    index: int
    events: int
    left: int
    outcomes: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or overcommitted, and all replicas agree and are sound."""
        clean = self.lost == self.duplicated == self.over_capacity == 0 and not self.faults
        sound = self.digests_equal and self.invariants == "ok"
        return clean and sound and self.acknowledged > 0 and self.failover_ms is not None

    def plain(self) -> dict[str, Plain]:
        """As JSON has it."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Course:
    """How a run went, apart from its verdict. Times are seconds of the event loop's clock."""

    replicas: int
    nodes: int
    agents: int
    began: float
    ended: float
    killed_at: float
    killed: str
    new_leader: str
    left: int


def report_of(
    course: Course,
    tally: Tally,
    acknowledged: int,
    found: Digests,
    judgement: Judgement,
    events: int,
) -> Report:
    """Put together what was measured and what was judged."""
    latencies = tally.latencies_ms()
    failover = tally.first_answer_after(course.killed_at)
    seconds = course.ended - course.began
    return Report(
        acknowledged=acknowledged,
        lost=_different(judgement.lost),
        duplicated=_different(judgement.duplicated),
        over_capacity=_different(judgement.over_capacity),
        digests_equal=found.equal and not judgement.disagreements,
        failover_ms=None if failover is None else round(failover * 1000, 1),
        allocations_per_s=round(tally.granted / seconds, 1),
        p50_ms=round(quantile(latencies, 0.5), 2),
        p99_ms=round(quantile(latencies, 0.99), 2),
        replicas=course.replicas,
        nodes=course.nodes,
        agents=course.agents,
        invariants=found.sound,
        killed=course.killed,
        new_leader=course.new_leader,
        load_seconds=round(seconds, 1),
        index=found.index,
        events=events,
        left=course.left,
        outcomes=tally.counts(),
        rejected=dict(sorted(tally.rejected.items())),
        faults=[
            f"{each.check} {each.replica} {each.index}: {each.message}" for each in judgement.all()
        ],
    )


def _different(faults: Sequence[Fault]) -> int:
    """Each thing counts once, however many replicas show it."""
    return len({(fault.index, fault.message) for fault in faults})
