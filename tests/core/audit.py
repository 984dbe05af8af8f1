"""What every entry must keep, judged by the naive world of `reference` from the events and outcomes alone.

Each event is checked before it is taken in, so that "would it fit" is asked of the world in which it was decided: a
grant goes exactly where the rule says, a refusal is true, an id ends once and for the reason given.
After each entry nothing is overdue, and nothing that waits would fit.
"""

from __future__ import annotations

import copy

from raftalloc.core import commands, events, rejections
from raftalloc.core.commands import Asked, Entry
from raftalloc.core.events import CORDONED, DRAINING, LOST, READY, Happened
from raftalloc.core.machine import Applied
from raftalloc.core.records import DONE, GRANTED, QUEUED, REJECTED, Outcome
from tests.core.promised import ahead_of, can_be_kept, earliest, keeping, protections
from tests.core.reference import Wish, World, holds
from tests.core.standing import Waits
from tests.core.truth import TOO_LATE, Truth

KEPT_MS = 600_000
"""An outcome is told again for at least this long."""
FORGOTTEN_MS = 86_400_000
"""A free-form key means nothing any more after this long, and is as good as new."""

Attempt = tuple[int, int, str]


class Audit:
    """The world as the events tell it, and what was promised in it."""

    def __init__(self) -> None:
        self.world = World()
        self.truth = Truth(self.world)
        self.attempts: dict[Attempt, tuple[Asked, Outcome, int]] = {}
        self.given: set[int] = set()
        self.queue_set = False
        self.gang: tuple[int, tuple[events.Promised, ...]] = (0, ())
        self.broken_promises: set[tuple[str, str]] = set()

    # -- one entry ---------------------------------------------------------------------------------

    def observe(self, entry: Entry, applied: Applied) -> None:
        """Check and take in everything that one entry did."""
        self.world.now_ms = max(self.world.now_ms, entry.at_ms)
        for happened in applied.happened:
            asked = entry.asked[happened.cause] if happened.cause >= 0 else None
            self._check(happened, asked)
            self.world.take(happened.event)
            self._note(happened)
        self._gangs_are_whole(entry, applied)
        for row, (asked, outcome) in enumerate(zip(entry.asked, applied.outcomes, strict=True)):
            self._outcome(asked, outcome, [h for h in applied.happened if h.cause == row])
        self._nothing_is_overdue()
        self._promises_are_kept(excuse=False)
        self._nothing_waits_that_fits()

    def _note(self, happened: Happened) -> None:
        event = happened.event
        if isinstance(event, events.NodeRegistered):
            # Capacity that is lowered may break a promise; nothing else may.
            self._promises_are_kept(excuse=True)

    def follow(self, entry: Entry, applied: Applied) -> None:
        """Take in what an entry did without judging it."""
        self.world.now_ms = max(self.world.now_ms, entry.at_ms)
        for happened in applied.happened:
            self.world.take(happened.event)

    # -- events ------------------------------------------------------------------------------------

    def _check(self, happened: Happened, asked: Asked | None) -> None:
        world, event = self.world, happened.event
        match event:
            case events.Granted():
                self._granted(event, asked)
            case events.Ended():
                self._ended(event, asked)
            case events.Queued():
                self._new_id(event.request_id, event.started)
                assert 0 <= event.started < event.count
                assert not (event.gang and event.started)
                self.truth.waits_rightly(asked, None)
            case events.Renewed():
                live = world.live[event.allocation_id]
                assert event.expires_ms >= live.expires_ms, "a renewal shortened a lease"
                assert event.ends_ms >= live.ends_ms, "a renewal shortened a run"
                assert not (event.ends_ms and event.expires_ms > event.ends_ms)
            case events.Resized():
                self._resized(event, asked)
            case events.Withdrawn():
                waits = world.waiting[event.request_id]
                assert event.count == waits.queued.count - waits.started
                if event.reason == events.DEADLINE:
                    assert waits.queued.deadline_ms <= world.now_ms
            case events.Aged():
                waits = world.waiting[event.request_id]
                assert event.request_id in world.firsts(), "only the first of a line ages"
                assert waits.level < event.level == world.level_now(waits)
            case events.QueueSet():
                assert asked is not None
                assert event != world.queue or not self.queue_set, "a setting that was so already"
                self.queue_set = True
            case events.Promised():
                self._promised(event)
            case events.PromiseDropped():
                promised = world.promises[event.request_id]
                late = promised.start_ms < world.now_ms
                assert late or not can_be_kept(world, promised), "a promise was broken"
            case events.Sought():
                assert world.now_ms < event.next_ms
                assert event.request_id in world.firsts()
            case events.Preempting():
                self._preempting(event)
            case events.Spared():
                preemptor = world.live[event.allocation_id].preemptor
                claim = world.promises.get(preemptor)
                assert preemptor
                assert claim is None or not claim.held, "spared, and the claim stands"
            case events.Refused():
                assert asked is not None
                self.truth.refused(event, asked)
            case events.NodeRemoved():
                on_it = [w for w in world.windows.values() if event.node_id in w.made.suppliers]
                taken = [x for x in world.live.values() if event.node_id in x.grant.suppliers]
                assert not taken, "a node was removed under an allocation"
                assert not on_it, "a node was removed under a window"
            case events.QuotaDeleted():
                charged = [q for _, _, q, _ in world.charges(None) if q == event.name]
                booked = [w for w in world.windows.values() if w.made.agent_type == event.name]
                below = [q for q in world.quotas.values() if q.parent == event.name]
                assert [*charged, *booked, *below] == [], "a quota in use was deleted"
            case events.QuotaSet():
                assert event.name == "root" or event.parent in world.quotas
            case _:
                self._check_window(happened)

    def _new_id(self, ident: int, started: int = 0) -> None:
        if not started:
            assert ident not in self.given, f"id {ident} was given twice"
        self.given.add(ident)

    def _granted(self, event: events.Granted, asked: Asked | None) -> None:
        world = self.world
        assert event.token == world.token + 1, "tokens rise by one"
        assert event.allocation_id not in world.live
        assert event.allocation_id not in world.ended
        waits = world.waiting.get(event.request_id)
        if waits is None:
            self._new_id(event.allocation_id)
            assert asked is not None, "only what waits starts by itself"
        elif not self._goes_on(event):
            self._is_next(waits)
        started_ms = waits.since_ms if waits else world.now_ms
        assert event.waited_ms == world.now_ms - started_ms
        wish_of = waits.queued if waits else asked.command  # type: ignore[union-attr]  # asserted
        assert isinstance(wish_of, events.Queued | commands.Allocate)
        end_ms = world.now_ms + wish_of.duration_ms if wish_of.duration_ms else 0
        if event.reservation_id:
            end_ms = self._drawn(event, end_ms)
            if event.node_id:
                attributes = dict(world.rows[event.node_id].event.attributes)
                assert all(holds(attributes.get(c.key), c) for c in wish_of.constraints)
        else:
            wish = Wish.of(wish_of)
            if not (wish_of.gang and self._goes_on(event)):
                passed = protections(world, wish_of)
                assert passed == [], "passed who could have been promised a start"
                self.gang = (event.request_id, tuple(ahead_of(world, wish_of)))
            with keeping(world, self.gang[1]):
                place = world.place(wish, end_ms)
            assert place == (event.node_id, event.suppliers, event.devices), (
                f"granted at {event.node_id}, {event.suppliers}, {event.devices}; should be {place}"
            )
            assert world.over_quota(wish, 1, end_ms) == []
        assert event.ends_ms == end_ms
        expires_ms = world.now_ms + wish_of.lease_ttl_ms if wish_of.lease_ttl_ms else 0
        assert event.expires_ms == (min(expires_ms, end_ms) if end_ms else expires_ms)
        self._held_device_units(event)

    def _goes_on(self, event: events.Granted) -> bool:
        """Whether this is another member of a gang, which starts in one go."""
        waits = self.world.waiting.get(event.request_id)
        of_gang = waits is None or waits.queued.gang
        return of_gang and self.gang[0] == event.request_id != event.allocation_id

    def _is_next(self, waits: Waits) -> None:
        """Nothing that stands before it in the queue would fit instead."""
        mine = self.world.rank(waits)
        for ident, other in self.world.firsts().items():
            assert self.world.rank(other) >= mine or not self.truth.fits(other.queued), (
                f"{ident} was passed over"
            )

    def _promised(self, event: events.Promised) -> None:
        world, waits = self.world, self.world.waiting[event.request_id]
        if event.held:
            assert event.start_ms == world.now_ms + world.queue.grace_ms
            assert waits.queued.deadline_ms > event.start_ms
            assert can_be_kept(world, event), "a claim on what victims do not give back"
            return
        assert not self.truth.fits(waits.queued), "promised later what fits now"
        assert event == earliest(world, waits.queued, ()), "not the earliest start"

    def _preempting(self, event: events.Preempting) -> None:
        """Only strictly lower priority, long enough there, not protected, within the budget; and told in time."""
        world, live = self.world, self.world.live[event.allocation_id]
        waits, settings = world.waiting[event.preemptor], world.queue
        assert settings.preemption == commands.LOWER_PRIORITY
        assert live.grant.priority < waits.queued.priority
        assert not live.grant.protected
        assert not live.preemptor
        assert not live.grant.reservation_id
        assert live.since_ms + settings.min_run_ms <= world.now_ms
        assert event.deadline_ms == world.now_ms + settings.grace_ms
        hour = world.now_ms // 3_600_000
        of_hour = [
            t for t, at in world.preempted if (t, at // 3_600_000) == (live.grant.agent_type, hour)
        ]
        assert not settings.per_hour or len(of_hour) < settings.per_hour
        assert not self.truth.fits(waits.queued), "preempted for what fits without"

    def _resized(self, event: events.Resized, asked: Asked | None) -> None:
        """Where it is, and no more of anything than is free beside windows and promises, and allowed."""
        world, live = self.world, self.world.live[event.allocation_id]
        assert asked is not None
        assert isinstance(asked.command, commands.Resize)
        assert asked.command.demand == event.demand != live.grant.demand
        had = dict(zip(dict(live.grant.demand), live.grant.suppliers, strict=True))
        assert not live.grant.reservation_id
        assert not live.preemptor
        assert event.node_id == live.grant.node_id
        grown = []
        for (kind, amount), supplier in zip(event.demand, event.suppliers, strict=True):
            assert supplier == had.get(kind, supplier)
            more = amount - dict(live.grant.demand).get(kind, 0)
            if more > 0:
                grown.append((kind, more))
                assert world.rows[supplier].state == READY
                with keeping(world, [*world.promises.values()]):
                    moments = world.moments(supplier, live.ends_ms)
                    assert all(world.free(supplier, kind, t) >= more for t in moments)
        wish = Wish(tuple(grown), (), (), commands.BEST_FIT, live.grant.agent_type)
        assert not world.over_quota(wish, 1, live.ends_ms)
        self._held_device_units(event)

    def _held_device_units(self, event: events.Granted | events.Resized) -> None:
        gpu = dict(event.demand).get("gpu", 0)
        assert sum(units for _, units in event.devices) == gpu

    def _drawn(self, event: events.Granted, end_ms: int) -> int:
        """A draw takes what its window holds, from where it holds it."""
        window = self.world.windows[event.reservation_id]
        made = window.made
        assert window.open
        assert made.principal == event.principal
        left, left_devices = self.world.undrawn(window), self.world.undrawn_devices(window)
        supplier_of = dict(zip(dict(made.demand), made.suppliers, strict=True))
        for (kind, amount), supplier in zip(event.demand, event.suppliers, strict=True):
            assert left[kind] >= amount, "more was drawn than is left"
            assert supplier == supplier_of[kind]
            assert self.world.rows[supplier].state in (READY, CORDONED), (
                "drawn from a row that is gone"
            )
        for device, units in event.devices:
            assert left_devices[int(device)] >= units
        return min(end_ms, made.end_ms) if end_ms else made.end_ms

    def _ended(self, event: events.Ended, asked: Asked | None) -> None:
        world = self.world
        live = world.live[event.allocation_id]
        grant = live.grant
        assert (event.agent_id, event.workflow_id) == (grant.agent_id, grant.workflow_id)
        assert event.node_id == grant.node_id
        command = asked.command if asked else None
        match event.reason:
            case events.RELEASED:
                assert isinstance(command, commands.Release)
                assert command.allocation_id == event.allocation_id
                assert command.token == grant.token
                assert command.agent_id == grant.agent_id
            case events.LEASE_EXPIRED:
                assert 0 < live.expires_ms <= world.now_ms
                assert not 0 < live.preempt_ms <= world.now_ms
                assert not 0 < live.ends_ms <= world.now_ms
            case events.DURATION_ENDED:
                assert 0 < live.ends_ms <= world.now_ms
            case events.PREEMPTED:
                assert 0 < live.preempt_ms <= world.now_ms
            case events.NODE_REMOVED:
                assert isinstance(command, commands.RemoveNode)
                assert command.force
                assert command.node_id in grant.suppliers
            case events.DRAINED:
                drained = [world.rows[s] for s in grant.suppliers]
                assert any(
                    r.state == DRAINING and 0 < r.deadline_ms <= world.now_ms for r in drained
                )
            case _:
                assert event.reason == events.RESERVATION_ENDED
                assert grant.reservation_id

    def _check_window(self, happened: Happened) -> None:
        world, event = self.world, happened.event
        match event:
            case events.ReservationMade():
                self._new_id(event.reservation_id)
                place = world.place_window(Wish.of(event), event.start_ms, event.end_ms)
                assert place == (event.node_id, event.suppliers, event.devices)
                assert not world.window_over_quota(Wish.of(event), event.start_ms, event.end_ms)
            case events.ReservationOpened():
                self._opened(event)
            case events.ReservationMoved():
                window = world.windows[event.reservation_id]
                assert not window.open
                place = self._elsewhere(event.reservation_id)
                assert place == (event.node_id, event.suppliers, event.devices)
            case events.ReservationEnded():
                window = world.windows[event.reservation_id]
                drawn = [
                    live
                    for live in world.live.values()
                    if live.grant.reservation_id == event.reservation_id
                ]
                assert not drawn, "a window ended under what was drawn from it"
                if event.reason == events.COMPLETED:
                    assert window.made.end_ms <= world.now_ms
                elif event.reason == events.BROKEN:
                    rows = [world.rows[s] for s in window.made.suppliers]
                    assert window.open or self._elsewhere(event.reservation_id) is None
                    assert not window.open or any(row.state not in (READY, LOST) for row in rows)

    def _elsewhere(self, ident: int):
        """Where a booked window could go if its own booking were not there."""
        world = copy.copy(self.world)
        world.windows = {i: w for i, w in world.windows.items() if i != ident}
        made = self.world.windows[ident].made
        return world.place_window(Wish.of(made), max(made.start_ms, world.now_ms), made.end_ms)

    def _opened(self, event: events.ReservationOpened) -> None:
        """What was booked is there, and nobody's limit is passed that was not lowered or moved."""
        world = self.world
        made = world.windows[event.reservation_id].made
        assert made.start_ms <= world.now_ms
        for (kind, amount), supplier in zip(made.demand, made.suppliers, strict=True):
            assert world.rows[supplier].state in (READY, CORDONED)
            if made.end_ms > world.now_ms:  # one that the time jumped over opens and ends at once
                assert self._free_less_overdue(supplier, kind) >= amount
        for device, _ in made.devices:
            assert int(device) < len(world.rows[made.node_id].event.devices)
            if made.end_ms > world.now_ms:
                # Its own booking is taken off already.
                assert world.devices_free(made.node_id, world.now_ms)[int(device)] >= 0

    def _free_less_overdue(self, supplier: str, kind: str) -> int:
        """Free now, without what is due to end but has not been ended yet (a jump of time fires many)."""
        world, taken = self.world, 0
        for live in world.live.values():
            if 0 < live.deadline_ms <= world.now_ms and not live.grant.reservation_id:
                taken += amount_on(live.grant, supplier, kind)
        for window in world.windows.values():
            if window.open and window.made.end_ms <= world.now_ms:
                taken += amount_on(window.made, supplier, kind)
        return world.free(supplier, kind) + taken

    # -- outcomes ----------------------------------------------------------------------------------

    def _outcome(self, asked: Asked, outcome: Outcome, caused: list[Happened]) -> None:
        happened = [h.event for h in caused]
        if outcome.status == REJECTED:
            assert outcome.rejection is not None
        else:
            granted = [e for e in happened if isinstance(e, events.Granted)]
            if outcome.status == GRANTED and not outcome.replayed:
                assert [g.allocation_id for g in granted] == list(
                    range(outcome.subject, outcome.subject + outcome.count)
                )
                assert outcome.token == granted[0].token
            if outcome.status == QUEUED and not outcome.replayed:
                assert outcome.rejection is not None
                assert outcome.rejection.code in (rejections.NO_CAPACITY, rejections.QUOTA_EXCEEDED)
            assert outcome.status in (GRANTED, QUEUED, DONE)
        origin = asked.origin
        if origin.key or origin.session:
            self._attempt(asked, outcome, happened)

    def _attempt(self, asked: Asked, outcome: Outcome, happened: list[events.Event]) -> None:
        """The first attempt decides; each later one is told the same, or that it is too late, and does nothing."""
        origin = asked.origin
        attempt = (origin.session, origin.sequence, origin.key)
        code = outcome.rejection.code if outcome.rejection else ""
        first = self.attempts.get(attempt)
        if code in TOO_LATE and not outcome.replayed:
            assert [type(e) for e in happened] == [events.Refused], (
                "a refused attempt did something"
            )
            if code == rejections.KEY_EXPIRED and first and not origin.session:
                assert self.world.now_ms - first[2] >= KEPT_MS, "a key expired before its time"
            if code == rejections.KEY_REUSED:
                assert first is not None
                assert first[0] != asked
            return
        if first is not None and origin.key and self.world.now_ms - first[2] > FORGOTTEN_MS:
            first = None
        if first is None:
            assert not outcome.replayed
            self.attempts[attempt] = (asked, outcome, self.world.now_ms)
            return
        assert outcome.replayed, "an attempt was carried out twice"
        assert happened == []
        assert first[0].command == asked.command
        then, now = first[1], outcome
        assert (then.status, then.subject, then.count, then.token, then.rejection, then.index) == (
            now.status, now.subject, now.count, now.token, now.rejection, now.index
        )  # fmt: skip

    # -- after an entry ----------------------------------------------------------------------------

    def _gangs_are_whole(self, entry: Entry, applied: Applied) -> None:
        by_request: dict[int, int] = {}
        for happened in applied.happened:
            if isinstance(happened.event, events.Granted):
                ident = happened.event.request_id
                by_request[ident] = by_request.get(ident, 0) + 1
        for happened in applied.happened:
            event = happened.event
            if isinstance(event, events.Granted) and event.reservation_id == 0:
                size = self.gang_size(entry, happened, event)
                assert size in (0, by_request[event.request_id]), "a gang started in part"
        for request_id, waits in self.world.waiting.items():
            assert not (waits.queued.gang and waits.started), f"gang {request_id} started in part"

    def gang_size(self, entry: Entry, happened: Happened, event: events.Granted) -> int:
        """Members of the gang that a grant belongs to; 0: of none."""
        if happened.cause >= 0:
            command = entry.asked[happened.cause].command
            if isinstance(command, commands.Allocate) and not event.waited_ms and command.gang:
                return command.count
        return 0

    def _nothing_is_overdue(self) -> None:
        world = self.world
        for ident, live in world.live.items():
            assert not 0 < live.deadline_ms <= world.now_ms, f"allocation {ident} is overdue"
        for ident, waits in world.waiting.items():
            assert waits.queued.deadline_ms > world.now_ms, f"request {ident} is overdue"
        for ident, waits in world.firsts().items():
            assert waits.level == world.level_now(waits), f"request {ident} should have aged"
        for ident, window in world.windows.items():
            assert window.made.end_ms > world.now_ms, f"window {ident} should have ended"
            assert window.open or window.made.start_ms > world.now_ms, f"window {ident} is late"
        for row_id, row in world.rows.items():
            assert not 0 < row.deadline_ms <= world.now_ms, f"the drain of {row_id} is overdue"

    def _promises_are_kept(self, *, excuse: bool) -> None:
        """Now, and at the start of every window, no row has given out more than it has."""
        world = self.world
        moments: list[int] = [0, *(w.made.start_ms for w in world.windows.values() if not w.open)]
        over = {
            (row_id, kind)
            for at_ms in moments
            for row_id in world.rows
            for kind in self.truth.known_kinds()
            if world.free(row_id, kind, at_ms or None) < 0
        }
        if excuse:
            self.broken_promises |= over
        new = over - self.broken_promises
        assert not new, f"more is promised than there is: {new}"
        self.broken_promises &= over

    def _nothing_waits_that_fits(self) -> None:
        for ident, waits in self.world.waiting.items():
            assert not self.truth.fits(waits.queued), f"request {ident} waits, and fits"


def amount_on(taker: events.Granted | events.ReservationMade, supplier: str, kind: str) -> int:
    """What an allocation or a window takes of one kind from one row."""
    places = zip(taker.demand, taker.suppliers, strict=True)
    return sum(amount for (of, amount), row in places if (of, row) == (kind, supplier))
