"""Runs entries of a log through the core in every way there is, and sees that all come to the same.

After each entry: the laws hold; the fold of the events, a state read back from bytes before the entry, one that was
restored some entries ago and one that folds some entries and applies others have the same bytes; entry, events and
block survive their codecs; the audit agrees with every event and outcome; the views tell what the audit knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftalloc.core import codec, views
from raftalloc.core.commands import Asked, Entry
from raftalloc.core.invariants import check
from raftalloc.core.machine import Applied, apply, fold, next_due_ms
from raftalloc.core.state import State
from tests.core.audit import Audit


class Rig:
    """One log, and everything that follows it. judged: whether the audit has a say."""

    def __init__(self, *, judged: bool = True) -> None:
        self.judged = judged
        self.state = State.genesis()
        self.folded = State.genesis()
        self.restored = State.genesis()
        self.follower = State.genesis()
        self.chain = codec.CHAIN_START
        self.audit = Audit()
        self.index = 0
        self.log: list[Entry] = []

    def enter(self, at_ms: int, asked: Sequence[Asked], *, follower_folds: bool = False) -> Applied:
        """One entry, by every way."""
        entry = Entry(at_ms, "r1", tuple(asked))
        self.log.append(entry)
        self.index += 1
        packed = codec.encode_entry(entry)
        assert codec.decode_entry(packed) == entry
        reborn = codec.decode_state(codec.encode_state(self.state))
        token_before = self.state.token
        applied = apply(self.state, entry, self.index)
        events = codec.encode_events(applied.happened)
        assert codec.decode_events(events) == applied.happened
        self._all_agree(entry, applied, reborn, follower_folds=follower_folds)
        assert self.state.token >= token_before
        assert check(self.state) == []
        if self.judged:
            self.audit.observe(entry, applied)
            self._views_agree()
        else:
            self.audit.follow(entry, applied)
        self._block(entry.at_ms, packed, events)
        return applied

    def restore(self) -> None:
        """From here on `restored` is what a snapshot of now gives."""
        self.restored = codec.decode_state(codec.encode_state(self.state))

    def _all_agree(
        self, entry: Entry, applied: Applied, reborn: State, *, follower_folds: bool
    ) -> None:
        fold(self.folded, applied.happened, index=self.index, at_ms=entry.at_ms)
        assert apply(reborn, entry, self.index) == applied, "a state from bytes decides otherwise"
        assert apply(self.restored, entry, self.index) == applied, "a restored state strays"
        if follower_folds:
            fold(self.follower, applied.happened, index=self.index, at_ms=entry.at_ms)
        else:
            assert apply(self.follower, entry, self.index) == applied, "a folded state strays"
        data = codec.encode_state(self.state)
        others = {"folded": self.folded, "reborn": reborn, "restored": self.restored}
        for name, other in {**others, "follower": self.follower}.items():
            assert codec.encode_state(other) == data, f"the {name} state has other bytes"
        again = codec.decode_state(data)
        assert codec.encode_state(again) == data
        assert check(again) == []

    def _block(self, at_ms: int, entry: bytes, events: bytes) -> None:
        self.chain = codec.next_chain(self.chain, self.index, entry, events)
        block = codec.Block(self.index, at_ms, entry, events, self.chain)
        assert codec.decode_block(codec.encode_block(block)) == block

    def _views_agree(self) -> None:
        """What the state shows is what the events told."""
        state, world = self.state, self.audit.world
        assert state.now_ms == world.now_ms
        assert state.live_count() == len(world.live)
        assert state.waiting_count() == len(world.waiting)
        for row_id in world.rows:
            self._row_agrees(row_id)
        for name in world.quotas:
            quota = views.quota(state, name)
            assert quota is not None
            used = {k: world.charged(name, k) for k in [*self.audit.truth.known_kinds()]}
            assert dict(quota.used) == {kind: amount for kind, amount in used.items() if amount}
        shown = views.allocations(state, limit=len(world.live) + 1)
        assert [a.allocation_id for a in shown] == sorted(world.live)
        for allocation in shown:
            live = world.live[allocation.allocation_id]
            assert allocation.demand == live.grant.demand
            assert allocation.suppliers == live.grant.suppliers
            assert allocation.devices == live.grant.devices
            assert (allocation.expires_ms, allocation.ends_ms) == (live.expires_ms, live.ends_ms)
        waiting = views.waiting_requests(state, limit=len(world.waiting) + 1)
        assert [w.request_id for w in waiting] == sorted(world.waiting)
        ranks = {i: world.rank(w, world.level_now(w)) for i, w in world.waiting.items()}
        order = sorted(ranks.values())
        for each in waiting:
            assert order[each.position - 1] == ranks[each.request_id]
            assert views.waiting(state, each.request_id) == each
        self._windows_agree()
        self._due_agrees()

    def _row_agrees(self, row_id: str) -> None:
        state, world = self.state, self.audit.world
        row, node = world.rows[row_id], views.node(state, row_id)
        assert node is not None
        assert node.state == row.state
        used = dict(node.used)
        held = dict(node.held)
        for kind in self.audit.truth.known_kinds():
            free = row.capacity.get(kind, 0) - used.get(kind, 0) - held.get(kind, 0)
            assert free == world.free(row_id, kind)

    def _windows_agree(self) -> None:
        world = self.audit.world
        shown = views.reservations(self.state)
        assert [r.reservation_id for r in shown] == sorted(world.windows)
        for each in shown:
            window = world.windows[each.reservation_id]
            left = world.undrawn(window) if window.open else {}
            assert dict(each.remaining) == {kind: amount for kind, amount in left.items() if amount}
            assert (each.node_id, each.suppliers) == (window.made.node_id, window.made.suppliers)

    def _due_agrees(self) -> None:
        """No deadline of anything is later than what the state says is due."""
        world = self.audit.world
        times = [live.deadline_ms for live in world.live.values()]
        times += [waits.queued.deadline_ms for waits in world.waiting.values()]
        for window in world.windows.values():
            times.append(window.made.end_ms if window.open else window.made.start_ms)
        times += [row.deadline_ms for row in world.rows.values()]
        earliest = min((t for t in times if t), default=0)
        due = next_due_ms(self.state)
        assert not earliest or 0 < due <= earliest
