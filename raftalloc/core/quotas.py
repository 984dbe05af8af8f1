"""The quota tree: limits on what an agent type, and every group above it, may hold at once.

A quota node has a name, a parent, a weight (of its share: `fairness`), a limit per kind (absent: none) and what is
used and held below it. A request
is charged at the node called by its agent type and at every ancestor in one step; it fits if it fits at each of
them. `root` is the whole fleet; `default` is the parent of agent types that nobody set a quota for (implicit
nodes). Depth is bounded only by QUOTA_DEPTH_MAX; the code does not care.

Arrays are (rows, kinds) int64; NO_LIMIT stands where nothing is set. Usage may stand above a limit that was lowered
under it: then nothing more fits there until it has fallen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.commands import WEIGHT_ONE

ROOT = "root"
DEFAULT = "default"
NO_LIMIT = 1 << 60
"""Above any limit, and not below any use (quantities.FLEET_AMOUNT_MAX)."""
QUOTA_DEPTH_MAX = 32
QUOTAS_MAX = 1 << 16
"""Quota nodes, implicit ones included: bounds what unknown agent types can cost."""
_ROWS_MIN = 16
_KINDS_MIN = 16


class Quotas:
    """Quota nodes by name. Lists are indexed by row; a free row has name ''."""

    def __init__(self) -> None:
        """Start with root (row 0) and default (row 1)."""
        self.names: list[str] = []
        self.parents: list[int] = []
        self.implicit: list[bool] = []
        self.allocations: list[int] = []
        self.children: list[int] = []
        self.weights: list[int] = []
        self.free_rows: list[int] = []
        self.limit = np.full((_ROWS_MIN, _KINDS_MIN), NO_LIMIT, np.int64)
        self.used = np.zeros((_ROWS_MIN, _KINDS_MIN), np.int64)
        self.held = np.zeros((_ROWS_MIN, _KINDS_MIN), np.int64)
        self._rows: dict[str, int] = {}
        self.add(ROOT, -1, implicit=False)
        self.add(DEFAULT, 0, implicit=False)

    # -- reading -------------------------------------------------------------------------------------------------------

    def row(self, name: str) -> int:
        """The row of a quota node, or -1."""
        return self._rows.get(name, -1)

    def charged_row(self, agent_type: str) -> int:
        """Where a request of this type is checked: its own node, or `default` where it has none yet."""
        return self._rows.get(agent_type, self._rows[DEFAULT])

    def chain(self, row: int) -> Iterator[int]:
        """The row and its ancestors, up to root."""
        while row >= 0:
            yield row
            row = self.parents[row]

    def is_below(self, row: int, above: int) -> bool:
        """Whether `row` is `above` or stands under it."""
        return above in self.chain(row)

    def free(self, row: int, kind: int) -> int:
        """Limit - used - held of one node; a huge number where there is no limit."""
        return int(self.limit[row, kind] - self.used[row, kind] - self.held[row, kind])

    def taken(self, row: int, kind: int) -> int:
        """Used and held of one node."""
        return int(self.used[row, kind] + self.held[row, kind])

    def rows_in_order(self) -> list[int]:
        """Rows in use, in the order in which they were made known."""
        return list(self._rows.values())

    def count(self) -> int:
        """Nodes, implicit ones included."""
        return len(self._rows)

    # -- writing: only `evolve` calls these
    # ------------------------------------------------------------------------------

    def add(self, name: str, parent: int, *, implicit: bool) -> int:
        """A node without limits."""
        if self.free_rows:
            row = self.free_rows.pop()
        else:
            row = len(self.names)
            self.names.append("")
            self.parents.append(-1)
            self.implicit.append(False)
            self.allocations.append(0)
            self.children.append(0)
            self.weights.append(WEIGHT_ONE)
        self.make_room(len(self.names), self.limit.shape[1])
        self.names[row], self.parents[row], self.implicit[row] = name, parent, implicit
        self._rows[name] = row
        if parent >= 0:
            self.children[parent] += 1
        return row

    def set(self, row: int, parent: int, limits: Mapping[int, int], *, implicit: bool) -> None:
        """New limits and parent; what is charged below the node moves with it."""
        old_parent = self.parents[row]
        if parent != old_parent:
            self._charge_above(old_parent, row, -1)
            self.parents[row] = parent
            self._charge_above(parent, row, +1)
            self.children[old_parent] -= 1
            self.children[parent] += 1
        self.implicit[row] = implicit
        self.set_limits(row, limits)

    def set_limits(self, row: int, limits: Mapping[int, int]) -> None:
        """Replace the limits; a kind that is not named is not limited."""
        self.limit[row] = NO_LIMIT
        for kind, amount in limits.items():
            self.limit[row, kind] = amount

    def remove(self, row: int) -> None:
        """Forget a node that nothing is charged to and nothing stands under."""
        assert not self.allocations[row], "a quota in use was removed"
        assert not self.children[row], "a quota with children was removed"
        self.children[self.parents[row]] -= 1
        del self._rows[self.names[row]]
        self.names[row], self.parents[row], self.implicit[row] = "", -1, False
        self.weights[row] = WEIGHT_ONE
        self.limit[row], self.used[row], self.held[row] = NO_LIMIT, 0, 0
        self.free_rows.append(row)

    def change(self, row: int, kind: int, *, used: int = 0, held: int = 0) -> None:
        """Charge a node and all its ancestors with one kind."""
        for above in self.chain(row):
            self.used[above, kind] += used
            self.held[above, kind] += held
            assert self.used[above, kind] >= 0, "a quota was given back more than was charged"
            assert self.held[above, kind] >= 0, "a quota was drawn more than was held"

    def count_allocation(self, row: int, by: int) -> None:
        """One allocation more or less, here and above."""
        for above in self.chain(row):
            self.allocations[above] += by

    def make_room(self, rows: int, kinds: int) -> None:
        """Grow by doubling until (rows, kinds) fit."""
        have_rows, have_kinds = self.limit.shape
        new_rows, new_kinds = have_rows, have_kinds
        while new_rows < rows:
            new_rows *= 2
        while new_kinds < kinds:
            new_kinds *= 2
        if (new_rows, new_kinds) == (have_rows, have_kinds):
            return
        for name, fill in (("limit", NO_LIMIT), ("used", 0), ("held", 0)):
            grown: NDArray[np.int64] = np.full((new_rows, new_kinds), fill, np.int64)
            grown[:have_rows, :have_kinds] = getattr(self, name)
            setattr(self, name, grown)

    def restore(
        self,
        names: list[str],
        parents: list[int],
        implicit: list[bool],
        order: list[int],
        free_rows: list[int],
        weights: list[int],
    ) -> None:
        """Take the shape of the tree from a snapshot; limits and use are set by the caller."""
        count = len(names)
        self.names, self.parents, self.implicit = list(names), list(parents), list(implicit)
        self.allocations, self.children = [0] * count, [0] * count
        self.free_rows, self.weights = list(free_rows), list(weights)
        self._rows = {names[row]: row for row in order}
        for row in order:
            if parents[row] >= 0:
                self.children[parents[row]] += 1
        self.make_room(count, self.limit.shape[1])

    def _charge_above(self, parent: int, row: int, sign: int) -> None:
        for above in self.chain(parent):
            self.used[above] += sign * self.used[row]
            self.held[above] += sign * self.held[row]
            self.allocations[above] += sign * self.allocations[row]
