"""The same without an event loop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raftalloc import (
    InvalidRequest,
    ResourceRequest,
    SyncResourceManager,
)
from tests.manager.fleet import START, asks, furnish, until_waiting, waiting

if TYPE_CHECKING:
    from tests.conftest import Run
    from tests.manager.conftest import Make


def test_the_synchronous_face_does_the_same_without_a_loop(make: Make) -> None:
    with make().sync as manager:
        manager.run(furnish(manager.asynchronous))
        with manager.allocate_resources(asks("plain", lease_ttl=5)) as allocation:
            assert allocation.success, allocation.reason
            allocation.renew()
            assert [each.id for each in manager.allocations_of("plain")] == [allocation.id]
            assert manager.get_utilization_metrics().gpu.used >= 1
        assert manager.allocations_of("plain") == []
        manager.set_quota("plain", {"gpu": 2})
        assert manager.get_quota_usage("plain").gpu.limit == 2
        window = manager.reserve_resources("w", START, 60, {"gpu": 1})
        assert window.success, window.reason
        window.cancel()
        assert len(manager.get_allocation_history("1h", agent_id="plain")) >= 1


def test_ctrl_c_during_a_synchronous_wait_withdraws_the_request(tmp_path: Path) -> None:
    with SyncResourceManager(data_dir=str(tmp_path / "data")) as manager:
        manager.run(furnish(manager.asynchronous))
        manager.allocate_resources(ResourceRequest(agent_id="s_1", resources={"gpu": 4}))

        def press_when_waiting() -> None:
            manager.run(until_waiting(manager.asynchronous, "s_2"))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        presser = threading.Thread(target=press_when_waiting)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            manager.allocate_resources(asks("s_2", wait=60))
        presser.join()
        assert manager.run(waiting(manager.asynchronous, "s_2")) == []


def test_a_manager_in_use_by_a_loop_has_no_synchronous_face(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            with pytest.raises(InvalidRequest, match="in use by an event loop"):
                _ = manager.sync

    run(scene())
