"""Who leads, as the API speaks of it: by address."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftalloc.ports import Consensus
    from raftalloc.service.ticker import Ticker


class Leadership:
    """What this replica knows of its group's leader. Addresses are gRPC's, host:port; empty where embedded."""

    def __init__(
        self, *, replica_id: str, addresses: Mapping[str, str], consensus: Consensus, ticker: Ticker
    ) -> None:
        """`addresses`: by replica id, as `cluster.toml` has them."""
        self.replica_id = replica_id
        self._first_addresses = addresses
        self._consensus = consensus
        self._ticker = ticker

    @property
    def addresses(self) -> dict[str, str]:
        """By replica id, of all members; for those that `cluster.toml` names, as it has them."""
        first = self._first_addresses
        members = self._consensus.members
        return {seat.replica_id: first.get(seat.replica_id, seat.grpc) for seat in members}

    @property
    def has_lead(self) -> bool:
        """Whether this replica leads and takes commands."""
        return self._ticker.has_lead

    async def confirm(self) -> None:
        """Before a read: this replica still leads, and has applied every write acknowledged before this call.

        Raises NotLeader, NoLeader.
        """
        await self._consensus.read_index()

    @property
    def own_address(self) -> str:
        """Of this replica."""
        return self._first_addresses.get(self.replica_id, "")

    @property
    def leader_address(self) -> str:
        """Of the leader, or empty."""
        return self.address_of(self._consensus.leader_id)

    def address_of(self, replica_id: str) -> str:
        """Of any member; empty for what is none."""
        return self.addresses.get(replica_id, "")
