"""What the leader does by itself: takes the lead, lets time pass, notices nodes that fell silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.ports import Clock, Consensus
    from raftalloc.service.clock import ClusterClock
    from raftalloc.service.engine import Engine
    from raftalloc.service.submit import Submitter


class Ticker:
    """Proposes TakeLead first in every term of ours, then Tick when something is due, MarkLost and MarkReturned."""

    def __init__(
        self,
        *,
        engine: Engine,
        consensus: Consensus,
        submitter: Submitter,
        clock: Clock,
        cluster_clock: ClusterClock,
        replica_id: str,
        heartbeat_timeout_ms: int = 10_000,
    ) -> None:
        """Does nothing until `start`."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin; needs a recovered engine."""
        raise NotImplementedError

    @property
    def has_lead(self) -> bool:
        """Whether this replica leads and its TakeLead is applied: from here on it takes commands and heartbeats."""
        raise NotImplementedError

    def heartbeat(self, node_ids: Sequence[str]) -> list[str]:
        """These nodes live. Answers those that are not registered. Raises NotLeader, NoLeader."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop proposing."""
        raise NotImplementedError
