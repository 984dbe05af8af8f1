"""SyncResourceManager: ResourceManager for code without an event loop. Each method blocks its caller until it is done.

It runs the manager on a loop in a thread of its own, so leases are kept alive and heartbeats sent while the caller
computes. Several threads may share it. Ctrl-C while a call waits cancels the call there, and with it the request.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from raftalloc.client.client import TIMEOUT_S
from raftalloc.client.waiting import ABANDON_S
from raftalloc.manager.asynchronous import ResourceManager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from raftalloc.client.allocation import Allocation
    from raftalloc.client.client import Client
    from raftalloc.client.quantities import Amount
    from raftalloc.client.requests import Priority, ResourceRequest
    from raftalloc.client.reservation import Reservation
    from raftalloc.client.results import Refusal
    from raftalloc.client.times import Length
    from raftalloc.errors import RaftallocError
    from raftalloc.security.files import TlsFiles

P = ParamSpec("P")
T = TypeVar("T")

JOIN_S: Final = 10.0


def _blocking(
    method: Callable[Concatenate[ResourceManager, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncResourceManager, P], T]:
    """The blocking twin of a method of ResourceManager: same name, same arguments, same documentation."""

    @functools.wraps(method)
    def call(self: SyncResourceManager, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method(self.asynchronous, *args, **kwargs))

    return call


def _reserving(
    method: Callable[Concatenate[ResourceManager, P], Coroutine[Any, Any, Reservation]],
) -> Callable[Concatenate[SyncResourceManager, P], SyncReservation]:
    """As `_blocking`, for what answers a Reservation."""

    @functools.wraps(method)
    def call(self: SyncResourceManager, /, *args: P.args, **kwargs: P.kwargs) -> SyncReservation:
        return SyncReservation(self, self.run(method(self.asynchronous, *args, **kwargs)))

    return call


class SyncResourceManager:
    """See ResourceManager; `with` initializes and closes it."""

    def __init__(
        self,
        manager: ResourceManager | None = None,
        *,
        config_path: str | None = None,
        endpoints: Sequence[str] | None = None,
        data_dir: str | None = None,
        tls: TlsFiles | str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Either a manager that no loop has initialized yet, or what ResourceManager takes."""
        self.asynchronous = manager or ResourceManager(
            config_path, endpoints=endpoints, data_dir=data_dir, tls=tls, timeout=timeout
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    initialize = _blocking(ResourceManager.initialize)
    start_resource_tracking = _blocking(ResourceManager.start_resource_tracking)
    stop_resource_tracking = _blocking(ResourceManager.stop_resource_tracking)
    set_quota = _blocking(ResourceManager.set_quota)
    get_quota_usage = _blocking(ResourceManager.get_quota_usage)
    get_utilization_metrics = _blocking(ResourceManager.get_utilization_metrics)
    what_if = _blocking(ResourceManager.what_if)
    get_allocation_history = _blocking(ResourceManager.get_allocation_history)
    register_node = _blocking(ResourceManager.register_node)
    reserve_resources = _reserving(ResourceManager.reserve_resources)

    def allocate_resources(self, request: ResourceRequest) -> SyncAllocation:
        """See ResourceManager.allocate_resources."""
        return SyncAllocation(self, self.run(self.asynchronous.allocate_resources(request)))

    def allocations_of(self, agent_id: str, *, keep_alive: bool = True) -> list[SyncAllocation]:
        """See ResourceManager.allocations_of."""
        held = self.run(self.asynchronous.allocations_of(agent_id, keep_alive=keep_alive))
        return [SyncAllocation(self, allocation) for allocation in held]

    @property
    def client(self) -> Client:
        """The API itself: `manager.run(manager.client.fleet.drain(...))`."""
        return self.asynchronous.client

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the manager's loop and wait for it."""
        loop = self._started()
        done = threading.Event()

        async def marked() -> T:
            try:
                return await coroutine
            finally:
                done.set()

        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the synchronous face was called on its own loop; use the other one")
        future = asyncio.run_coroutine_threadsafe(marked(), loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            done.wait(ABANDON_S + 1)
            raise

    def close(self) -> None:
        """Close the manager and end its thread. What was granted stays granted."""
        with self._starting:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        atexit.unregister(self.close)
        try:
            asyncio.run_coroutine_threadsafe(self.asynchronous.close(), loop).result(JOIN_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(JOIN_S)

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        """The loop, whose thread is started with the first call."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="raftalloc-manager", daemon=True
                )
                self._thread.start()
                # A daemon thread is cut off where it stands; so the manager is closed before that.
                atexit.register(self.close)
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: run until stopped, then leave nothing open."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class SyncAllocation:
    """An Allocation whose methods block; as `with` it is released at the end."""

    success: bool
    reason: str
    refusal: Refusal | None
    waited: float
    lost: RaftallocError | None
    id: int
    request_id: int
    agent_id: str
    agent_type: str
    workflow_id: str
    priority: Priority
    allocated_resources: dict[str, int | float]
    node_id: str
    suppliers: Mapping[str, str]
    devices: tuple[int, ...]
    fencing_token: int
    granted_at: datetime | None
    expires_at: datetime | None
    ends_at: datetime | None
    index: int

    def __init__(self, manager: SyncResourceManager, allocation: Allocation) -> None:
        """Made by SyncResourceManager."""
        self._manager = manager
        self.asynchronous = allocation

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asynchronous, name)

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    @property
    def members(self) -> tuple[SyncAllocation, ...]:
        """See Allocation.members."""
        return tuple(SyncAllocation(self._manager, each) for each in self.asynchronous.members)

    def renew(self, extension: Length | None = None) -> None:
        """See Allocation.renew."""
        self._manager.run(self.asynchronous.renew(extension))

    def resize(self, resources: Mapping[str, Amount]) -> None:
        """See Allocation.resize."""
        self._manager.run(self.asynchronous.resize(resources))

    def release(self) -> None:
        """See Allocation.release."""
        self._manager.run(self.asynchronous.release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.run(self.asynchronous.__aexit__(kind, error, traceback))


class SyncReservation:
    """A Reservation whose `cancel` blocks."""

    success: bool
    reason: str
    refusal: Refusal | None
    id: int
    state: str
    workflow_id: str
    priority: Priority
    resources: dict[str, int | float]
    node_id: str
    suppliers: Mapping[str, str]
    start_time: datetime | None
    end_time: datetime | None

    def __init__(self, manager: SyncResourceManager, reservation: Reservation) -> None:
        """Made by SyncResourceManager."""
        self._manager = manager
        self.asynchronous = reservation

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asynchronous, name)

    def __repr__(self) -> str:
        return repr(self.asynchronous)

    def cancel(self) -> None:
        """See Reservation.cancel."""
        self._manager.run(self.asynchronous.cancel())
