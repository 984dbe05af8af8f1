from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.client.keepalive import KeepAlive
from raftalloc.errors import OutcomeUnknown, RaftallocError, Rejected, Unavailable

if TYPE_CHECKING:
    from tests.conftest import Run

LEASED = types_pb2.Allocation(id=3, agent_id="a", fencing_token=8, lease_ttl_ms=60)


class Group:
    """Renews, or raises what is next in `faults`."""

    def __init__(self, *faults: RaftallocError) -> None:
        self.faults = list(faults)
        self.asked: list[allocator_pb2.RenewRequest] = []

    async def renew(
        self, request: allocator_pb2.RenewRequest, timeout: float
    ) -> allocator_pb2.RenewResponse:
        self.asked.append(request)
        if self.faults:
            raise self.faults.pop(0)
        allocation = types_pb2.Allocation(expires_ms=len(self.asked))
        return allocator_pb2.RenewResponse(allocation=allocation)


class Holder:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.renewals: asyncio.Queue[types_pb2.Allocation] = asyncio.Queue()
        self.losses: asyncio.Queue[RaftallocError] = asyncio.Queue()

    def renewed(self, message: types_pb2.Allocation) -> None:
        self.renewals.put_nowait(message)

    def lost(self, error: RaftallocError) -> None:
        self.losses.put_nowait(error)

    async def until_renewed(self, count: int) -> None:
        for _ in range(count):
            await asyncio.wait_for(self.renewals.get(), 5)


def test_a_lease_is_renewed_with_its_token_again_and_again_until_it_is_dropped(run: Run) -> None:
    async def scene() -> None:
        group, holder = Group(), Holder()
        keeper = KeepAlive(group.renew)
        keeper.keep(LEASED, renewed=holder.renewed, lost=holder.lost)
        keeper.keep(LEASED, renewed=holder.renewed, lost=holder.lost)
        await holder.until_renewed(3)
        assert group.asked[0] == allocator_pb2.RenewRequest(
            allocation_id=3, fencing_token=8, agent_id="a"
        )
        keeper.drop(3)
        assert not keeper.kept
        count = len(group.asked)
        await asyncio.sleep(0.08)
        assert len(group.asked) == count
        assert holder.losses.empty()

    run(scene())


@pytest.mark.parametrize("fault", [Unavailable("none"), OutcomeUnknown("lost")])
def test_a_fault_is_no_loss(run: Run, fault: RaftallocError) -> None:
    async def scene() -> None:
        group, holder = Group(fault, fault), Holder()
        keeper = KeepAlive(group.renew)
        keeper.keep(LEASED, renewed=holder.renewed, lost=holder.lost)
        await holder.until_renewed(1)
        assert len(group.asked) == 3
        assert holder.losses.empty()
        await keeper.close()

    run(scene())


def test_a_definite_no_ends_it_and_is_told_once(run: Run) -> None:
    async def scene() -> None:
        no = Rejected("LEASE_EXPIRED", "too late")
        group, holder = Group(no), Holder()
        keeper = KeepAlive(group.renew)
        keeper.keep(LEASED, renewed=holder.renewed, lost=holder.lost)
        assert await asyncio.wait_for(holder.losses.get(), 5) is no
        await asyncio.sleep(0.08)
        assert not keeper.kept
        assert holder.losses.empty()
        assert len(group.asked) == 1

    run(scene())


def test_what_has_no_lease_is_not_renewed(run: Run) -> None:
    async def scene() -> None:
        keeper = KeepAlive(Group().renew)
        plain = types_pb2.Allocation(id=3)
        keeper.keep(plain, renewed=lambda _: None, lost=lambda _: None)
        assert not keeper.kept

    run(scene())
