"""Commands in, outcomes out: stamps, gathers a batch while one is under way, proposes, wakes the callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.commands import Asked
    from raftalloc.core.records import Allocation, Outcome
    from raftalloc.ports import Consensus
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcomes of the commands of one `submit`, in their order; the index and time of their entry.

    `granted[i]` are the allocations that outcome i speaks of (of a grant, all that started; of a renewal, the one), as
    they were when it was decided. An allocation that has ended since a replayed outcome is not among them.
    """

    outcomes: tuple[Outcome, ...]
    index: int
    at_ms: int
    granted: tuple[tuple[Allocation, ...], ...]


class Submitter:
    """The only way into the log. One entry is under way at a time; what comes meanwhile is the next entry."""

    def __init__(
        self,
        *,
        engine: Engine,
        consensus: Consensus,
        clock: ClusterClock,
        replica_id: str,
        batch_commands: int = 10_000,
        batch_bytes: int = 1 << 20,
        queue_commands: int = 50_000,
    ) -> None:
        """`queue_commands`: how many may wait before the next is shed with Overloaded."""
        raise NotImplementedError

    async def submit(self, asked: Sequence[Asked]) -> Answer:
        """Propose commands (1..batch_commands), all in one entry, and wait for their outcomes.

        Raises NotLeader, NoLeader, Overloaded (not done), OutcomeUnknown (perhaps done), ReplicaFailed. The caller bounds
        the wait (`asyncio.timeout`); what is cancelled while it waits for its batch is not proposed.
        """
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Commands that wait for an entry, or for the entry that carries them."""
        raise NotImplementedError

    async def close(self) -> None:
        """Refuse what waits, and stop."""
        raise NotImplementedError
