"""The replica that differs may lead: then it stands back for good, and the group goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc.client.client import Client
from raftalloc.errors import Unavailable
from raftalloc.storage.directory import DIVERGED
from tests.server.asking import allocate_request, ask, register
from tests.server.test_group import group, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Run


def test_a_leader_whose_state_lost_a_bit_stands_back_for_good(
    run: Run, tmp_path: Path, free_ports: Callable[[int], list[int]]
):
    async def story() -> None:
        async with group(tmp_path, free_ports) as members:
            old = await members.leader()
            others = [member for member in members.members if member is not old]
            await register(old.transport)
            await ask(old.transport, "Allocator/Allocate", allocate_request())
            # The next fencing token will be another than on the others.
            old.replica._engine.state.token ^= 1 << 10
            async with Client([member.address for member in members.members]) as client:
                for _ in range(60):
                    await client.allocator.allocate(allocate_request(resources={"cpu": 1}))
                    if old.replica.health():
                        break
                    await asyncio.sleep(0.1)
                assert "differs from the others" in old.replica.health()
                assert old.replica.ready() == old.replica.health()
                assert old.replica.sample().divergence_index > 0
                await until(lambda: any(member.replica.sample().is_leader for member in others))
                assert not old.replica.sample().is_leader
                answer = await client.allocator.allocate(allocate_request(resources={"cpu": 1}))
                assert answer.granted.allocations[0].fencing_token < 1 << 10
                status = await client.admin.status(endpoint=old.address)
                assert status.divergence
            with pytest.raises(Unavailable, match="ask another"):
                await ask(old.transport, "Allocator/Allocate", allocate_request())
            assert not any(member.replica.health() for member in others)

    run(story(), timeout=60)
    assert len(list(tmp_path.rglob(DIVERGED))) == 1
