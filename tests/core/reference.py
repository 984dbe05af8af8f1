"""A second allocator, as naive as can be: dicts, sums from scratch, loops over everything.

Written from the design (sections 2, 5, 9 and the comments of the protos), not from the core, which it judges. It takes
events in one by one and can say at any moment what is free, where a request would go, and whether a quota lets it.
It keeps nothing that can be summed up again: no `used`, no `held`, no cache, no order but that of registration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from raftalloc.core import commands, events
from raftalloc.core.commands import Constraint
from raftalloc.core.events import READY, Event, Granted, Queued, ReservationMade
from raftalloc.core.terms import NO_TERMS, Terms, Typical
from tests.core import promised
from tests.core.limits import Limits
from tests.core.reference_policies import best_provider, costs, options
from tests.core.standing import Standing, Waits

Demand = tuple[tuple[str, int], ...]
PROVIDER_BASES = ("db_connections", "query_capacity", "api_quota")
BASE = ("cpu", "memory", "disk", "network", "gpu", "cache", *PROVIDER_BASES)
DEVICE = 1000
FOR_EVER = 0


@dataclass
class Row:
    """A node or provider. serial: place in the order of first registration."""

    event: events.NodeRegistered
    serial: int
    state: int = READY
    deadline_ms: int = 0

    @property
    def capacity(self) -> dict[str, int]:
        return dict(self.event.capacity)


@dataclass
class Live:
    """A live allocation: the grant, and its deadlines as they are now."""

    grant: Granted
    expires_ms: int
    ends_ms: int
    since_ms: int = 0
    preempt_ms: int = 0
    preemptor: int = 0

    @property
    def deadline_ms(self) -> int:
        return min((t for t in (self.expires_ms, self.known_end_ms) if t), default=0)

    @property
    def known_end_ms(self) -> int:
        return min((t for t in (self.ends_ms, self.preempt_ms) if t), default=0)


@dataclass
class Window:
    """A booked or open reservation."""

    made: ReservationMade
    open: bool = False


@dataclass
class Wish:
    """What one member asks for, whoever asks: an allocation, or a window to be booked."""

    demand: Demand
    models: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    policy: int
    agent_type: str
    terms: Terms = NO_TERMS

    @classmethod
    def of(cls, asks: Queued | commands.Allocate | commands.Reserve | ReservationMade) -> Wish:
        policy = getattr(asks, "policy", commands.BEST_FIT)
        terms = getattr(asks, "terms", NO_TERMS)
        return cls(asks.demand, asks.gpu_models, asks.constraints, policy, asks.agent_type, terms)

    def minds_fragments(self) -> bool:
        names = [name for name, _ in self.terms.scorers] or [commands.POLICY_NAMES[self.policy]]
        return "fgd" in names or "least_waste" in names

    def on_node(self) -> Demand:
        return tuple((k, a) for k, a in self.demand if not is_cluster_wide(k))

    def on_providers(self) -> Demand:
        return tuple((k, a) for k, a in self.demand if is_cluster_wide(k))


Place = tuple[str, tuple[str, ...], Demand]
"""(node id or '', supplier of each kind in the order of the demand, (device, units) pairs)."""


def is_cluster_wide(kind: str) -> bool:
    return kind.split(".")[0] in PROVIDER_BASES


def holds(value: str | None, constraint: Constraint) -> bool:
    """In, NotIn, Exists, Gt, Lt; the latter two on integers only."""
    if constraint.operator == commands.IN:
        return value in constraint.values
    if constraint.operator == commands.NOT_IN:
        return value not in constraint.values
    if constraint.operator == commands.EXISTS:
        return value is not None
    try:
        number, bound = int(value or ""), int(constraint.values[0])
    except ValueError:
        return False
    return number > bound if constraint.operator == commands.GT else number < bound


@dataclass
class World(Limits, Standing):
    """All there is, by name and id."""

    now_ms: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    live: dict[int, Live] = field(default_factory=dict)
    waiting: dict[int, Waits] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    quotas: dict[str, events.QuotaSet] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    workload: tuple[Typical, ...] = ()
    kinds: list[str] = field(default_factory=list)
    ended: dict[int, str] = field(default_factory=dict)
    sessions: dict[int, str] = field(default_factory=dict)
    queue: events.QueueSet = field(default_factory=events.QueueSet)
    promises: dict[int, events.Promised] = field(default_factory=dict)
    keep: tuple[events.Promised, ...] = ()
    victims_gone: bool = False
    preempted: list[tuple[str, int]] = field(default_factory=list)
    token: int = 0
    registrations: int = 0

    def __post_init__(self) -> None:
        self.quotas = {
            "root": events.QuotaSet("root", "", ()),
            "default": events.QuotaSet("default", "root", ()),
        }

    def kinds_known(self) -> list[str]:
        return [*BASE, *self.kinds]

    def is_cluster_wide(self, kind: str) -> bool:
        return is_cluster_wide(kind)

    # -- what is taken, at a moment ---------------------------------------------------------------

    def charges(self, at_ms: int | None) -> Iterator[tuple[str, str, str, int]]:
        """(row, kind, quota, amount) of everything that takes something at a moment; None: now, and what is live."""
        for live in self.live.values():
            if self.holds_at(live, at_ms):
                grant = live.grant
                for (kind, amount), supplier in zip(grant.demand, grant.suppliers, strict=True):
                    yield supplier, kind, self.charged_to(grant), amount
        for window in self.windows.values():
            yield from self._charges_of(window, at_ms)

    def _charges_of(self, window: Window, at_ms: int | None) -> Iterator[tuple[str, str, str, int]]:
        made = window.made
        if window.open and at_ms is None:
            for kind, supplier in zip(dict(made.demand), made.suppliers, strict=True):
                yield supplier, kind, made.agent_type, self.undrawn(window)[kind]
        if at_ms is not None and made.start_ms <= at_ms < made.end_ms:
            for (kind, amount), supplier in zip(made.demand, made.suppliers, strict=True):
                yield supplier, kind, made.agent_type, amount

    def holds_at(self, live: Live, at_ms: int | None) -> bool:
        """Whether an allocation takes something for itself; of a later moment a window answers for its draws."""
        if at_ms is None:
            return True
        held = any(kept.held and kept.start_ms == at_ms for kept in self.keep)
        end_ms = live.known_end_ms if held or self.victims_gone else live.ends_ms
        return not live.grant.reservation_id and (not end_ms or end_ms > at_ms)

    def charged_to(self, grant: Granted) -> str:
        """A draw is charged where its reservation is."""
        if grant.reservation_id:
            return self.windows[grant.reservation_id].made.agent_type
        return grant.agent_type

    def undrawn(self, window: Window) -> dict[str, int]:
        left = dict(window.made.demand)
        for live in self.live.values():
            if live.grant.reservation_id == window.made.reservation_id:
                for kind, amount in live.grant.demand:
                    left[kind] -= amount
        return left

    def undrawn_devices(self, window: Window) -> dict[int, int]:
        left = {int(device): units for device, units in window.made.devices}
        for live in self.live.values():
            if live.grant.reservation_id == window.made.reservation_id:
                for device, units in live.grant.devices:
                    left[int(device)] -= units
        return left

    def free(self, row_id: str, kind: str, at_ms: int | None = None) -> int:
        taken = sum(a for row, k, _, a in self.charges(at_ms) if (row, k) == (row_id, kind))
        return self.rows[row_id].capacity.get(kind, 0) - taken - self._kept(row_id, kind, at_ms)

    def _kept(self, row_id: str, kind: str, at_ms: int | None) -> int:
        """What promises that must be kept take at a later moment."""
        active = [p for p in self.keep if at_ms is not None and promised.is_active(p, at_ms)]
        return sum(a for p in active for r, k, a in promised.takes(p) if (r, k) == (row_id, kind))

    def devices_free(self, row_id: str, at_ms: int | None = None) -> list[int]:
        """Units free of each device that is there."""
        free = [DEVICE] * len(self.rows[row_id].event.devices)
        for device, units in self._device_charges(row_id, at_ms):
            if device < len(free):
                free[device] -= units
        return free

    def _device_charges(self, row_id: str, at_ms: int | None) -> Iterator[tuple[int, int]]:
        for live in self.live.values():
            if live.grant.node_id == row_id and self.holds_at(live, at_ms):
                yield from ((int(device), units) for device, units in live.grant.devices)
        for window in self.windows.values():
            made = window.made
            if made.node_id != row_id:
                continue
            if window.open and at_ms is None:
                yield from self.undrawn_devices(window).items()
            if at_ms is not None and made.start_ms <= at_ms < made.end_ms:
                yield from ((int(device), units) for device, units in made.devices)
        for kept in self.keep:
            if at_ms is not None and promised.is_active(kept, at_ms):
                for (node_id, device), units in promised.takes_devices(kept).items():
                    if node_id == row_id:
                        yield device, units

    def score(self, row_id: str, moments: Iterable[int | None]) -> int:
        """Sum over kinds of weight x free (none is free where more is used than there is)."""
        frees = {
            kind: min(self.free(row_id, kind, at_ms) for at_ms in moments)
            for kind in self.rows[row_id].capacity
        }
        return sum(self.weights.get(kind, 0) * max(0, free) for kind, free in frees.items())

    # -- where a request would go ------------------------------------------------------------------

    def in_order(self) -> list[str]:
        return sorted(self.rows, key=lambda row_id: self.rows[row_id].serial)

    def place(self, wish: Wish, end_ms: int) -> Place | None:
        """For a run from now to end_ms: it must fit now, and at the start of every window it would run into."""

        return self._place(
            wish,
            lambda row_id: self.moments(row_id, end_ms),
            lambda ids: costs(self, wish, ids, [None]),
        )

    def moments(self, row_id: str, end_ms: int) -> list[int | None]:
        """Now, and when windows and promises that must be kept begin before a run ends."""
        windows = [w.made for w in self.windows.values() if not w.open]
        starts = [made.start_ms for made in windows if row_id in made.suppliers]
        found: list[int | None] = [t for t in starts if end_ms == FOR_EVER or t < end_ms]
        found += [
            p.start_ms
            for p in self.keep
            if row_id in p.suppliers and (p.held or end_ms == FOR_EVER or p.start_ms < end_ms)
        ]
        return [None, *found]

    def place_window(self, wish: Wish, start_ms: int, end_ms: int) -> Place | None:
        """For a window: it must fit at its start, and at every start of another within it."""
        starts = [w.made.start_ms for w in self.windows.values() if not w.open]
        return self.place_at(wish, [start_ms, *(t for t in starts if start_ms < t < end_ms)])

    def place_at(self, wish: Wish, at: list[int]) -> Place | None:
        """Where it fits at all of these moments."""
        moments: list[int | None] = [*at]
        return self._place(wish, lambda _: moments, lambda ids: costs(self, wish, ids, moments))

    def _place(self, wish, moments, ranked) -> Place | None:
        suppliers: dict[str, str] = {}
        for kind, amount in wish.on_providers():
            fits = {
                row_id: free
                for row_id in self.in_order()
                if self.rows[row_id].event.provider and self.rows[row_id].state == READY
                if (free := min(self.free(row_id, kind, t) for t in moments(row_id))) >= amount
            }
            if not fits:
                return None
            suppliers[kind] = best_provider(fits, wish.policy)
        devices: Demand = ()
        node_id = ""
        if wish.on_node():
            able = [r for r in self.in_order() if self.node_fits(r, wish, moments(r))]
            if not able:
                return None
            cost = ranked(able)
            node_id = min(able, key=cost.__getitem__)
            suppliers.update((kind, node_id) for kind, _ in wish.on_node())
            found = self._devices(node_id, wish, moments(node_id))
            assert found is not None
            devices = found
        return node_id, tuple(suppliers[kind] for kind, _ in wish.demand), devices

    def node_fits(self, row_id: str, wish: Wish, moments: list[int | None]) -> bool:
        row = self.rows[row_id]
        attributes = dict(row.event.attributes)
        return (
            not row.event.provider
            and row.state == READY
            and all(holds(attributes.get(c.key), c) for c in wish.constraints)
            and all(self.free(row_id, k, t) >= a for k, a in wish.on_node() for t in moments)
            and self._devices(row_id, wish, moments) is not None
        )

    def could_serve(self, row_id: str, wish: Wish) -> bool:
        """Whether a row is ready for such requests, whatever it has free."""
        row = self.rows[row_id]
        attributes = dict(row.event.attributes)
        matches = all(holds(attributes.get(c.key), c) for c in wish.constraints)
        return row.state == READY and (row.event.provider or matches)

    def devices_fit(self, row_id: str, wish: Wish) -> bool:
        """Whether a row has the devices free now."""
        return bool(self._devices(row_id, wish, [None]))

    def _devices(self, row_id: str, wish: Wish, moments: list[int | None]) -> Demand | None:
        frees = [self.devices_free(row_id, t) for t in moments]
        free = [min(each) for each in zip(*frees, strict=True)]
        gpu = dict(wish.demand).get("gpu", 0)
        if 0 < gpu < DEVICE and wish.minds_fragments():
            at = [None] if None in moments else moments
            tried = options(self, wish, row_id, at)
            fits = [device for _, _, device in tried if free[device] >= gpu]
            return ((str(fits[0]), gpu),) if fits else None
        return pick_devices(free, self.rows[row_id].event.devices, wish)

    def members_on_empty_fleet(self, wish: Wish) -> int:
        """How many could run at once with nothing else there, whatever state the rows are in."""
        counts = [
            sum(r.capacity.get(kind, 0) // amount for r in self.rows.values() if r.event.provider)
            for kind, amount in wish.on_providers()
        ]
        if wish.on_node():
            counts.append(
                sum(members_of(r, wish) for r in self.rows.values() if not r.event.provider)
            )
        return min(counts)

    # -- events ------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Bring the world up to date."""
        match event:
            case events.KindDefined():
                self.kinds.append(event.kind)
            case events.WeightsSet():
                self.weights = dict(event.weights)
            case events.WorkloadSet():
                self.workload = event.shapes
            case events.NodeRegistered():
                if event.node_id in self.rows:
                    self.rows[event.node_id].event = event
                else:
                    self.registrations += 1
                    self.rows[event.node_id] = Row(event, self.registrations)
            case events.NodeStateChanged():
                self.rows[event.node_id].state = event.state
                self.rows[event.node_id].deadline_ms = event.deadline_ms
            case events.NodeRemoved():
                del self.rows[event.node_id]
            case events.QuotaSet():
                self.quotas[event.name] = event
            case events.QuotaDeleted():
                del self.quotas[event.name]
            case events.SessionOpened():
                self.sessions[event.session] = event.principal
            case _:
                self._take_request(event)

    def _take_request(self, event: Event) -> None:
        match event:
            case events.Queued():
                self.waiting[event.request_id] = Waits(event, event.started, self.now_ms)
            case events.Granted():
                self.token = event.token
                self.live[event.allocation_id] = Live(
                    event, event.expires_ms, event.ends_ms, self.now_ms
                )
                waits = self.waiting.get(event.request_id)
                if waits is not None:
                    self.promises.pop(event.request_id, None)
                    waits.started += 1
                    if waits.started == waits.queued.count:
                        del self.waiting[event.request_id]
            case events.QueueSet():
                self.queue = event
            case events.Aged():
                self.waiting[event.request_id].level = event.level
            case events.Renewed():
                live = self.live[event.allocation_id]
                live.expires_ms, live.ends_ms = event.expires_ms, event.ends_ms
            case events.Resized():
                live = self.live[event.allocation_id]
                live.grant = replace(
                    live.grant,
                    demand=event.demand,
                    suppliers=event.suppliers,
                    devices=event.devices,
                )
            case events.Ended():
                del self.live[event.allocation_id]
                self.ended[event.allocation_id] = event.reason
            case events.Withdrawn():
                del self.waiting[event.request_id]
                self.promises.pop(event.request_id, None)
            case events.Promised():
                self.promises[event.request_id] = event
            case events.PromiseDropped():
                del self.promises[event.request_id]
            case events.Preempting():
                live = self.live[event.allocation_id]
                live.preempt_ms, live.preemptor = event.deadline_ms, event.preemptor
                self.preempted.append((live.grant.agent_type, self.now_ms))
            case events.Spared():
                live = self.live[event.allocation_id]
                live.preempt_ms = live.preemptor = 0
            case events.ReservationMade():
                self.windows[event.reservation_id] = Window(event)
            case events.ReservationMoved():
                window = self.windows[event.reservation_id]
                window.made = replace(
                    window.made,
                    node_id=event.node_id,
                    suppliers=event.suppliers,
                    devices=event.devices,
                )
            case events.ReservationOpened():
                self.windows[event.reservation_id].open = True
            case events.ReservationEnded():
                del self.windows[event.reservation_id]
                self.ended[event.reservation_id] = event.reason
            case events.LeaderTook():
                for live in self.live.values():
                    if live.expires_ms:
                        later = live.expires_ms + event.gap_ms
                        live.expires_ms = min(later, live.ends_ms or later)


