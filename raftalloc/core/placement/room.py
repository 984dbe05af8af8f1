"""What is free, as a decision sees it, and where a member goes."""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core.matrix import score_of
from raftalloc.core.placement.ask import Ask
from raftalloc.core.promises import Promise
from raftalloc.core.state import State


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one member goes. node: row or -1. suppliers: row per column. devices: (device number, units).

    alternative: which of the request's it is placed by, from 1; 0: its first demand.
    """

    node: int
    suppliers: dict[int, int]
    devices: tuple[tuple[int, int], ...]
    alternative: int = 0


class Room:
    """What is free, as a decision sees it: the state's own arrays, or a copy that a plan may take from."""

    __slots__ = ("ahead", "device_free", "free", "nodes", "planned", "score", "weights")

    def __init__(self, state: State) -> None:
        """See the state as it is; nothing is copied. `ahead`: promises that must be kept.

        None there says that the arrays have counted already what windows and promises will take.
        """
        self.ahead: tuple[Promise, ...] | None = ()
        self.free = state.fleet.matrix.free
        self.score = state.fleet.matrix.score
        self.weights = state.fleet.matrix.weights
        self.device_free = state.fleet.device_free
        # How much a plan has taken, by column.
        self.planned: dict[int, int] = {}
        # The nodes of the members that it has placed.
        self.nodes: list[int] = []

    def copy(self) -> Room:
        """A room of one's own, to plan several members in."""
        twin = object.__new__(Room)
        twin.ahead = self.ahead
        twin.free = self.free.copy(order="F")
        twin.score = self.score.copy()
        twin.weights = self.weights
        twin.device_free = self.device_free.copy()
        twin.planned = dict(self.planned)
        twin.nodes = list(self.nodes)
        return twin

    def take(self, ask: Ask, placement: Placement) -> None:
        """Take a placement out of a copied room."""
        for column, amount in ask.parts:
            self.free[placement.suppliers[column], column] -= amount
            self.planned[column] = self.planned.get(column, 0) + amount
        if placement.node >= 0:
            row = placement.node
            self.nodes.append(row)
            self.score[row] = score_of(self.free[row], self.weights)
            for device, amount in placement.devices:
                self.device_free[row, device] -= amount
