"""Who is let in, whose call it is, and certificates that change under a group of real processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from raftalloc.api.v1 import allocator_pb2, fleet_pb2
from raftalloc.cli.group import LocalGroup
from raftalloc.client.client import Client
from raftalloc.client.transport import GrpcTransport
from raftalloc.errors import Unauthenticated, Unavailable
from raftalloc.security.authority import Authority
from raftalloc.security.certificates import Pair, make_ca, make_end
from raftalloc.security.files import TlsFiles
from raftalloc.security.names import CLIENT, Identity
from tests.certificates import now_s

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Run

pytestmark = pytest.mark.cluster
ALLOCATE = "/raftalloc.api.v1.Allocator/Allocate"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGroup]:
    made = LocalGroup.create(tmp_path_factory.mktemp("tls"), any_ports=True)

    async def start() -> None:
        made.start()
        await made.wait_answering()
        await made.wait_leader()
        async with Client(made.endpoints, tls=made.tls) as client:
            node = fleet_pb2.RegisterNodeRequest(node_id="n", capacity={"cpu": 64_000}, static=True)
            await client.fleet.register_node(node)
        await made.close()

    try:
        asyncio.run(start())
        yield made
    finally:
        asyncio.run(made.stop())


def authority_of(group: LocalGroup) -> Authority:
    return Authority(group.config.tls.directory, group.config.cluster_id, now_s())


def files_of(group: LocalGroup, principal: str) -> TlsFiles:
    authority_of(group).client(principal)
    return TlsFiles.of_client(group.config.tls.directory, f"client-{principal}")


def asking() -> allocator_pb2.AllocateRequest:
    return allocator_pb2.AllocateRequest(agent_id="a", resources={"cpu": 1_000})


async def principal_at(
    group: LocalGroup, replica_id: str, tls: TlsFiles | None, metadata: tuple = ()
) -> str:
    transport = GrpcTransport(group.endpoint(replica_id), tls)
    try:
        answer, _ = await transport.unary(
            ALLOCATE, asking(), allocator_pb2.AllocateResponse, timeout=5.0, metadata=metadata
        )
    finally:
        await transport.close()
    return answer.granted.allocations[0].principal


def test_the_principal_is_the_name_in_the_certificate_at_every_replica(group: LocalGroup, run: Run):
    async def story() -> None:
        alice = files_of(group, "alice")
        for replica_id in group.replica_ids:
            assert await principal_at(group, replica_id, alice) == "alice"
            assert await principal_at(group, replica_id, group.tls) == "local"

    run(story())


def test_a_client_cannot_say_that_it_hands_on_somebody_elses_call(group: LocalGroup, run: Run):
    async def story() -> None:
        for replica_id in group.replica_ids:
            lie = (("raftalloc-principal", "alice"),)
            bob = files_of(group, "bob")
            assert await principal_at(group, replica_id, bob, lie) == "bob"

    run(story())


def test_a_replicas_certificate_hands_on_whose_call_it_is(group: LocalGroup, run: Run):
    async def story() -> None:
        leader = await group.wait_leader()
        replica = group.config.tls_files(leader)
        said = (("raftalloc-principal", "carol"),)
        assert await principal_at(group, leader, replica, said) == "carol"
        assert await principal_at(group, leader, replica) == leader
        await group.close()

    run(story())


def forged(group: LocalGroup, directory: Path, who: str) -> TlsFiles | None:
    """The files of somebody who is not to be let in."""
    if who == "plaintext":
        return None
    cluster_id = group.config.cluster_id
    own = authority_of(group).directory
    days, made = 30, now_s()
    if who == "expired":
        days, made = 1, now_s() - 10 * 86_400
    if who == "other group":
        cluster_id = "others"
    ca = make_ca("others", now_s=now_s(), days=1)
    if who != "other CA":
        ca = Pair((own / "ca.pem").read_bytes(), (own / "ca-key.pem").read_bytes())
    pair = make_end(ca, Identity(cluster_id, CLIENT, "eve"), addresses=(), now_s=made, days=days)
    (directory / "eve.pem").write_bytes(pair.certificate)
    (directory / "eve-key.pem").write_bytes(pair.key)
    return TlsFiles(str(own / "ca.pem"), str(directory / "eve.pem"), str(directory / "eve-key.pem"))


@pytest.mark.parametrize(
    ("who", "kind", "says"),
    [
        ("plaintext", Unavailable, "probably wants TLS"),
        ("other CA", Unavailable, r"probably does not take .*eve.pem"),
        ("expired", Unavailable, r"probably does not take .*eve.pem"),
        ("other group", Unauthenticated, "spiffe://raftalloc/others/client/eve; this is group"),
    ],
)
def test_who_is_not_let_in_hears_why(
    who: str, kind: type[Exception], says: str, group: LocalGroup, tmp_path: Path, run: Run
):
    async def story() -> None:
        with pytest.raises(kind, match=says):
            await principal_at(group, "n1", forged(group, tmp_path, who))

    run(story())


def test_a_client_with_another_ca_does_not_trust_the_replica(
    group: LocalGroup, tmp_path: Path, run: Run
):
    async def story() -> None:
        own = group.tls
        assert own is not None
        ca = tmp_path / "ca.pem"
        ca.write_bytes(make_ca("others", now_s=now_s(), days=1).certificate)
        wrong = TlsFiles(str(ca), own.certificate, own.key)
        with pytest.raises(Unavailable, match=r"its certificate is not of the CA in .*ca.pem"):
            await principal_at(group, "n1", wrong)

    run(story())


def test_strangers_who_say_nothing_are_closed_on_and_calls_go_on(group: LocalGroup, run: Run):
    async def story() -> None:
        host, port = group.endpoint("n1").rsplit(":", 1)
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        assert await principal_at(group, "n1", group.tls) == "local"
        async with asyncio.timeout(10):
            for reader, writer in silent:
                assert await reader.read() == b""
                writer.close()

    run(story())


async def certificate_at(address: str, ca: bytes, tls: TlsFiles) -> bytes:
    """Whether a new connection is taken with only this CA trusted."""
    pem = tls.read()
    credentials = grpc.ssl_channel_credentials(ca, pem.key, pem.certificate)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        await asyncio.wait_for(channel.channel_ready(), 5)
    return ca


def test_a_new_ca_and_new_certificates_are_taken_up_without_a_restart_and_nothing_is_lost(
    group: LocalGroup, run: Run
):
    async def story() -> None:
        own = group.tls
        assert own is not None
        authority = authority_of(group)
        pids = [group.pid(replica_id) for replica_id in group.replica_ids]
        granted: list[int] = []

        async def work(client: Client) -> None:
            while True:
                answer = await client.allocator.allocate(asking(), timeout=20.0)
                (allocation,) = answer.granted.allocations
                granted.append(allocation.id)
                release = allocator_pb2.ReleaseRequest(
                    allocation_id=allocation.id,
                    agent_id="a",
                    fencing_token=allocation.fencing_token,
                )
                await client.allocator.release(release, timeout=20.0)

        async with Client(group.endpoints, tls=own) as client:
            working = asyncio.create_task(work(client))
            authority.init(force=True)
            new_ca = authority.show()[0][1]
            assert new_ca.is_ca
            authority.everybody(group.config.tls_addresses(), force=True)
            assert authority.forget_old() == 1
            only_new = authority.ca_path.read_bytes()
            # A replica that is killed comes back, and every link of it is one of the new certificates.
            before = len(granted)
            leader = await group.wait_leader()
            victim = next(name for name in group.replica_ids if name != leader)
            await group.kill(victim)
            group.start(victim)
            await group.wait_answering(victim)
            for replica_id in group.replica_ids:
                await certificate_at(group.endpoint(replica_id), only_new, own)
            while len(granted) < before + 20:
                assert not working.done(), working.exception()
                await asyncio.sleep(0.02)
            working.cancel()
        assert len(set(granted)) == len(granted)
        survivors = [pid for pid in pids if pid in {group.pid(name) for name in group.replica_ids}]
        assert len(survivors) == 2, "the others were not restarted"
        leader = await group.wait_leader()
        statuses = await group.statuses()
        assert len({getattr(status, "leader_id", None) for status in statuses.values()}) == 1, (
            leader
        )
        await group.close()

    run(story(), timeout=60)
