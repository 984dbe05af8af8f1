"""NodeAgent: keeps this machine in the fleet as a node, for as long as it runs.

It registers what `machine.discover` finds, heartbeats three times within the group's timeout, registers again when the
group no longer knows the node or the machine has changed, and never gives up: while no leader answers it goes on
trying, and the group counts nobody as lost for the time that it had no leader.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from raftalloc.agent.machine import Machine, discover
from raftalloc.api.v1 import fleet_pb2
from raftalloc.client.names import check_name
from raftalloc.errors import InvalidRequest, OutcomeUnknown, RaftallocError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.client.client import Client

HEARTBEATS_PER_TIMEOUT: Final = 3
INTERVAL_S_MIN: Final = 0.05
DISCOVER_EVERY_S: Final = 60.0

_log = logging.getLogger(__name__)


class NodeAgent:
    """One machine, through one client. `start` and `stop` once each."""

    def __init__(
        self,
        client: Client,
        *,
        node_id: str = "",
        attributes: Mapping[str, str] | None = None,
        capacity: Mapping[str, int] | None = None,
        find: Callable[[], Machine] = discover,
    ) -> None:
        """`node_id`: default the machine's name. `attributes`, `capacity` (canonical units) go over what is found."""
        self._client = client
        self._given_id = check_name(node_id, field="node_id", optional=True)
        self._attributes = {
            check_name(key, field="attributes"): check_name(
                value, field=f"attributes.{key}", optional=True
            )
            for key, value in (attributes or {}).items()
        }
        self._capacity = dict(capacity or {})
        self._find = find
        self._registered: fleet_pb2.RegisterNodeRequest | None = None
        self._interval_s = INTERVAL_S_MIN
        self._task: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> str:
        """The node; empty before `start`."""
        return self._registered.node_id if self._registered is not None else ""

    async def start(self) -> None:
        """Register, then heartbeat in the background. Raises Rejected, InvalidRequest, Unavailable."""
        if self._task is not None:
            raise InvalidRequest("NodeAgent", "was started before", "make another one")
        await self.register()
        self._task = asyncio.create_task(self._run(), name=f"node-agent-{self.node_id}")

    async def stop(self) -> None:
        """Send no more heartbeats."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self) -> None:
        """Until it is stopped, or ends since the group refuses the node."""
        task = self._task
        if task is not None:
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def register(self) -> None:
        """Tell the group what this machine has now."""
        request = self.request_of(await asyncio.to_thread(self._find))
        answer = await self._client.fleet.register_node(request)
        self._registered = request
        timeout_s = answer.heartbeat_timeout_ms / 1000
        self._interval_s = max(timeout_s / HEARTBEATS_PER_TIMEOUT, INTERVAL_S_MIN)
        _log.info("registered as node %s with %s", request.node_id, dict(request.capacity))

    def request_of(self, machine: Machine) -> fleet_pb2.RegisterNodeRequest:
        """What is registered for a machine."""
        capacity = {**machine.capacity, **self._capacity}
        return fleet_pb2.RegisterNodeRequest(
            node_id=self._given_id or machine.name,
            capacity={kind: units for kind, units in capacity.items() if units > 0},
            devices=machine.devices,
            attributes={**machine.attributes, **self._attributes},
        )

    async def _run(self) -> None:
        """Heartbeat until stopped."""
        loop = asyncio.get_running_loop()
        look_at = loop.time() + DISCOVER_EVERY_S
        silent = False
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                if loop.time() >= look_at:
                    look_at = loop.time() + DISCOVER_EVERY_S
                    await self._register_if_changed()
                await self._heartbeat()
            except (Unavailable, OutcomeUnknown) as error:
                if not silent:  # once per outage
                    _log.warning("no heartbeat of node %s: %s", self.node_id, error)
                silent = True
            except RaftallocError:
                _log.exception("the group refuses node %s", self.node_id)
                raise
            else:
                if silent:
                    _log.info("node %s is heard again", self.node_id)
                silent = False

    async def _heartbeat(self) -> None:
        """Say that the node lives; register it where nobody knows it."""
        request = fleet_pb2.HeartbeatRequest(node_ids=[self.node_id])
        answer = await self._client.fleet.heartbeat(request)
        if answer.unknown_node_ids:
            _log.warning("node %s is not known any more: registering it again", self.node_id)
            await self.register()

    async def _register_if_changed(self) -> None:
        """A machine may get more memory, or its control group less."""
        request = self.request_of(await asyncio.to_thread(self._find))
        if request != self._registered:
            await self.register()
