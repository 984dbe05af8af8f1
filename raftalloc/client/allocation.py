"""What ResourceManager gives to a caller that asked: an Allocation to use, renew and release."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import allocator_pb2, types_pb2
from raftalloc.client.quantities import Amount, amounts_of, vector_of
from raftalloc.client.requests import Priority
from raftalloc.client.results import Refusal
from raftalloc.client.times import Length, length_ms, moment_of
from raftalloc.client.waiting import release_message
from raftalloc.errors import InvalidRequest, RaftallocError, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

    from raftalloc.client.client import Client
    from raftalloc.client.keepalive import KeepAlive

ENDED_CODES: Final = ("ALREADY_ENDED", "LEASE_EXPIRED", "UNKNOWN_ALLOCATION")

_log = logging.getLogger(__name__)


class Allocation:
    """The answer to a request: what was granted, or why nothing was.

    success: whether there is a grant. reason: empty, or why not (or not all of it), with numbers; `refusal` has them
    apart. id, node_id, allocated_resources ...: of the grant; 0, empty or None where there is none. With `count` above
    1 they are of the first member, and `members` are all of them. lost: why the group took one back, or None.

    As `async with` it is released at the end. It belongs to the manager that gave it.
    """

    def __init__(
        self,
        client: Client,
        keep_alive: KeepAlive,
        messages: Sequence[types_pb2.Allocation],
        *,
        refusal: Refusal | None = None,
        waited: float = 0.0,
    ) -> None:
        """Made by ResourceManager. `messages`: the live members. `waited`: seconds in the queue."""
        self._client = client
        self._keep_alive = keep_alive
        self._message = messages[0] if messages else types_pb2.Allocation()
        self._lost = asyncio.Event()
        self._released = False
        self.success = bool(messages)
        self.refusal = refusal
        self.reason = "" if refusal is None else str(refusal)
        self.waited = waited
        self.lost: RaftallocError | None = None
        if len(messages) > 1:
            members = [Allocation(client, keep_alive, [message]) for message in messages]
        else:
            members = [self] if messages else []
        self.members: tuple[Allocation, ...] = tuple(members)

    @property
    def id(self) -> int:
        """0 where nothing was granted."""
        return self._message.id

    @property
    def request_id(self) -> int:
        """What its members have in common."""
        return self._message.request_id

    @property
    def agent_id(self) -> str:
        """The holder."""
        return self._message.agent_id

    @property
    def agent_type(self) -> str:
        """The quota it is charged to."""
        return self._message.agent_type

    @property
    def workflow_id(self) -> str:
        """What it is for."""
        return self._message.workflow_id

    @property
    def priority(self) -> Priority:
        """As asked."""
        return Priority(self._message.priority or Priority.MEDIUM)

    @property
    def allocated_resources(self) -> dict[str, int | float]:
        """Whole units by kind; empty where nothing was granted."""
        return amounts_of(self._message.resources)

    @property
    def node_id(self) -> str:
        """The node that gives what lives on nodes; empty where only providers serve it."""
        return self._message.node_id

    @property
    def suppliers(self) -> Mapping[str, str]:
        """By kind the node or provider that gives it."""
        return dict(self._message.suppliers)

    @property
    def devices(self) -> tuple[int, ...]:
        """Numbers of the GPUs on the node."""
        return tuple(self._message.devices)

    @property
    def fencing_token(self) -> int:
        """Rises with every grant of the group: hand it to what you write to, which refuses lower ones."""
        return self._message.fencing_token

    @property
    def granted_at(self) -> datetime | None:
        """In the group's clock."""
        return moment_of(self._message.granted_ms)

    @property
    def expires_at(self) -> datetime | None:
        """When the lease ends unless renewed; None: no lease."""
        return moment_of(self._message.expires_ms)

    @property
    def ends_at(self) -> datetime | None:
        """When the duration ends; None: until released."""
        return moment_of(self._message.ends_ms)

    @property
    def index(self) -> int:
        """Log index of the grant."""
        return self._message.index

    def __repr__(self) -> str:
        if not self.success:
            return f"Allocation(success=False, reason={self.reason!r})"
        where = self.node_id or ",".join(sorted(set(self._message.suppliers.values())))
        return f"Allocation(id={self.id}, on={where!r}, {self.allocated_resources})"

    async def renew(self, extension: Length | None = None) -> None:
        """Extend the lease to now + lease_ttl, and the duration by `extension`; of every member. Raises Rejected."""
        extension_ms = length_ms(extension, field="extension")
        if not self.success:
            raise InvalidRequest("allocation", f"was not granted: {self.reason}", "check `success`")
        for member in self.members:
            request = allocator_pb2.RenewRequest(
                allocation_id=member.id,
                fencing_token=member.fencing_token,
                agent_id=member.agent_id,
                extension_ms=extension_ms,
            )
            member._renewed((await self._client.allocator.renew(request)).allocation)

    async def resize(self, resources: Mapping[str, Amount]) -> None:
        """Hold this instead, every member, where it is: a member all of it or nothing. Raises Rejected (why not)."""
        wanted = vector_of(resources)
        if not self.success:
            raise InvalidRequest("allocation", f"was not granted: {self.reason}", "check `success`")
        for member in self.members:
            request = allocator_pb2.ResizeRequest(
                allocation_id=member.id,
                fencing_token=member.fencing_token,
                agent_id=member.agent_id,
                resources=wanted,
            )
            member._renewed((await self._client.allocator.resize(request)).allocation)

    async def release(self) -> None:
        """Give it back, every member; nothing to do where there is no grant, or it was released.

        Raises Rejected where the group ended it before (LEASE_EXPIRED, ALREADY_ENDED): it was no longer ours to use.
        """
        failed: Rejected | None = None
        for member in self.members:
            try:
                await member._release_one()
            except Rejected as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def wait_lost(self) -> RaftallocError:
        """Returns when the keep-alive hears that the group took it back; never for what has no lease."""
        await self._lost.wait()
        assert self.lost is not None
        return self.lost

    def keep(self) -> None:
        """Renew the leases of all members from now on. The manager calls it."""
        for member in self.members:
            self._keep_alive.keep(
                member._message, renewed=member._renewed, lost=partial(self._was_lost, member)
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except Rejected as rejected:
            if rejected.code not in ENDED_CODES:
                raise
            _log.warning("allocation %d had ended before its holder: %s", self.id, rejected)

    async def _release_one(self) -> None:
        """This member."""
        if self._released:
            return
        self._keep_alive.drop(self.id)
        try:
            await self._client.allocator.release(release_message(self._message))
        except Rejected as error:
            self._released = error.code in ENDED_CODES
            raise
        self._released = True

    def _renewed(self, message: types_pb2.Allocation) -> None:
        """The lease as it is now."""
        self._message = message

    def _was_lost(self, member: Allocation, error: RaftallocError) -> None:
        """The keep-alive was told so of a member, which may be all there is."""
        for each in {member, self}:
            each.lost = each.lost or error
            each._lost.set()
