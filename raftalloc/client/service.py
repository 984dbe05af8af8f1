"""What the clients of all services have in common: a path, and reads of now and of the past."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

if TYPE_CHECKING:
    from raftalloc.client.calls import Caller

Answer = TypeVar("Answer", bound=Message)

PAGE_SIZE = 1000
PAST_TIMEOUT_S = 60.0
"""For a call about a moment of the past that gives no time: a replica may have to fold many entries first."""


class Service:
    """A service's path and the calls of its client."""

    path = ""

    def __init__(self, caller: Caller) -> None:
        """Made by Client."""
        self._caller = caller

    def _method(self, name: str) -> str:
        """`/raftalloc.api.v1.Allocator/Allocate`."""
        return f"/raftalloc.api.v1.{self.path}/{name}"

    async def _read(
        self,
        name: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        stale: bool = False,
    ) -> Answer:
        """A read of now; or, where the request names a moment of the past, of then, which any replica answers."""
        method = self._method(name)
        if not (request.at_index or request.at_time_ms):  # type: ignore[attr-defined]  # what comes here may be dated
            return await self._caller.read(
                method, request, response_type, timeout=timeout, stale=stale
            )
        seconds = PAST_TIMEOUT_S if timeout is None else timeout
        return await self._caller.aimed("", method, request, response_type, timeout=seconds)