def pick_devices(free: list[int], models: tuple[str, ...], wish: Wish) -> Demand | None:
    """A share: of the devices where it fits the one with least free. Whole ones: the first that are all free."""
    gpu = dict(wish.demand).get("gpu", 0)
    if not gpu:
        return ()
    right = [d for d in range(len(free)) if not wish.models or models[d] in wish.models]
    if gpu < DEVICE:
        fits = [d for d in right if free[d] >= gpu]
        return ((str(min(fits, key=lambda d: free[d])), gpu),) if fits else None
    whole = [d for d in right if free[d] == DEVICE][: gpu // DEVICE]
    return tuple((str(d), DEVICE) for d in whole) if len(whole) == gpu // DEVICE else None


def members_of(row: Row, wish: Wish) -> int:
    """How many members an empty node holds."""
    attributes = dict(row.event.attributes)
    if not all(holds(attributes.get(c.key), c) for c in wish.constraints):
        return 0
    counts = [row.capacity.get(kind, 0) // amount for kind, amount in wish.on_node()]
    gpu = dict(wish.demand).get("gpu", 0)
    if gpu:
        right = sum(1 for model in row.event.devices if not wish.models or model in wish.models)
        counts.append(right * (DEVICE // gpu) if gpu < DEVICE else right // (gpu // DEVICE))
    return min(counts)
