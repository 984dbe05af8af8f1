"""What a run came to. The names are part of the surface: scripts read them (docs/chaos.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from raftalloc.cli.demo.tally import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be. replica: empty where it concerns the group. index: of the log, or 0."""

    check: str
    replica: str
    index: int
    message: str


@dataclass(frozen=True, slots=True)
class Round:
    """One fault. Milliseconds; None: not within the time that there was.

    gap: until a write that was asked after the fault began was acknowledged. slowest: the longest call of any agent.
    back: from the end of the fault until every replica had caught up.
    """

    fault: str
    victim: str
    gap_ms: float | None
    slowest_ms: float | None = None
    back_ms: float | None = None


@dataclass(slots=True)
class Report:
    """A run as JSON has it. failovers_ms: the gaps of all rounds that had one, in order."""

    seed: int
    rounds: list[Round] = field(default_factory=list)
    seconds: float = 0.0
    operations: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    checks: dict[str, int] = field(default_factory=dict)
    etcd: dict[str, Any] = field(default_factory=dict)

    @property
    def failovers_ms(self) -> list[float]:
        """Of every round in which writes were taken again."""
        return [each.gap_ms for each in self.rounds if each.gap_ms is not None]

    @property
    def availability(self) -> float:
        """The share of the time in which writes were taken."""
        if not self.seconds:
            return 1.0
        return round(max(0.0, 1 - sum(self.failovers_ms) / 1000 / self.seconds), 5)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "seed": self.seed,
            "minutes": round(self.seconds / 60, 2),
            "operations": self.operations,
            "faults": {name: len(rounds) for name, rounds in self.by_fault().items()},
            "violations": [asdict(each) for each in self.violations],
            "failovers_ms": self.failovers_ms,
            "figures": {name: figures(rounds) for name, rounds in self.by_fault().items()},
            "availability": self.availability,
            "checks": self.checks,
            "etcd": self.etcd,
            "rounds": [asdict(each) for each in self.rounds],
        }

    def by_fault(self) -> dict[str, list[Round]]:
        """The rounds of each fault, in the order in which faults came first."""
        found: dict[str, list[Round]] = {}
        for each in self.rounds:
            found.setdefault(each.fault, []).append(each)
        return found


def figures(rounds: Sequence[Round]) -> dict[str, float | int]:
    """Median, p99 and worst of the gaps, of the slowest calls, and of the times until all were back."""
    found: dict[str, float | int] = {"rounds": len(rounds)}
    for name in ("gap_ms", "slowest_ms", "back_ms"):
        values = sorted(value for each in rounds if (value := getattr(each, name)) is not None)
        if values:
            found |= {
                f"{name.removesuffix('_ms')}_median_ms": quantile(values, 0.5),
                f"{name.removesuffix('_ms')}_p99_ms": quantile(values, 0.99),
                f"{name.removesuffix('_ms')}_worst_ms": values[-1],
            }
    return found


def table(report: Report) -> Iterable[str]:
    """For people: a line for each fault, and for each etcd beside it."""
    yield f"{'writes taken again after':<34} {'rounds':>6} {'median':>9} {'p99':>9} {'worst':>9}"
    for name, rounds in report.by_fault().items():
        yield _line(f"raftalloc, {name}", figures(rounds))
    for setting, found in report.etcd.items():
        yield _line(f"etcd {setting}, kill", found)
    operations = " ".join(f"{name}={count}" for name, count in sorted(report.operations.items()))
    yield f"availability {report.availability:.3%}; calls: {operations}"
    checks = " ".join(f"{name}={count}" for name, count in report.checks.items())
    yield f"checked: {checks}"
    for violation in report.violations[:20]:
        where = f" {violation.replica}" if violation.replica else ""
        yield f"VIOLATION {violation.check}{where} {violation.index}: {violation.message}"
    yield f"{len(report.violations)} violations"


def _line(name: str, found: dict[str, Any]) -> str:
    values = [found.get(f"gap_{which}_ms") for which in ("median", "p99", "worst")]
    texts = " ".join(f"{value:6.0f} ms" if value is not None else "        -" for value in values)
    return f"{name:<34} {found['rounds']:>6} {texts}"
