"""A replica inside another process: no socket, no other process; durable in a directory.

replica = await open_embedded("./raftalloc-data")
client = Client(transport=replica.transport)
...
await replica.close()
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message

from raftalloc.config import embedded_config
from raftalloc.errors import OutcomeUnknown, RaftallocError, ReplicaFailed
from raftalloc.raft.local import LocalNetwork
from raftalloc.server.composition import open_replica
from raftalloc.server.parts import system_ports
from raftalloc.server.rpc import Call
from raftalloc.system import SystemClock
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from raftalloc.ports import Clock
    from raftalloc.server.backend import Backend
    from raftalloc.server.composition import RunningReplica
    from raftalloc.server.rpc import Rpc

Answer = TypeVar("Answer", bound=Message)

REPLICA_ID: Final = "local"
log = get_logger(__name__)


class EmbeddedReplica:
    """One replica in this process, on the event loop that opened it."""

    def __init__(self, replica: RunningReplica) -> None:
        """See open_embedded."""
        self._replica = replica
        self.transport = LocalTransport(replica.backend)

    @property
    def failure(self) -> BaseException | None:
        """What stopped it for good, if anything did; calls then raise ReplicaFailed."""
        return self._replica.failure

    async def close(self) -> None:
        """Let everything be written, and let go of the directory. May be called twice."""
        self._replica.end_streams()
        await self._replica.close()


async def open_embedded(data_dir: str | Path, *, clock: Clock | None = None) -> EmbeddedReplica:
    """Open the replica of this directory, making it where there is none; all that was granted before is there again.

    Raises DataDirectoryError (in use by another process, damaged, not ours), ConfigError (a RAFTALLOC_* variable).
    """
    config = embedded_config(data_dir)
    config = replace(config, storage=replace(config.storage, event_store="inline"))
    clock = clock or SystemClock()
    replica = await open_replica(
        config,
        REPLICA_ID,
        ports=system_ports(clock=clock, net=LocalNetwork(clock)),
        directory=config.storage.data_dir,
        on_fatal=_stopped,
    )
    try:
        await replica.led()
    except BaseException:
        await replica.close()
        raise
    return EmbeddedReplica(replica)


class LocalTransport:
    """The client's Transport (client/transport.py) to the replica of this process."""

    def __init__(self, backend: Backend) -> None:
        """Calls go straight to the servicers."""
        self._backend = backend

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Mapping[str, str | bytes]]:
        """One request, one answer, and the trailing metadata."""
        rpc = self._backend.rpcs[method]
        call = Call(metadata=dict(metadata), seconds=timeout)
        try:
            answer = await self._backend.unary_here(rpc, request, call)
        except Exception as error:
            raise _known(rpc, error) from error
        assert isinstance(answer, response_type), f"{method} answers {type(answer)}"
        return answer, call.trailing

    async def stream(
        self,
        method: str,
        request: Message,
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """One request, answers until either side ends it."""
        rpc = self._backend.rpcs[method]
        call = Call(metadata=dict(metadata), seconds=timeout)
        try:
            async with aclosing(self._backend.stream(rpc, request, call)) as answers:
                async for answer in answers:
                    assert isinstance(answer, response_type), f"{method} answers {type(answer)}"
                    yield answer
        except Exception as error:
            raise _known(rpc, error) from error

    async def duplex(
        self,
        method: str,
        requests: AsyncIterator[Message],
        response_type: type[Answer],
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> AsyncIterator[Answer]:
        """Requests as they come, answers as they come."""
        rpc = self._backend.rpcs[method]
        call = Call(metadata=dict(metadata), seconds=timeout)
        data = (request.SerializeToString() async for request in requests)
        try:
            async with aclosing(self._backend.duplex(data, call)) as answers:
                async for answer in answers:
                    yield response_type.FromString(answer)
        except Exception as error:
            raise _known(rpc, error) from error

    async def close(self) -> None:
        """Nothing: the replica is closed by whoever opened it."""


def _stopped(error: BaseException) -> None:
    log.error("the embedded replica has stopped", why=str(error))


def _known(rpc: Rpc, error: Exception) -> Exception:
    """What a Transport may raise."""
    if isinstance(error, RaftallocError):
        return error
    if isinstance(error, TimeoutError):
        return OutcomeUnknown(f"{rpc.name}: no answer in time")
    return ReplicaFailed(f"{rpc.name}: internal error: {error}")
