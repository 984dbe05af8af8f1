"""Admin: the replicas themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.api.v1 import admin_pb2, types_pb2
from raftalloc.core import invariants, rejections
from raftalloc.core.commands import SwitchRules
from raftalloc.core.state import RULES_VERSION
from raftalloc.errors import InvalidRequest, Rejected
from raftalloc.server import checks, convert
from raftalloc.server.servicers.replicas import ReplicasServicer
from raftalloc.server.status import NO_OTHER_REPLICA

if TYPE_CHECKING:
    from raftalloc.config import Config
    from raftalloc.ports import Clock, Consensus, EventReader
    from raftalloc.server.leadership import Leadership
    from raftalloc.server.rpc import Call
    from raftalloc.server.servicers.writes import Writer
    from raftalloc.service.engine import Engine
    from raftalloc.service.gossip import Gossip


class AdminServicer(ReplicasServicer):
    """See protos/raftalloc/api/v1/admin.proto."""

    def __init__(
        self,
        *,
        config: Config,
        engine: Engine,
        store: EventReader,
        consensus: Consensus,
        leadership: Leadership,
        gossip: Gossip,
        writer: Writer,
        clock: Clock,
        version: str,
    ) -> None:
        """`version`: of this software."""
        self._config = config
        self._engine = engine
        self._store = store
        self._consensus = consensus
        self._leadership = leadership
        self._gossip = gossip
        self._writer = writer
        self._clock = clock
        self._version = version
        self._started = clock.monotonic()

    async def Status(
        self, request: admin_pb2.StatusRequest, call: Call
    ) -> admin_pb2.StatusResponse:
        """This replica, whoever leads."""
        convert.no_surplus(request)
        lowest, stored = await self._store.bounds()
        # From here on nothing is awaited: all figures are of the same moment.
        engine, state, consensus = self._engine, self._engine.state, self._consensus
        leadership, digests = self._leadership, self._gossip.digests
        response = admin_pb2.StatusResponse(
            replica_id=leadership.replica_id,
            cluster_id=self._config.cluster_id,
            address=leadership.own_address,
            http_address=self._http_address(),
            role=consensus.role,
            leader_id=consensus.leader_id,
            leader_address=leadership.leader_address,
            term=consensus.term,
            commit_index=consensus.commit_index,
            applied_index=consensus.applied_index,
            stored_index=stored,
            lowest_index=lowest,
            snapshot_index=engine.snapshot_index,
            clock_ms=state.now_ms,
            chain_digest=engine.chain.hex(),
            digest_index=engine.index,
            allocations_live=state.live_count(),
            requests_waiting=state.waiting_count(),
            nodes_total=state.node_count(),
            rules_version=state.rules_version,
            version=self._version,
            uptime_ms=int((self._clock.monotonic() - self._started) * 1000),
            replicas=self._replicas(),
            grants_total=state.token,
            divergence="" if digests.divergence is None else str(digests.divergence),
            agreed_index=digests.agreed_index,
            differing=sorted(digests.differing),
            rules_supported=RULES_VERSION,
        )
        if request.with_digest:
            index, chain, content = engine.digests()
            broken = invariants.check(state)
            response.digest_index, response.chain_digest = index, chain
            response.content_digest = content
            response.invariants = broken[0] if broken else "ok"
        return response

    async def TransferLeadership(
        self, request: admin_pb2.TransferLeadershipRequest, call: Call
    ) -> admin_pb2.TransferLeadershipResponse:
        """Stand back in favour of another replica."""
        convert.no_surplus(request)
        others = [
            seat.replica_id
            for seat in self._consensus.members
            if seat.is_voter and seat.replica_id != self._leadership.replica_id
        ]
        if not others:
            raise Rejected(
                NO_OTHER_REPLICA, "this replica is alone", remedy="nobody could take the lead over"
            )
        wanted = checks.name("to_replica_id", request.to_replica_id)
        if wanted and wanted not in others:
            problem = f"{checks.shown(wanted)} is not one of the others"
            raise InvalidRequest("to_replica_id", problem, f"there are {', '.join(others)}")
        leader_id = await self._consensus.transfer(wanted)
        return admin_pb2.TransferLeadershipResponse(leader_id=leader_id)

    async def ReadState(
        self, request: admin_pb2.ReadStateRequest, call: Call
    ) -> admin_pb2.ReadStateResponse:
        """A part of a past state; with a moment the call goes to a reader (server/still.py), and never comes here."""
        raise InvalidRequest("at_index", "is missing", "name the index, or at_time_ms")

    async def Snapshot(
        self, request: admin_pb2.SnapshotRequest, call: Call
    ) -> admin_pb2.SnapshotResponse:
        """Write a state snapshot now."""
        convert.no_surplus(request)
        index, path, size = await self._engine.snapshot()
        return admin_pb2.SnapshotResponse(index=index, path=path, bytes=size)

    async def RaiseRules(
        self, request: admin_pb2.RaiseRulesRequest, call: Call
    ) -> admin_pb2.RaiseRulesResponse:
        """Switch to newer rules, once everybody knows them. Repeating it does no harm."""
        convert.no_surplus(request)
        version = request.version
        if version < 1:
            raise InvalidRequest("version", f"{version}", "name rules from 1 on")
        own = self._leadership.replica_id
        members = (seat.replica_id for seat in self._consensus.members)
        others = (name for name in members if name != own)
        lacking = self._gossip.without_rules(version, others)
        if version > RULES_VERSION:
            lacking.insert(0, own)
        if lacking:
            raise Rejected(
                rejections.RULES_UNKNOWN,
                f"rules version {version} is not known to {', '.join(lacking)}, or they have not said so yet",
                field="version",
                remedy="have every replica up, in a version that knows these rules",
            )
        outcome = await self._writer.done(SwitchRules(version), types_pb2.Idempotency(), call)
        return admin_pb2.RaiseRulesResponse(
            rules_version=self._engine.state.rules_version, index=outcome.index
        )

    def _http_address(self) -> str:
        for replica in self._config.replicas:
            if replica.replica_id == self._leadership.replica_id:
                return str(replica.http)
        return ""

    def _replicas(self) -> list[admin_pb2.Replica]:
        own = self._leadership.replica_id
        members = self._leadership.addresses.items()
        return [
            admin_pb2.Replica(replica_id=each, address=address, self=each == own)
            for each, address in members
        ]
