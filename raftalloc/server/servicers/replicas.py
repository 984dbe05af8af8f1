"""Admin, the part about members: who is in the group, and changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import admin_pb2
from raftalloc.errors import InvalidRequest
from raftalloc.ports import Seat
from raftalloc.server import checks, convert

if TYPE_CHECKING:
    from raftalloc.ports import Consensus
    from raftalloc.server.rpc import Call


REPLICA_ID_CHARACTERS_MAX: Final = 64
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class ReplicasServicer:
    """See protos/raftalloc/api/v1/admin.proto."""

    _consensus: Consensus

    async def ListReplicas(
        self, request: admin_pb2.ListReplicasRequest, call: Call
    ) -> admin_pb2.ListReplicasResponse:
        """The members, and how far each is."""
        convert.no_surplus(request)
        await self._consensus.read_index()
        consensus = self._consensus
        progress, last = consensus.progress(), consensus.commit_index
        return admin_pb2.ListReplicasResponse(
            members=[
                _member(seat, consensus.leader_id, progress.get(seat.replica_id, (last, 0.0)))
                for seat in consensus.members
            ],
            last_index=last,
        )

    async def AddReplica(
        self, request: admin_pb2.AddReplicaRequest, call: Call
    ) -> admin_pb2.AddReplicaResponse:
        """One more."""
        convert.no_surplus(request)
        seat = Seat(
            replica_id=_replica_id(request.replica_id),
            raft=_address("raft_address", request.raft_address),
            grpc=_address("address", request.address),
            http=_address("http_address", request.http_address),
            is_voter=False,
            incarnation=b"",
        )
        return admin_pb2.AddReplicaResponse(index=await self._consensus.add_member(seat))

    async def RemoveReplica(
        self, request: admin_pb2.RemoveReplicaRequest, call: Call
    ) -> admin_pb2.RemoveReplicaResponse:
        """One less."""
        convert.no_surplus(request)
        index = await self._consensus.remove_member(_replica_id(request.replica_id))
        return admin_pb2.RemoveReplicaResponse(index=index)

    async def ReplaceReplica(
        self, request: admin_pb2.ReplaceReplicaRequest, call: Call
    ) -> admin_pb2.ReplaceReplicaResponse:
        """The same name, another data directory."""
        convert.no_surplus(request)
        index = await self._consensus.replace_member(_replica_id(request.replica_id))
        return admin_pb2.ReplaceReplicaResponse(index=index)


def _member(seat: Seat, leader_id: str, progress: tuple[int, float]) -> admin_pb2.Member:
    return admin_pb2.Member(
        replica_id=seat.replica_id,
        address=seat.grpc,
        raft_address=seat.raft,
        http_address=seat.http,
        voter=seat.is_voter,
        leader=seat.replica_id == leader_id,
        match_index=progress[0],
        heard_ms=int(progress[1] * 1000),
        incarnation=seat.incarnation.hex(),
    )


def _replica_id(text: str) -> str:
    name = checks.name("replica_id", text)
    if not name or len(name) > REPLICA_ID_CHARACTERS_MAX or not set(name) <= _PLAIN:
        raise InvalidRequest(
            "replica_id",
            f"{checks.shown(text)} is no plain name",
            "use letters, digits, - and _, as cluster.toml does",
        )
    return name


def _address(field: str, text: str) -> str:
    """host:port. Raises InvalidRequest."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535 or len(text) > 64:
        raise InvalidRequest(field, f"{checks.shown(text)} is not host:port", "name both")
    return text
