"""Three replicas of this process with real gRPC ports; Raft between them needs no sockets here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import (  # type: ignore[import-untyped]  # ships no types
    health_pb2,
    health_pb2_grpc,
)
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]  # ships no types
    reflection_pb2,
    reflection_pb2_grpc,
)

from raftalloc.api.v1 import admin_pb2, allocator_pb2, events_pb2, simulation_pb2, usage_pb2
from raftalloc.client.transport import GrpcTransport
from raftalloc.config import load_config
from raftalloc.errors import InvalidRequest, NoLeader, OutcomeUnknown, Rejected, Unavailable
from raftalloc.raft.local import LocalNetwork
from raftalloc.server.composition import RunningReplica, open_replica
from raftalloc.server.grpc_server import GrpcServer
from raftalloc.server.parts import system_ports
from raftalloc.server.rpc import SERVICES
from raftalloc.system import SystemClock
from tests.server.asking import allocate_request, ask, ask_all, register

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from raftalloc.config import Config
    from tests.conftest import Run

MESSAGE_BYTES = 1 << 20
Bytes = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of; the test's own timeout bounds it."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


@dataclass
class Member:
    replica: RunningReplica
    server: GrpcServer
    transport: GrpcTransport
    address: str

    async def close(self) -> None:
        await self.transport.close()
        self.replica.end_streams()
        await self.server.stop(0)
        await self.replica.close()


@dataclass
class Group:
    members: list[Member]

    async def leader(self) -> Member:
        """The one that takes commands, once there is one."""
        await until(lambda: any(member.replica.sample().is_leader for member in self.members))
        return next(member for member in self.members if member.replica.sample().is_leader)

    async def followers(self) -> list[Member]:
        """The others, once they know who leads."""
        leader = await self.leader()
        found = [member for member in self.members if member is not leader]
        await until(lambda: not any(member.replica.ready() for member in found))
        return found


def configured(path: Path, ports: Sequence[int]) -> Config:
    text = '[cluster]\nid = "t"\n[storage]\nevent_store = "inline"\n[tls]\nmode = "off"\n'
    text += f"[limits]\nmessage_bytes = {MESSAGE_BYTES}\n"
    for row in range(3):
        text += f"[replicas.n{row}]\n"
        for name, port in zip(("grpc", "raft", "http"), ports[3 * row :], strict=False):
            text += f'{name} = "127.0.0.1:{port}"\n'
    (path / "cluster.toml").write_text(text)
    return load_config(path / "cluster.toml", {})


@asynccontextmanager
async def group(path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Group]:
    config = configured(path, free_ports(9))
    clock = SystemClock()
    ports = system_ports(clock=clock, net=LocalNetwork(clock))
    fatal: list[BaseException] = []
    async with AsyncExitStack() as opened:
        members = []
        for replica in config.replicas:
            running = await open_replica(
                config,
                replica.replica_id,
                ports=ports,
                directory=config.data_directory(replica.replica_id),
                on_fatal=fatal.append,
            )
            server = GrpcServer(running.backend, message_bytes=config.limits.message_bytes)
            await server.start(replica.grpc)
            address = str(replica.grpc)
            member = Member(running, server, GrpcTransport(address), address)
            opened.push_async_callback(member.close)
            members.append(member)
        yield Group(members)
    assert fatal == []


def test_a_follower_hands_on_to_the_leader_and_names_it(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0]
            leader = await all_three.leader()
            await register(follower.transport)
            answer, trailing = await ask_all(
                follower.transport, "Allocator/Allocate", allocate_request()
            )
            assert answer.granted.allocations[0].node_id == "n1"
            assert trailing["raftalloc-leader"] == leader.address
            assert trailing["raftalloc-index"] == str(answer.index)
            got = await ask(
                follower.transport,
                "Allocator/Get",
                allocator_pb2.GetRequest(id=answer.granted.allocations[0].id),
            )
            assert got.allocation == answer.granted.allocations[0]

    run(scene())


def test_what_was_forwarded_once_is_not_forwarded_again(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0]
            with pytest.raises(Unavailable, match="not the leader"):
                await ask(
                    follower.transport, "Allocator/Allocate", allocate_request(), raftalloc_hop="1"
                )

    run(scene())


def test_the_leaders_refusals_come_through_a_follower_whole(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0].transport
            with pytest.raises(InvalidRequest) as invalid:
                await ask(follower, "Allocator/Allocate", allocate_request(agent_id=""))
            assert (invalid.value.field, invalid.value.problem) == ("agent_id", "is missing")
            assert invalid.value.remedy
            release = allocator_pb2.ReleaseRequest(allocation_id=77, fencing_token=1, agent_id="a")
            with pytest.raises(Rejected) as rejected:
                await ask(follower, "Allocator/Release", release)
            assert rejected.value.code == "UNKNOWN_ALLOCATION"

    run(scene())


def test_a_stale_read_is_answered_where_it_was_asked(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0]
            leader = await all_three.leader()
            await register(follower.transport)
            request = usage_pb2.UtilizationRequest()
            await ask(follower.transport, "Usage/Utilization", request, raftalloc_read="any")
            await ask(follower.transport, "Usage/Utilization", request)
            counted = follower.replica.metrics.render().decode()
            assert 'forwarded_total{method="Usage/Utilization"} 1.0' in counted
            answered = leader.replica.metrics.render().decode()
            assert 'rpcs_total{code="OK",method="Usage/Utilization"} 1.0' in answered

    run(scene())


def test_any_replica_answers_of_the_past_and_what_if_is_what_then_happens(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0].transport
            await register(follower)
            step = simulation_pb2.WhatIfStep(allocate=allocate_request(resources={"cpu": 5_000}))
            tried = await ask(
                follower, "Simulation/WhatIf", simulation_pb2.WhatIfRequest(steps=[step, step])
            )
            done = [
                await ask(follower, "Allocator/Allocate", step.allocate) for _ in tried.outcomes
            ]
            for outcome, answer in zip(tried.outcomes, done, strict=True):
                assert outcome.allocated.WhichOneof("outcome") == answer.WhichOneof("outcome")
                assert outcome.allocated.rejected == answer.rejected
            node = done[0].granted.allocations[0].node_id
            assert tried.outcomes[0].allocated.granted.allocations[0].node_id == node
            index = done[0].index
            await until(
                lambda: all(
                    each.replica.sample().stored_index >= index for each in all_three.members
                )
            )
            then = [
                await ask(
                    each.transport, "Allocator/List", allocator_pb2.ListRequest(at_index=index)
                )
                for each in all_three.members
            ]
            assert [len(each.allocations) for each in then] == [1, 1, 1]
            assert then[0] == then[1] == then[2]

    run(scene(), timeout=60)


def test_a_stream_of_requests_goes_through_a_follower_in_order(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def requests() -> AsyncIterator[allocator_pb2.AllocateRequest]:
        for row in range(50):
            yield allocate_request(agent_id=f"a_{row}", resources={"cpu": 1})

    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0].transport
            await register(follower)
            agents = [
                answer.granted.allocations[0].agent_id
                async for answer in follower.duplex(
                    "/raftalloc.api.v1.Allocator/AllocateStream",
                    requests(),
                    allocator_pb2.AllocateResponse,
                )
            ]
            assert agents == [f"a_{row}" for row in range(50)]

    run(scene())


def test_when_the_leader_goes_another_takes_over_and_nothing_is_lost(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0].transport
            await register(follower)
            held = await ask(follower, "Allocator/Allocate", allocate_request())
            leader = await all_three.leader()
            all_three.members.remove(leader)
            await leader.close()
            while True:
                try:
                    answer = await ask(follower, "Allocator/Allocate", allocate_request())
                    break
                except (NoLeader, OutcomeUnknown):
                    await asyncio.sleep(0.02)
            first, second = held.granted.allocations[0], answer.granted.allocations[0]
            assert second.fencing_token > first.fencing_token
            got = await ask(follower, "Allocator/Get", allocator_pb2.GetRequest(id=first.id))
            assert got.allocation == first
            digests = set()
            for member in all_three.members:
                status = await self_status(member, answer.index)
                digests.add((status.digest_index, status.chain_digest, status.content_digest))
            assert len(digests) == 1

    run(scene(), timeout=60)


async def drained(stream: AsyncIterator[events_pb2.WatchResponse]) -> None:
    async for _ in stream:
        continue


async def self_status(member: Member, index: int) -> admin_pb2.StatusResponse:
    """A member's own digests, once it has applied `index` and stands still."""
    request = admin_pb2.StatusRequest(with_digest=True)
    while True:
        status = await ask(member.transport, "Admin/Status", request)
        assert isinstance(status, admin_pb2.StatusResponse)
        if status.applied_index >= index:
            return status
        await asyncio.sleep(0.02)


