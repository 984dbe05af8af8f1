"""Waiting requests by shape, and the quick question which of them a change could help.

Requests of one SHAPE (same demand, constraints, quota, priority ...) fit or do not fit together, so they stand
in one LINE and only the first of each line is ever tried (equivalence classes, after Borg, EuroSys'15, section
3.4).

A line remembers what its first was last blocked by: ROOM, or a QUOTA and which. It is tried again only when that could
have changed: more room on a row that could hold it, or under the quota that refused it. A line of which nothing
is known (new, or after a restore) is tried once. What each line needs lies in arrays, (lines, kinds), so that a
row that was given back is compared with all lines in one numpy pass: about 50 us for 5,000 lines.

All of this is derived from the waiting requests and is not part of the state's bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.events import Queued
from raftalloc.core.matrix import Column
from raftalloc.core.names import Names

Shape = tuple[object, ...]
Slots = NDArray[np.bool_]

EMPTY = 0
UNKNOWN = 1
ROOM = 2
QUOTA = 3

_SLOTS_MIN = 64
_KINDS_MIN = 16
_LAST = np.iinfo(np.int64).max


def shape_of(queued: Queued) -> Shape:
    """What decides whether a request fits, but for how long it runs: only windows booked ahead take notice of that.

    With windows ahead the first of a line may be blocked and a shorter one behind it not; `turns` looks for it.
    """
    return (
        queued.priority,
        queued.agent_type,
        queued.demand,
        queued.gpu_models,
        queued.constraints,
        queued.policy,
        queued.count if queued.gang else 0,
        queued.terms,
        (queued.agent_id, queued.workflow_id) if queued.terms.follows_others else (),
    )


@dataclass(slots=True)
class Line:
    """The waiting requests of one shape, first come first."""

    shape: Shape
    slot: int
    requests: OrderedDict[int, None] = field(default_factory=OrderedDict)

    @property
    def first(self) -> int:
        """The request that is next in this line."""
        return next(iter(self.requests))


class Lines:
    """Lines by shape. Arrays are indexed by slot; an EMPTY slot is used again."""

    def __init__(self) -> None:
        """Start with none."""
        self.by_shape: dict[Shape, Line] = {}
        self.followers = 0
        self.status = np.zeros(_SLOTS_MIN, np.int64)
        self.quota_row = np.zeros(_SLOTS_MIN, np.int64)
        # What `ordering` ranks lines by: who is first, its priority, the classes that it has aged, its agent type.
        self.turn = np.full(_SLOTS_MIN, _LAST, np.int64)
        self.priority = np.zeros(_SLOTS_MIN, np.int64)
        self.level = np.zeros(_SLOTS_MIN, np.int64)
        self.agent_type = np.zeros(_SLOTS_MIN, np.int64)
        self._types = Names()
        self._node_needs = _zeros(_SLOTS_MIN, _KINDS_MIN)
        self._provider_needs = _zeros(_SLOTS_MIN, _KINDS_MIN)
        # The kinds that any line has ever asked for: only their columns are compared.
        self._node_kinds: dict[int, None] = {}
        self._provider_kinds: dict[int, None] = {}
        self._slots: list[Line | None] = [None] * _SLOTS_MIN
        self._free = list(range(_SLOTS_MIN - 1, -1, -1))

    def add(
        self, queued: Queued, node_needs: dict[int, int], provider_needs: dict[int, int]
    ) -> Line:
        """Put a request at the end of its line; the needs are by column."""
        shape = shape_of(queued)
        line = self.by_shape.get(shape)
        if line is None:
            line = self._open(shape)
            self.priority[line.slot] = queued.priority
            self.agent_type[line.slot] = self._types.acquire(queued.agent_type)
            for needs, kinds, amounts in (
                (self._node_needs, self._node_kinds, node_needs),
                (self._provider_needs, self._provider_kinds, provider_needs),
            ):
                for column, amount in amounts.items():
                    needs[line.slot, column] = amount
                    kinds[column] = None
        line.requests[queued.request_id] = None
        self.followers += queued.terms.follows_others
        self.turn[line.slot] = line.first
        return line

    def remove(self, queued: Queued) -> Line | None:
        """Take a request out of its line; None where nobody is left in it."""
        line = self.of(queued)
        del line.requests[queued.request_id]
        self.followers -= queued.terms.follows_others
        if line.requests:
            self.turn[line.slot] = line.first
            return line
        self._close(line)
        return None

    def of(self, queued: Queued) -> Line:
        """The line that a waiting request stands in."""
        return self.by_shape[shape_of(queued)]

    def type_of(self, number: int) -> str:
        """The agent type that `agent_type` has this number for."""
        return self._types.text(number)

    def at(self, slot: int) -> Line:
        """The line of a slot in use."""
        line = self._slots[slot]
        assert line is not None, "an empty slot was asked for its line"
        return line

    def block(self, slot: int, status: int, quota_row: int) -> None:
        """Remember what the first of a line was blocked by."""
        self.status[slot], self.quota_row[slot] = status, quota_row

    def forget(self, queued: Queued) -> None:
        """Nothing is known any more of what blocks the line of this request."""
        self.block(self.of(queued).slot, UNKNOWN, -1)

    def set_turn(self, slot: int, request_id: int) -> None:
        """Let a line stand in the queue where this request of it does, until its first is put there again."""
        self.turn[slot] = request_id

    # -- questions, (slots,) each ------------------------------------------------------

    def all_slots(self) -> Slots:
        """Slots in use."""
        slots: Slots = self.status != EMPTY
        return slots

    def unknown(self) -> Slots:
        """Lines of which nothing is known."""
        slots: Slots = self.status == UNKNOWN
        return slots

    def helped_by_node(self, free: Column) -> Slots:
        """Lines that were short of room and whose node part fits (kinds,) of room."""
        slots: Slots = self.status == ROOM
        for kind in self._node_kinds:
            # Where capacity was lowered under use, free is below 0: no hindrance to who asks nothing of this kind.
            slots &= self._node_needs[:, kind] <= max(0, int(free[kind]))
        return slots

    def helped_by_provider(self, capacity: Column) -> Slots:
        """Lines that were short of room and ask for something that a provider row offers."""
        asks: Slots = np.zeros(len(self.status), np.bool_)
        for kind in self._provider_kinds:
            if capacity[kind]:
                asks |= self._provider_needs[:, kind] > 0
        asks &= self.status == ROOM
        return asks

    def helped_by_quotas(self, rows: Iterable[int]) -> Slots:
        """Lines that one of these quotas refused."""
        refused: Slots = np.zeros(len(self.status), np.bool_)
        for row in rows:
            refused |= self.quota_row == row
        refused &= self.status == QUOTA
        return refused

    def oldest_of(self, slots: Slots) -> int:
        """Of these slots, which must be some, the one whose turn is that of the oldest request."""
        return int(np.where(slots, self.turn, _LAST).argmin())

    # -- inside ------------------------------------------------------------------------

    def _open(self, shape: Shape) -> Line:
        if not self._free:
            self._grow()
        slot = self._free.pop()
        line = Line(shape, slot)
        self.by_shape[shape] = line
        self._slots[slot] = line
        self.status[slot], self.quota_row[slot] = UNKNOWN, -1
        return line

    def _close(self, line: Line) -> None:
        slot = line.slot
        del self.by_shape[line.shape]
        self._slots[slot] = None
        self.status[slot], self.quota_row[slot], self.turn[slot] = EMPTY, -1, _LAST
        self._types.release(int(self.agent_type[slot]))
        self.priority[slot] = self.level[slot] = self.agent_type[slot] = 0
        self._node_needs[slot] = 0
        self._provider_needs[slot] = 0
        self._free.append(slot)

    def make_room(self, kinds: int) -> None:
        """Columns for so many kinds."""
        self._resize(len(self.status), kinds)

    def _grow(self) -> None:
        have = len(self.status)
        self._resize(have * 2, self._node_needs.shape[1])
        self._slots += [None] * have
        self._free = list(range(have * 2 - 1, have - 1, -1))

    def _resize(self, slots: int, kinds: int) -> None:
        have_slots, have_kinds = self._node_needs.shape
        while have_kinds < kinds:
            have_kinds *= 2
        if (slots, have_kinds) == self._node_needs.shape:
            return
        for name in ("_node_needs", "_provider_needs"):
            old = getattr(self, name)
            grown = _zeros(slots, have_kinds)
            grown[: old.shape[0], : old.shape[1]] = old
            setattr(self, name, grown)
        fills = (("status", EMPTY), ("quota_row", -1), ("turn", _LAST))
        for name, fill in (*fills, ("priority", 0), ("level", 0), ("agent_type", 0)):
            longer: Column = np.full(slots, fill, np.int64)
            longer[:have_slots] = getattr(self, name)
            setattr(self, name, longer)


def _zeros(slots: int, kinds: int) -> Column:
    return np.zeros((slots, kinds), np.int64, order="F")
