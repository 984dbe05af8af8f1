"""Taking a snapshot from the leader: the follower's side.

Chunks gather in memory. Once all are there and their digest is right, nothing is applied until the snapshot has taken
the place of the state: first the service makes it durable, then the log is rebased behind it and that is durable, and
then the state is swapped. Whatever is killed in between, the next start finds the snapshot and finishes the rest.

S13 Entries behind the snapshot stay, if the log holds the snapshot's last entry with the same term.
S14 A snapshot that is not ahead of what is committed here is not taken.
S8  A replica whose state does not reach the beginning of its log asks for a snapshot, and does not stand for election.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from raftalloc.errors import DataDirectoryError
from raftalloc.ports import Image
from raftalloc.raft.handlers import Message
from raftalloc.raft.offering import Offering, Parcel, digest_of

logger = logging.getLogger(__name__)

AHEAD_CHUNKS_MAX: Final = 8


@dataclass(slots=True)
class Incoming:
    """What has come of a snapshot."""

    index: int
    term: int
    size: int
    digest: bytes
    content: bytearray = field(default_factory=bytearray)
    ahead: dict[int, bytes] = field(default_factory=dict)

    def take(self, offset: int, data: bytes) -> None:
        """A chunk, in its place; those that overtook another wait for it, a few."""
        if offset > len(self.content) and len(self.ahead) < AHEAD_CHUNKS_MAX:
            self.ahead[offset] = data
        elif offset == len(self.content):
            self.content += data
            while len(self.content) in self.ahead:
                self.content += self.ahead.pop(len(self.content))

    def is_of(self, message: Message) -> bool:
        """Whether a chunk belongs to it. The same snapshot of another leader does."""
        return bool(self.digest == message["digest"] and self.index == message["index"])


class Installing(Offering):
    """The part of a SyncObj that takes snapshots. See Sending."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._incoming: Incoming | None = None
        self._installing = 0
        self._wants = 0
        self._durable_waiters: list[tuple[int, asyncio.Future[None]]] = []
        super().__init__(*arguments, **options)

    def resume(self) -> None:
        """At the start: finish what was cut short, and see whether the state reaches the beginning of the log.

        Raises DataDirectoryError where it does not, and nobody could be asked for a snapshot.
        """
        journal, machine = self._SyncObj__raftLog, self._owner.machine
        held = machine.installed()
        if (
            held is not None
            and held.index >= journal.first_index - 1
            and journal.term_at(held.index) != held.term
        ):
            journal.install(held.index, held.term, held.members)
        first = journal.first_index
        reached = machine.begin(first)
        if first > 1 and reached < first - 1:
            if not self._SyncObj__otherNodes:
                raise DataDirectoryError(
                    f"the state ends at index {reached}, and the Raft log begins at {first}: what is between is "
                    "gone with the snapshot that had it; restore a backup"
                )
            logger.warning(
                "the state ends at index %d, and the Raft log begins at %d; waiting for a snapshot of the leader",
                reached,
                first,
            )
            self._wants = first - 1
        self._SyncObj__raftLastApplied = max(1, first - 1)

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be applied: the state is, or waits to be, replaced by a snapshot."""
        return bool(self._installing or self._wants)

    def ask_before_standing(self) -> None:
        """See Handlers. Who has no state cannot lead."""
        if self.is_paused:
            self._put_off_election()
        else:
            super().ask_before_standing()

    def _on_timeout_now(self, node: Any, message: Message) -> None:
        if not self.is_paused:
            super()._on_timeout_now(node, message)

    def _also_answered(self) -> Message:
        """See Handlers."""
        return {"wants": self._wants} if self._wants and not self._installing else {}

    def handle_other(self, node: Any, message: Message) -> None:
        """See Handlers."""
        if message["type"] == "snapshot_chunk":
            self._on_chunk(node, message)
        else:
            super().handle_other(node, message)

    def _on_chunk(self, node: Any, message: Message) -> None:
        if message["term"] < self._SyncObj__raftCurrentTerm:
            self._answer_chunk(node, message["digest"], 0)
            return
        self._follow(node, message)
        if not self._lacks(message["index"]):
            self._answer_chunk(node, message["digest"], 0, taken=True)
            return
        incoming = self._incoming
        if self._installing:
            if incoming is not None and incoming.is_of(message):
                self._answer_chunk(node, incoming.digest, incoming.size)
            return
        if incoming is None or not incoming.is_of(message):
            if message["offset"]:
                self._answer_chunk(node, message["digest"], 0)
                return
            incoming = self._incoming = Incoming(
                message["index"], message["index_term"], message["size"], message["digest"]
            )
        incoming.take(message["offset"], message["data"])
        if len(incoming.content) >= incoming.size:
            self._check(incoming)
        self._answer_chunk(node, incoming.digest, len(incoming.content))

    def _lacks(self, index: int) -> bool:
        """Whether a snapshot is ahead of what we have; of a state that was lost, whether it reaches far enough."""
        return index >= self._wants if self._wants else index > self._SyncObj__raftCommitIndex

    def _answer_chunk(self, node: Any, digest: bytes, offset: int, *, taken: bool = False) -> None:
        self._SyncObj__transport.send(
            node,
            {
                "type": "snapshot_answer",
                "term": self._SyncObj__raftCurrentTerm,
                "digest": digest,
                "offset": offset,
                "taken": taken,
                "next_node_idx": self._SyncObj__raftCommitIndex + 1,
            },
        )

    def _check(self, incoming: Incoming) -> None:
        """All is there; begin, or have it sent again."""
        if (
            len(incoming.content) == incoming.size
            and digest_of(incoming.content) == incoming.digest
        ):
            self._installing = incoming.index
            self._owner.spawn(self._install(incoming))
            return
        logger.warning(
            "the snapshot at index %d came damaged; it is asked for again", incoming.index
        )
        incoming.content.clear()
        incoming.ahead.clear()

    async def _install(self, incoming: Incoming) -> None:
        try:
            parcel = Parcel(incoming.index, incoming.term, bytes(incoming.content), incoming.digest)
            image = parcel.image()
        except ValueError as error:
            raise DataDirectoryError(f"the leader's snapshot cannot be read: {error}") from error
        await self._owner.machine.keep(image)
        self._SyncObj__raftLog.install(image.index, image.term, image.members)
        await self._durable()
        self._owner.machine.adopt(image)
        self._installed(image)

    def _installed(self, image: Image) -> None:
        """Go on behind it."""
        logger.info("installed the leader's snapshot at index %d", image.index)
        self._SyncObj__raftLastApplied = max(self._SyncObj__raftLastApplied, image.index)
        if image.index > self._SyncObj__raftCommitIndex:
            self._SyncObj__raftCommitIndex = image.index
            self._SyncObj__raftLog.setRaftCommitIndex(image.index)
        self.restore_members(image.index, image.members)
        self._forget_callers(image.index)
        incoming, self._incoming = self._incoming, None
        self._installing = self._wants = 0
        leader = self._SyncObj__raftLeader
        if incoming is not None and leader in self._SyncObj__otherNodes:
            self._answer_chunk(leader, incoming.digest, incoming.size, taken=True)
        self._owner.driver.kick()

    def _forget_callers(self, index: int) -> None:
        """Nobody will hear what became of entries up to `index`, for they are not applied here."""
        raise NotImplementedError

    async def _durable(self) -> None:
        """Wait until all that the log holds now is on the disk."""
        journal = self._SyncObj__raftLog
        mark = journal.mark
        journal.sync()
        while journal.durable_mark < mark:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._durable_waiters.append((mark, waiter))
            await waiter

    def _wake_durable(self) -> None:
        """More is on the disk."""
        waiters, self._durable_waiters = self._durable_waiters, []
        for mark, waiter in waiters:
            if mark > self._SyncObj__raftLog.durable_mark:
                self._durable_waiters.append((mark, waiter))
            elif not waiter.done():
                waiter.set_result(None)
