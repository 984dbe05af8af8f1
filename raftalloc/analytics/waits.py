"""How long requests waited for their grants, by priority: exact, in milliseconds.

Waits repeat (most are 0, and the members of an array start together), so a count for each length
seen takes far less room than the waits themselves.
"""

from __future__ import annotations


class Waits:
    """Fed with `add`; asked with `quantile_ms`."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[int, int]] = {}

    def add(self, priority: int, waited_ms: int, count: int = 1) -> None:
        """`count` grants of this priority waited so long."""
        lengths = self._counts.setdefault(priority, {})
        lengths[waited_ms] = lengths.get(waited_ms, 0) + count

    def priorities(self) -> list[int]:
        """Those that had a grant, highest first."""
        return sorted(self._counts, reverse=True)

    def count(self, priority: int) -> int:
        """Grants of this priority."""
        return sum(self._counts.get(priority, {}).values())

    def mean_ms(self, priority: int) -> int:
        """The mean wait, rounded down; 0: none."""
        lengths = self._counts.get(priority, {})
        total = sum(waited_ms * count for waited_ms, count in lengths.items())
        return total // max(1, sum(lengths.values()))

    def quantile_ms(self, priority: int, percent: int) -> int:
        """The shortest wait that `percent` of the grants did not exceed (nearest rank); 0: none."""
        assert 0 < percent <= 100
        lengths = self._counts.get(priority, {})
        rank = -(-percent * sum(lengths.values()) // 100)
        seen = 0
        for waited_ms in sorted(lengths):
            seen += lengths[waited_ms]
            if seen >= rank:
                return waited_ms
        return 0
