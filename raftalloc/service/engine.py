"""The state machine in its place: bytes of the log in, state and events out, blocks to the store, snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.core.commands import Asked
    from raftalloc.core.events import Happened
    from raftalloc.core.records import Allocation, Outcome
    from raftalloc.core.state import State
    from raftalloc.ports import EventStore


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of one entry of the log.

    `asked` and `outcomes` pair up. `granted[i]` are the allocations that outcome i speaks of (of a grant, all that
    started; of a renewal, the one), as they were when it was decided; filled only on the replica that proposed.
    """

    index: int
    at_ms: int
    proposer: str
    asked: tuple[Asked, ...]
    happened: tuple[Happened, ...]
    outcomes: tuple[Outcome, ...]
    granted: tuple[tuple[Allocation, ...], ...]


class Engine:
    """Owns the State, its index and chain, and what goes to the event store. One event loop, no locks."""

    def __init__(
        self,
        *,
        store: EventStore,
        replica_id: str,
        cluster_id: str,
        snapshot_entries: int,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """`on_fatal` hears of a store that failed: the replica must stop."""
        raise NotImplementedError

    state: State
    index: int
    """Last index that is in `state`: of the log, so it may lag behind Raft's by entries that are Raft's own."""
    chain: bytes
    """32 bytes over every entry and event up to `index`."""
    stored_index: int
    """Last index that the event store has taken (not: synced)."""
    snapshot_index: int
    """Index of the newest snapshot, 0 where there is none."""

    async def recover(self) -> None:
        """Load the newest good snapshot and fold the store's tail over it. Raises DataDirectoryError on damage."""
        raise NotImplementedError

    def apply(self, index: int, data: bytes) -> Decided | None:
        """Decide one committed entry; for Consensus. None: the index is in the store already. Raises only on bugs."""
        raise NotImplementedError

    def subscribe(self, callback: Callable[[Decided], None]) -> Callable[[], None]:
        """Hear of every entry as it is decided, in order, synchronously; call the answer to stop. It must not raise."""
        raise NotImplementedError

    async def stored(self, index: int) -> None:
        """Wait until the store has taken every block up to `index`."""
        raise NotImplementedError

    @property
    def backlog(self) -> int:
        """Blocks that the store has not taken yet."""
        raise NotImplementedError

    async def snapshot(self) -> tuple[int, str, int]:
        """Write a snapshot of the state as it is now; answers index, path and bytes."""
        raise NotImplementedError

    def digests(self) -> tuple[int, str, str]:
        """Index, chain digest and content digest (both hex), all of the same moment. Costs O(state)."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let the store take what is queued, and stop. Does not close the store."""
        raise NotImplementedError
