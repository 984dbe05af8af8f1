"""Forgetting the log below a snapshot, and offering the snapshot to who needs what was forgotten: the leader's side.

The snapshot goes in chunks of ordinary messages, a few of them unconfirmed at a time, while entries and heartbeats go
on. What a follower has confirmed is not sent again, unless it lost it. A transfer keeps its own copy of the snapshot,
and the log behind it, so that no compaction makes it begin anew (A3); one whose follower is silent for long is given
up.

To Raft's messages come `snapshot_chunk` and `snapshot_answer`; an answer to an append may carry `wants`, the index that
a snapshot must reach for a follower whose state was lost.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from raftalloc.ports import Image
from raftalloc.raft.handlers import Message
from raftalloc.raft.quorum import LEADER
from raftalloc.raft.sending import Sending

if TYPE_CHECKING:
    from raftalloc.raft.member import Member

logger = logging.getLogger(__name__)

WINDOW_CHUNKS: Final = 4
PATIENCE_SECONDS: Final = 1.0
"""Without an answer, what is under way is sent again; then twice as long."""
PATIENCE_SECONDS_MAX: Final = 8.0
SILENT_SECONDS_MAX: Final = 30.0
REWIND_SECONDS: Final = 0.05
"""Between two times that a transfer goes back to what the follower says that it has."""
_HEAD: Final = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A snapshot as it is sent. content: the lengths of manifest and members, and those two and the state."""

    index: int
    term: int
    content: bytes
    digest: bytes

    @classmethod
    def of(cls, image: Image) -> Parcel:
        """Put together. Costs one copy of the state, and its hash."""
        head = _HEAD.pack(len(image.manifest), len(image.members))
        content = b"".join((head, image.manifest, image.members, image.state))
        return cls(image.index, image.term, content, digest_of(content))

    def image(self) -> Image:
        """Taken apart. Raises ValueError."""
        content = memoryview(self.content)
        if len(content) < _HEAD.size:
            raise ValueError(f"a snapshot of {len(content)} bytes")
        manifest_size, members_size = _HEAD.unpack_from(content)
        members_at = _HEAD.size + manifest_size
        state_at = members_at + members_size
        if state_at > len(content):
            raise ValueError(f"a snapshot of {len(content)} bytes whose state begins at {state_at}")
        return Image(
            index=self.index,
            term=self.term,
            members=bytes(content[members_at:state_at]),
            manifest=bytes(content[_HEAD.size : members_at]),
            state=bytes(content[state_at:]),
        )


def digest_of(content: bytes | bytearray) -> bytes:
    """What a parcel is checked by: 32 bytes."""
    return hashlib.blake2b(content, digest_size=32).digest()


@dataclass(slots=True)
class Offer:
    """One transfer. confirmed, sent: bytes. index: of the snapshot, 0 while it is loaded; the log behind it stays.

    taken_at: 0, or the end of our log when the follower had taken it: there the follower is no longer behind.
    """

    term: int
    at_least: int
    heard_at: float
    parcel: Parcel | None = None
    index: int = 0
    confirmed: int = 0
    sent: int = 0
    resend_at: float = 0.0
    patience: float = PATIENCE_SECONDS
    taken_at: int = 0
    rewound_at: float = float("-inf")


