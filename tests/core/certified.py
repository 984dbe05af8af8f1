"""A verifier of certificates: it knows the views of a state and the words of a certificate, nothing of the allocator.

Everything is recomputed from what nodes, providers and quotas say of themselves, in Python's own integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftalloc.core import commands, views
from raftalloc.core.commands import Allocate, Constraint
from raftalloc.core.events import READY
from raftalloc.core.quantities import NODE, scope_of
from raftalloc.core.records import Blocker, Certificate, Change, Node
from raftalloc.core.state import State


@dataclass
class Row:
    """A node or provider as the verifier changes it."""

    node: Node
    is_ready: bool
    capacity: dict[str, int]
    free: dict[str, int]


class World:
    """What a request meets: rows, and quotas with their ancestors."""

    def __init__(self, state: State, request: Allocate) -> None:
        self.request = request
        self.rows = [_row(node) for node in views.nodes(state, limit=1 << 20)]
        self.room: dict[str, dict[str, int]] = {}
        known = {quota.name: quota for quota in views.quotas(state, with_implicit=True)}
        name = request.agent_type if request.agent_type in known else "default"
        while name:
            quota = known[name]
            used = dict(quota.used)
            self.room[name] = {kind: limit - used.get(kind, 0) for kind, limit in quota.limits}
            name = quota.parent

    @property
    def members(self) -> int:
        return self.request.count if self.request.gang else 1

    def fits(self) -> bool:
        """Whether one member (a gang: its quota for all) would start: no windows, no devices by model."""
        return not self.failing_quotas() and not self.failing_providers() and self.any_node()

    def failing_quotas(self) -> list[tuple[str, str, int, int]]:
        """(quota, kind, asked, left) of each that does not allow it."""
        return [
            (name, kind, amount * self.members, room[kind])
            for name, room in self.room.items()
            for kind, amount in self.request.demand
            if kind in room and room[kind] < amount * self.members
        ]

    def failing_providers(self) -> list[tuple[str, int, int]]:
        """(kind, asked, most) of each cluster-wide kind that none has enough of."""
        found = []
        for kind, amount in self.request.demand:
            if scope_of(kind) == NODE:
                continue
            providers = [row for row in self.rows if row.node.provider and row.is_ready]
            most = max((row.free.get(kind, 0) for row in providers), default=0)
            if most < amount:
                found.append((kind, amount, max(0, most)))
        return found

    def any_node(self) -> bool:
        """Whether a node passes everything."""
        wanted = [kind for kind, _ in self.request.demand if scope_of(kind) == NODE]
        return not wanted or any(not self.fallen(row) for row in self.nodes)

    @property
    def nodes(self) -> list[Row]:
        return [row for row in self.rows if not row.node.provider]

    def fallen(self, row: Row) -> set[tuple[str, str]]:
        """(code, kind) of everything that a node falls to."""
        found = set()
        if not row.is_ready:
            found.add(("NODE_STATE", ""))
        attributes = dict(row.node.attributes)
        is_added = row.node.node_id == "added"  # such a node satisfies them, or would be no help
        if not is_added and not all(_holds(c, attributes) for c in self.request.constraints):
            found.add(("CONSTRAINTS", ""))
        for kind, amount in self.request.demand:
            if scope_of(kind) == NODE and row.free.get(kind, 0) < amount:
                found.add(("NO_CAPACITY", kind))
        return found

    def apply(self, change: Change, *, less: int = 0) -> None:
        """Let it be otherwise, by `less` less than it says."""
        amount = change.amount - less
        if change.what == "RAISE_QUOTA":
            self.room[change.subject][change.kind] += amount
            return
        if change.what == "ADD":
            added = [row for row in self.rows if row.node.node_id == "added"]
            if not added:
                values = {name: getattr(_NEW, name) for name in _NEW.__slots__}
                provider = scope_of(change.kind) != NODE
                self.rows.append(Row(Node(**{**values, "provider": provider}), True, {}, {}))
                added = self.rows[-1:]
            added[0].free[change.kind] = amount
            return
        (row,) = [row for row in self.rows if row.node.node_id == change.subject]
        if change.what == "READY":
            row.is_ready = not less
        else:
            row.free[change.kind] = row.free.get(change.kind, 0) + amount


_NEW = Node(
    node_id="added",
    provider=False,
    state=READY,
    capacity=(),
    used=(),
    held=(),
    devices=(),
    attributes=(),
    static=True,
    deadline_ms=0,
    allocations=0,
)


def _row(node: Node) -> Row:
    capacity, used, held = dict(node.capacity), dict(node.used), dict(node.held)
    free = {kind: capacity[kind] - used.get(kind, 0) - held.get(kind, 0) for kind in capacity}
    return Row(node, node.state == READY, capacity, free)


def _holds(constraint: Constraint, attributes: dict[str, str]) -> bool:
    value = attributes.get(constraint.key)
    if constraint.operator == commands.IN:
        return value in constraint.values
    if constraint.operator == commands.NOT_IN:
        return value not in constraint.values
    if constraint.operator == commands.EXISTS:
        return value is not None
    try:
        number = int(value or "")
    except ValueError:
        return False
    limit = int(constraint.values[0])
    return number > limit if constraint.operator == commands.GT else number < limit


def verify(state: State, request: Allocate, certificate: Certificate) -> list[str]:
    """What is wrong with a certificate; nothing, if it proves what it says."""
    world = World(state, request)
    wrong = []
    if world.fits():
        return [] if not certificate.sets else ["it fits, and blockers are named"]
    quotas = {(name, kind): (asked, left) for name, kind, asked, left in world.failing_quotas()}
    providers = {kind: (asked, most) for kind, asked, most in world.failing_providers()}
    named_quotas, named_providers, node_sets = set(), set(), []
    for blockers in certificate.sets:
        first = blockers[0]
        if first.code == "QUOTA_EXCEEDED":
            named_quotas.add((first.subject, first.kind))
            asked, left = quotas.get((first.subject, first.kind), (0, 1))
            if (first.asked, first.available) != (asked, max(0, left)):
                wrong.append(f"{first} is not what the quota says: {asked} asked, {left} left")
        elif first.code == "NO_PROVIDER":
            named_providers.add(first.kind)
            if (first.asked, first.available) != providers.get(first.kind):
                wrong.append(f"{first} is not what the providers have")
        else:
            node_sets.append(blockers)
    if named_quotas != set(quotas) or named_providers != set(providers):
        wrong.append(
            f"{set(quotas)} and {set(providers)} fail; {named_quotas}, {named_providers} are named"
        )
    if len(node_sets) != (0 if world.any_node() else 1):
        wrong.append(f"{len(node_sets)} sets of nodes are named")
    for blockers in node_sets:
        wrong += _verify_nodes(world, blockers)
    return wrong + _verify_changes(state, request, certificate.changes)


def _verify_nodes(world: World, blockers: tuple[Blocker, ...]) -> list[str]:
    """Each node falls to one of them, and to none of fewer."""
    wrong = []
    keys = [(each.code, each.kind) for each in blockers]
    fallen = [world.fallen(row) for row in world.nodes]
    if not all(any(key in each for key in keys) for each in fallen):
        wrong.append(f"a node falls to none of {keys}")
    for left_out in keys:
        rest = [key for key in keys if key != left_out]
        if fallen and all(any(key in each for key in rest) for each in fallen):
            wrong.append(f"{left_out} could be left out of {keys}")
    every = {key for each in fallen for key in each}
    alone = [key for key in every if len(keys) > 1 and all(key in each for each in fallen)]
    wrong += [f"{key} alone would do in place of {keys}" for key in alone]
    for each in blockers:
        if each.code != "NO_CAPACITY":
            continue
        others = [key for key in keys if key != (each.code, each.kind)]
        left = [row for row in world.nodes if not any(key in world.fallen(row) for key in others)]
        most = max((row.free.get(each.kind, 0) for row in left), default=0)
        if each.available != max(0, most) or each.asked != dict(world.request.demand)[each.kind]:
            wrong.append(f"{each}: nodes have {most} at most")
    return wrong


def _verify_changes(state: State, request: Allocate, changes: tuple[Change, ...]) -> list[str]:
    """All of them together let it start, and none could be smaller or left out."""
    wrong = []
    world = World(state, request)
    for change in changes:
        world.apply(change)
    if not world.fits():
        wrong.append(f"{changes} do not let it start")
    for reduced in changes:
        world = World(state, request)
        for change in changes:
            world.apply(change, less=1 if change is reduced else 0)
        if world.fits():
            wrong.append(f"{reduced} is more than it takes")
    return wrong
