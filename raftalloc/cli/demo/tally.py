"""What the agents of a run have seen so far: counts for the display and the report, times for the figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Grows while the agents work. Times are seconds of the event loop's clock.

    calls: (asked, answered) of every Allocate that was answered, whatever the answer. granted counts members.
    late: given back or renewed too late. unanswered: calls that had no answer by their deadline.
    """

    calls: list[tuple[float, float]] = field(default_factory=list)
    granted: int = 0
    queued: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    withdrawn: int = 0
    renewed: int = 0
    released: int = 0
    abandoned: int = 0
    ran_out: int = 0
    late: int = 0
    cancelled: int = 0
    unanswered: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    def latencies_ms(self) -> list[float]:
        """Of every answered call, sorted."""
        return sorted((answered - asked) * 1000 for asked, answered in self.calls)

    def first_answer_after(self, moment: float) -> float | None:
        """Seconds from `moment` to the first answer to a call that was made after it."""
        answers = [answered for asked, answered in self.calls if asked >= moment]
        return min(answers) - moment if answers else None

    def counts(self) -> dict[str, int]:
        """All counters by name."""
        return {
            "granted": self.granted,
            "queued": self.queued,
            "rejected": self.rejected.total(),
            "withdrawn": self.withdrawn,
            "renewed": self.renewed,
            "released": self.released,
            "abandoned": self.abandoned,
            "ran_out": self.ran_out,
            "late": self.late,
            "cancelled": self.cancelled,
            "unanswered": self.unanswered,
        }


def quantile(ordered: list[float], share: float) -> float:
    """Of sorted values, the least that `share` of them do not exceed (nearest rank); 0 of none."""
    if not ordered:
        return 0.0
    rank = -(-int(share * 10_000) * len(ordered) // 10_000)
    return ordered[min(max(rank, 1), len(ordered)) - 1]