class Offering(Sending):
    """The part of a SyncObj that forgets its log, and sends snapshots. See Sending."""

    _SyncObj__raftLastApplied: int
    _owner: Member

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._offers: dict[Any, Offer] = {}
        super().__init__(*arguments, **options)

    # Forgetting

    def compact(self, index: int) -> None:
        """Forget entries up to `index`, which a durable snapshot has, but for the tail that slow followers may need."""
        journal, timing = self._SyncObj__raftLog, self._owner.timing
        pinned = [offer.index for offer in self._offers.values() if offer.index]
        last = min(index, self._SyncObj__raftLastApplied, journal.durable_index, *pinned)
        first = journal.tail_from(last, timing.tail_entries, timing.tail_bytes)
        if first > journal.first_index:
            journal.rebase(first, journal.term_at(first - 1), self.members_at(first - 1))
            self._owner.driver.kick()

    # Offering

    def _send_snapshot(self, node: Any) -> None:
        offer = self._offers.get(node)
        if offer is None or offer.term != self._SyncObj__raftCurrentTerm or offer.taken_at:
            self._offer(node, 0)
        elif offer.parcel is not None:
            self._pump(node, offer, offer.parcel)

    def _offer(self, node: Any, at_least: int) -> None:
        """Begin; `at_least`: the index that the snapshot must reach, 0 if our log's beginning will do."""
        at_least = max(at_least, self._SyncObj__raftLog.first_index - 1)
        offer = Offer(self._SyncObj__raftCurrentTerm, at_least, self.now())
        self._offers[node] = offer
        shared = self._parcel_of(at_least)
        if shared is not None:
            self._begin(node, offer, shared)
        else:
            self._owner.spawn(self._load(node, offer))

    def _parcel_of(self, at_least: int) -> Parcel | None:
        """One that another transfer has, and that would do."""
        parcels = (offer.parcel for offer in self._offers.values() if offer.parcel is not None)
        return next((parcel for parcel in parcels if parcel.index >= at_least), None)

    async def _load(self, node: Any, offer: Offer) -> None:
        image = await self._owner.machine.image(offer.at_least)
        if self._offers.get(node) is not offer:
            return
        parcel = self._parcel_of(offer.at_least) or self._pack(image)
        if parcel is None or self._SyncObj__raftState != LEADER:
            # Nothing that would do yet; the next heartbeat tries again.
            del self._offers[node]
            return
        self._begin(node, offer, parcel)

    def _pack(self, image: Image | None) -> Parcel | None:
        term = -1 if image is None else self._term_at(image.index)
        if image is None or term < 0:
            return None
        members = self.members_at(image.index)
        return Parcel.of(Image(image.index, term, members, image.manifest, image.state))

    def _begin(self, node: Any, offer: Offer, parcel: Parcel) -> None:
        logger.info(
            "%s is sent the snapshot at index %d (%d bytes)",
            node.id,
            parcel.index,
            len(parcel.content),
        )
        offer.parcel, offer.index = parcel, parcel.index
        self._pump(node, offer, parcel)

    def _pump(self, node: Any, offer: Offer, parcel: Parcel) -> None:
        """Send what the window has room for; or again, what was not answered in time."""
        now, size = self.now(), len(parcel.content)
        if now >= offer.resend_at and offer.resend_at:
            offer.sent = offer.confirmed
            offer.patience = min(2 * offer.patience, PATIENCE_SECONDS_MAX)
            if offer.sent == size:
                # It has all of it. Has it taken it by now?
                self._send_chunk(node, parcel, size)
                offer.resend_at = now + offer.patience
        chunk = self._owner.timing.chunk_bytes
        while offer.sent < min(size, offer.confirmed + WINDOW_CHUNKS * chunk):
            self._send_chunk(node, parcel, offer.sent)
            offer.sent = min(size, offer.sent + chunk)
            offer.resend_at = now + offer.patience

    def _send_chunk(self, node: Any, parcel: Parcel, offset: int) -> None:
        self._SyncObj__transport.send(
            node,
            {
                "type": "snapshot_chunk",
                "term": self._SyncObj__raftCurrentTerm,
                "commit_index": self._SyncObj__raftCommitIndex,
                "index": parcel.index,
                "index_term": parcel.term,
                "size": len(parcel.content),
                "digest": parcel.digest,
                "offset": offset,
                "data": parcel.content[offset : offset + self._owner.timing.chunk_bytes],
            },
        )

    def handle_other(self, node: Any, message: Message) -> None:
        """See Handlers."""
        if message["type"] == "snapshot_answer":
            self._on_snapshot_answer(node, message)
        else:
            super().handle_other(node, message)

    def _on_snapshot_answer(self, node: Any, message: Message) -> None:
        if not self._is_of_this_term(message) or self._SyncObj__raftState != LEADER:
            return
        now = self.now()
        self._SyncObj__lastResponseTime[node] = now
        offer = self._offers.get(node)
        parcel = None if offer is None else offer.parcel
        is_ours = parcel is not None and message["digest"] == parcel.digest
        if offer is not None and is_ours:
            offer.heard_at = now
        if message["taken"]:
            if offer is not None and is_ours:
                offer.taken_at, offer.parcel = self._last()[0], None
            self._advance(node, message["next_node_idx"], success=True)
        elif offer is not None and parcel is not None and is_ours:
            self._confirm(offer, message["offset"], now)
            self._pump(node, offer, parcel)

    def _confirm(self, offer: Offer, offset: int, now: float) -> None:
        """How much the follower has now; it may be less, where it was restarted."""
        if offset > offer.confirmed:
            offer.patience = PATIENCE_SECONDS
            offer.resend_at = now + offer.patience
            offer.sent = max(offer.sent, offset)
        elif offset < offer.confirmed:
            if now < offer.rewound_at + REWIND_SECONDS:
                # An older answer, overtaken: to send a window for each of them would bring forth ever more.
                return
            offer.sent, offer.rewound_at = offset, now
        offer.confirmed = offset

    def _on_append_answer(self, node: Any, message: Message) -> None:
        """See Handlers; a follower whose state was lost says what it wants."""
        super()._on_append_answer(node, message)
        wants = message.get("wants", 0)
        if not wants or self._SyncObj__raftState != LEADER:
            return
        offer = self._offers.get(node)
        if offer is None or offer.taken_at or 0 < offer.index < wants:
            self._offer(node, wants)
        elif offer.parcel is not None:
            self._pump(node, offer, offer.parcel)

    def _advance(self, node: Any, next_index: int, *, success: bool) -> None:
        """See Handlers; who has caught up needs no snapshot any more."""
        super()._advance(node, next_index, success=success)
        offer = self._offers.get(node)
        if offer is not None and 0 < offer.taken_at <= self._SyncObj__raftMatchIndex[node]:
            del self._offers[node]

    def _forget(self, node: Any) -> None:
        super()._forget(node)
        self._offers.pop(node, None)

    def sweep(self) -> None:
        """Give up transfers of another term, and those to followers that are silent."""
        if not self._offers:
            return
        term = self._SyncObj__raftCurrentTerm if self._SyncObj__raftState == LEADER else -1
        since = self.now() - SILENT_SECONDS_MAX
        for node, offer in list(self._offers.items()):
            if offer.term != term or offer.heard_at < since:
                del self._offers[node]
