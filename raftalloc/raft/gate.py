"""The gate between Raft and the wire: nothing leaves before what it speaks of is on the disk.

A vote, an acknowledgement or the wish to be voted for is held until the journal is durable up to where it was when the
message was put together; one sync lets all out that waited for it. A leader's entries go at once, while its own sync
runs: they claim nothing about this replica but its term; nor does gossip. It is pysyncobj's Transport, by shape.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from raftalloc.raft.journal import Journal

HELD_MAX: Final = 100_000
"""While a disk hangs. What is more is dropped, as a wire may; the others ask again."""
_CLAIMS_ONLY_ITS_TERM: Final = ("append_entries", "timeout_now", "gossip", "snapshot_chunk")


class Gate:
    """Holds messages; `release` when more is durable."""

    def __init__(self, transport: Any, journal: Journal) -> None:
        """`transport`: pysyncobj's, to whose other methods this gives way."""
        self._transport = transport
        self._journal = journal
        self._held: deque[tuple[int, Any, dict[str, Any]]] = deque()

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send now or later; whether it may still arrive."""
        journal = self._journal
        if message["type"] in _CLAIMS_ONLY_ITS_TERM and journal.durable_vote[0] >= message["term"]:
            return bool(self._transport.send(node, message))
        if not self._held and journal.durable_mark == journal.mark:
            return bool(self._transport.send(node, message))
        if len(self._held) >= HELD_MAX:
            return False
        self._held.append((journal.mark, node, message))
        return True

    def release(self) -> None:
        """Send what has become true, in the order in which it was said."""
        durable = self._journal.durable_mark
        held = self._held
        while held and held[0][0] <= durable:
            _, node, message = held.popleft()
            self._transport.send(node, message)

    def destroy(self) -> None:
        """Leave the network; what was held is never said."""
        self._held.clear()
        self._transport.destroy()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
