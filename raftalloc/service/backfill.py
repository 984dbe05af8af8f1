"""Fetching the blocks that a snapshot went past, from other replicas, in the background.

Who has a gap asks for what follows its own last block before it: the leader first, then the others in turn. The answer
is a page of blocks in pieces of PIECE_BYTES; one piece is under way at a time, so this never gets in anybody's way. A
block is kept only where it continues the chain; so what fills a gap leads from the blocks before it to the snapshot
behind it. Where no other replica has what follows, or all lack it alike, that has left every store, and what is behind
it is fetched.

    blocks_wanted   after, until: indices   offset: of the page
    blocks          after, offset   size: of the page   data   is_all: the page begins where it should, or nobody here
                    will ever have what is before it
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgpack

from raftalloc.core import codec
from raftalloc.service.gaps import Gap
from raftalloc.service.indexing import keys_of
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from raftalloc.ports import Clock, Peers, Timer
    from raftalloc.service.engine import Engine

logger = get_logger(__name__)

PIECE_BYTES: Final = 192 << 10
PAGE_BYTES: Final = 192 << 10
"""A page ends with the block that reaches this."""
PAGE_BYTES_MAX: Final = 256 << 20
PAGE_BLOCKS: Final = 512
ANSWER_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.5
"""After an answer that did not help."""


class Backfill:
    """Fills the gaps of one replica, and gives blocks to others."""

    def __init__(
        self, *, engine: Engine, peers: Peers, clock: Clock, piece_bytes: int = PIECE_BYTES
    ) -> None:
        """Does nothing until `start`."""
        self._piece_bytes = piece_bytes
        self._engine = engine
        self._peers = peers
        self._clock = clock
        self._turn = 0
        self._lacking: set[str] = set()
        self._asked: tuple[str, int, int] | None = None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._giving: dict[str, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        peers.on_message("blocks_wanted", self._on_wanted)
        peers.on_message("blocks", self._on_blocks)

    def start(self) -> None:
        """Begin; needs a recovered engine."""
        self._task = asyncio.create_task(self._run(), name="backfill")

    async def close(self) -> None:
        """Stop. May be called twice."""
        task, self._task = self._task, None
        tasks = [each for each in (task, *self._giving.values()) if each is not None]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Giving

    def _on_wanted(self, replica_id: str, message: dict[str, Any]) -> None:
        """One answer at a time for each; who does not wait for it gets none."""
        if self._task is None or replica_id in self._giving:
            return
        after, until, offset = message["after"], message["until"], message["offset"]
        task = asyncio.create_task(self._give(replica_id, after, until, offset))
        self._giving[replica_id] = task
        task.add_done_callback(lambda ended: self._gave(replica_id, ended))

    def _gave(self, replica_id: str, ended: asyncio.Task[None]) -> None:
        del self._giving[replica_id]
        error = None if ended.cancelled() else ended.exception()
        if error is not None:
            self._engine.fail(error)

    async def _give(self, replica_id: str, after: int, until: int, offset: int) -> None:
        page = await self._page(after, until)
        self._peers.tell(
            replica_id,
            {
                "type": "blocks",
                "after": after,
                "offset": offset,
                "size": len(page),
                "data": page[offset : offset + self._piece_bytes],
                "is_all": self._is_all(after, until),
            },
        )

    def _is_all(self, after: int, until: int) -> bool:
        """Whether nothing better is to be had here: who lacks the same could only get it from a third, asked too."""
        gaps = self._engine.gaps
        return self._engine.stored_index >= until and (gaps.wanted is None or gaps.lacks(after))

    async def _page(self, after: int, until: int) -> bytes:
        """Blocks between two indices as they are sent: [[index, block], ...]. The same ones every time."""
        blocks: list[tuple[int, bytes]] = []
        size = 0
        for index, data in await self._engine.history.read(after + 1, PAGE_BLOCKS):
            if index > until:
                break
            blocks.append((index, data))
            size += len(data)
            if size >= PAGE_BYTES:
                break
        packed: bytes = msgpack.packb(blocks)
        return packed

    # Taking

    async def _run(self) -> None:
        gaps = self._engine.gaps
        try:
            while True:
                gap = gaps.wanted
                if gap is None:
                    gaps.changed.clear()
                    self._lacking.clear()
                    await gaps.changed.wait()
                elif not self._peers.others or not await self._fetch(gap):
                    await self._clock.sleep(PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the boundary of a task: the replica dies of it
            self._engine.fail(error)

    async def _fetch(self, gap: Gap) -> bool:
        """Ask one replica for what follows; whether that helped."""
        peer = self._next_peer()
        page = bytearray()
        while True:
            answer = await self._ask(peer, gap, len(page))
            if answer is None or answer["size"] > PAGE_BYTES_MAX:
                self._turn += 1
                return False
            page += answer["data"]
            if len(page) >= answer["size"] or not answer["data"]:
                break
        self._turn += 1
        try:
            blocks = [(index, data) for index, data in msgpack.unpackb(page)]
        except (ValueError, TypeError):
            return False
        if await self._take(gap, blocks):
            self._turn -= 1
            self._lacking.clear()
            return True
        if answer["is_all"]:
            self._lacking.add(peer)
        return self._lacking >= set(self._peers.others) and await self._skip(gap, blocks)

    def _next_peer(self) -> str:
        """The leader first."""
        others, leader = self._peers.others, self._peers.leader_id
        if self._turn == 0 and leader in others:
            return leader
        return others[self._turn % len(others)]

    async def _take(self, gap: Gap, blocks: list[tuple[int, bytes]]) -> bool:
        """Keep the blocks that continue the chain; whether there were any."""
        chain, above = gap.above_chain, gap.above
        kept: list[tuple[int, bytes, list[str]]] = []
        for index, data in blocks:
            found = _continued(chain, index, data) if index <= gap.below else None
            if found is None:
                break
            chain, above = found.chain, index
            kept.append((index, data, keys_of(codec.decode_events(found.events))))
        if not kept:
            return False
        rest = () if above >= gap.below else (Gap(above, chain, gap.below, gap.below_chain),)
        if above >= gap.below and chain != gap.below_chain:
            logger.error("fetched events do not lead to the snapshot", index=above)
            return False
        await self._engine.gaps.fill(gap, rest, kept)
        if not rest:
            logger.info("the event history is whole again", lowest_index=self._engine.gaps.floor)
        return True

    async def _skip(self, gap: Gap, blocks: list[tuple[int, bytes]]) -> bool:
        """What follows has left every store: go on behind the first block that is left, whose chain is known."""
        index, chain = gap.below, gap.below_chain  # where nothing of the gap is left
        if blocks:
            try:
                index, chain = blocks[0][0], codec.decode_block(blocks[0][1]).chain
            except (ValueError, TypeError):
                return False
            if not gap.above < index < gap.below:
                return False
        lost = Gap(gap.above, gap.above_chain, index, chain, is_lost=True)
        rest = () if index == gap.below else (Gap(index, chain, gap.below, gap.below_chain),)
        await self._engine.gaps.fill(gap, (lost, *rest), ())
        logger.warning("events are lost to every replica", after=gap.above, up_to=index)
        self._lacking.clear()
        return True

    async def _ask(self, peer: str, gap: Gap, offset: int) -> dict[str, Any] | None:
        """One piece; None where it did not come in time."""
        after, until = gap.above, gap.below
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked, self._answer = (peer, after, offset), answer
        wanted = {"type": "blocks_wanted", "after": after, "until": until, "offset": offset}
        self._peers.tell(peer, wanted)
        timer: Timer = self._clock.call_later(ANSWER_SECONDS, lambda: _give_up(answer))
        try:
            return await answer
        except TimeoutError:
            return None
        finally:
            timer.cancel()
            self._asked = self._answer = None

    def _on_blocks(self, replica_id: str, message: dict[str, Any]) -> None:
        is_asked = self._asked == (replica_id, message["after"], message["offset"])
        if is_asked and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)


def _give_up(answer: asyncio.Future[dict[str, Any]]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError("no answer in time"))


def _continued(chain: bytes, index: object, data: object) -> codec.Block | None:
    """The block, if it is one and stands behind `chain`."""
    if not isinstance(index, int) or not isinstance(data, bytes):
        return None
    try:
        block = codec.decode_block(data)
        expected = codec.next_chain(chain, index, block.entry, block.events)
    except ValueError:
        return None
    return block if block.index == index and block.chain == expected else None