def test_the_lead_is_handed_over_on_request(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0]
            wanted = follower.replica.replica_id
            request = admin_pb2.TransferLeadershipRequest(to_replica_id=wanted)
            answer = await ask(follower.transport, "Admin/TransferLeadership", request)
            assert answer.leader_id == wanted
            await until(lambda: follower.replica.sample().is_leader)
            unknown = admin_pb2.TransferLeadershipRequest(to_replica_id="n9")
            with pytest.raises(InvalidRequest, match="there are n"):
                await ask(follower.transport, "Admin/TransferLeadership", unknown)

    run(scene())


def test_a_watcher_of_a_replica_that_goes_down_hears_that_it_may_go_on_elsewhere(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            follower = (await all_three.followers())[0]
            await register((await all_three.leader()).transport)
            stream = follower.transport.stream(
                "/raftalloc.api.v1.Events/Watch",
                events_pb2.WatchRequest(from_index=1),
                events_pb2.WatchResponse,
            )
            assert (await anext(stream)).events
            follower.replica.end_streams()
            with pytest.raises(Unavailable, match="goes down"):
                await drained(stream)

    run(scene())


def test_a_message_that_is_too_large_or_none_of_ours_is_refused(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            leader = await all_three.leader()
            async with grpc.aio.insecure_channel(leader.address) as channel:
                send: Bytes = channel.unary_unary("/raftalloc.api.v1.Allocator/Allocate")
                for data, code in (
                    (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
                    (b"\x0a" + b"\xff" * (2 * MESSAGE_BYTES), grpc.StatusCode.RESOURCE_EXHAUSTED),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await send(data, timeout=10)
                    assert caught.value.code() is code
                unknown: Bytes = channel.unary_unary("/raftalloc.api.v1.Allocator/Nothing")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await unknown(b"", timeout=10)
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(scene())


def test_health_and_reflection_speak_for_every_service(
    tmp_path: Path, run: Run, free_ports: Callable[[int], list[int]]
):
    async def scene() -> None:
        async with group(tmp_path, free_ports) as all_three:
            member = all_three.members[0]
            async with grpc.aio.insecure_channel(member.address) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for serving in (False, True):
                    await member.server.set_serving(serving=serving)
                    for name in ("", *SERVICES):
                        request = health_pb2.HealthCheckRequest(service=name)
                        answer = await health.Check(request, timeout=10)
                        assert answer.status == (1 if serving else 2), name
                assert await described(channel, "raftalloc.api.v1.Allocator") == "Allocator"

    run(scene())


async def described(channel: grpc.aio.Channel, symbol: str) -> str:
    """The name of the service that reflection finds under a symbol."""

    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)

    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    async for answer in stub.ServerReflectionInfo(requests(), timeout=10):
        data = answer.file_descriptor_response.file_descriptor_proto[0]
        return descriptor_pb2.FileDescriptorProto.FromString(data).service[0].name
    raise AssertionError("reflection says nothing")
