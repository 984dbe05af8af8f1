from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from raftalloc.agent.__main__ import main
from raftalloc.agent.machine import Machine
from raftalloc.agent.node import NodeAgent
from raftalloc.api.v1 import fleet_pb2
from raftalloc.cli.group import LocalGroup
from raftalloc.client.client import Client
from raftalloc.errors import InvalidRequest, NoLeader, RaftallocError, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from google.protobuf.message import Message

    from tests.conftest import Run

MACHINE = Machine("host", {"cpu": 4000, "memory": 1024}, ("A100",), {"os": "linux"})


class FakeFleet:
    """A Transport to a group that knows what it is told, or fails with what is next in `faults`."""

    def __init__(self) -> None:
        self.registered: list[fleet_pb2.RegisterNodeRequest] = []
        self.heartbeats: asyncio.Queue[str] = asyncio.Queue()
        self.unknown = False
        self.faults: list[RaftallocError] = []

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Any],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> tuple[Any, Mapping[str, str | bytes]]:
        if method.endswith("OpenSession"):
            return response_type(session=1), {}
        if self.faults:
            raise self.faults.pop(0)
        if isinstance(request, fleet_pb2.RegisterNodeRequest):
            request.ClearField("idempotency")
            self.registered.append(request)
            self.unknown = False
            return response_type(heartbeat_timeout_ms=60), {}
        assert isinstance(request, fleet_pb2.HeartbeatRequest)
        self.heartbeats.put_nowait(request.node_ids[0])
        return response_type(unknown_node_ids=request.node_ids if self.unknown else []), {}

    def stream(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError

    duplex = stream

    async def close(self) -> None:
        """Nothing is open."""

    async def heard(self, count: int) -> None:
        for _ in range(count):
            await asyncio.wait_for(self.heartbeats.get(), 5)


def test_an_agent_registers_what_it_finds_and_heartbeats(run: Run) -> None:
    async def scene() -> None:
        fleet = FakeFleet()
        agent = NodeAgent(
            Client(transport=fleet),
            attributes={"zone": "a"},
            capacity={"disk": 2048, "memory": 0},
            find=lambda: MACHINE,
        )
        assert agent.node_id == ""
        await agent.start()
        assert agent.node_id == "host"
        assert fleet.registered == [
            fleet_pb2.RegisterNodeRequest(
                node_id="host",
                capacity={"cpu": 4000, "disk": 2048},
                devices=["A100"],
                attributes={"os": "linux", "zone": "a"},
            )
        ]
        await fleet.heard(3)
        await agent.stop()
        assert len(fleet.registered) == 1

    run(scene())


def test_an_agent_that_nobody_knows_any_more_registers_again(run: Run) -> None:
    async def scene() -> None:
        fleet = FakeFleet()
        agent = NodeAgent(Client(transport=fleet), node_id="n", find=lambda: MACHINE)
        await agent.start()
        fleet.unknown = True
        await fleet.heard(3)
        await agent.stop()
        assert [each.node_id for each in fleet.registered] == ["n", "n"]

    run(scene())


def test_an_agent_outlives_an_outage_and_says_so_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        fleet = FakeFleet()
        client = Client(transport=fleet, timeout=0.05)
        agent = NodeAgent(client, find=lambda: MACHINE)
        await agent.start()
        fleet.faults = [NoLeader("none")] * 20
        await fleet.heard(2)
        await agent.stop()
        assert len([each for each in caplog.records if "no heartbeat" in each.message]) == 1

    run(scene())


def test_an_agent_whose_node_is_refused_ends(run: Run) -> None:
    async def scene() -> None:
        fleet = FakeFleet()
        agent = NodeAgent(Client(transport=fleet), find=lambda: MACHINE)
        await agent.start()
        fleet.faults = [Rejected("LIMIT_REACHED", "too many")]
        with pytest.raises(Rejected):
            await asyncio.wait_for(agent.wait(), 5)
        await agent.stop()
        fleet.faults = [Rejected("LIMIT_REACHED", "too many")]
        with pytest.raises(Rejected):
            await NodeAgent(Client(transport=fleet), find=lambda: MACHINE).start()

    run(scene())


def test_a_machine_that_changed_is_registered_anew(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftalloc.agent.node.DISCOVER_EVERY_S", 0.0)

    async def scene() -> None:
        found = [MACHINE]
        fleet = FakeFleet()
        agent = NodeAgent(Client(transport=fleet), find=lambda: found[0])
        await agent.start()
        await fleet.heard(2)
        found[0] = Machine("host", {"cpu": 2000})
        await fleet.heard(3)
        await agent.stop()
        assert [dict(each.capacity)["cpu"] for each in fleet.registered] == [4000, 2000]

    run(scene())


@pytest.mark.parametrize("node_id", ["a\nb", "x" * 300])
def test_a_name_that_is_none_is_refused(node_id: str) -> None:
    with pytest.raises(InvalidRequest, match="node_id"):
        NodeAgent(Client(transport=FakeFleet()), node_id=node_id)


def test_show_prints_what_would_be_registered(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--show", "--node-id", "me", "--attribute", "zone=a", "--capacity", "disk=1.5"]
    assert main([*arguments, "--capacity", "network=0"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["node_id"] == "me"
    assert shown["capacity"]["disk"] == "1536"
    assert "network" not in shown["capacity"]
    assert shown["attributes"]["zone"] == "a"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--show", "--capacity", "disk"], "write --capacity key=value"),
        (["--show", "--capacity", "disks=4"], "no resource kind"),
        (["--show", "--capacity", "cpu=-4"], "too little"),
        (["--endpoints", "nowhere"], "no address"),
    ],
)
def test_wrong_arguments_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.cluster
def test_the_agent_as_a_process_keeps_its_node_ready_until_it_is_told_to_stop(
    run: Run, tmp_path: Path
) -> None:
    group = LocalGroup.create(
        tmp_path, replicas=1, any_ports=True, settings={"fleet": {"heartbeat_timeout_ms": 1000}}
    )

    async def state(client: Client) -> str:
        nodes = (await client.fleet.list_nodes()).nodes
        return fleet_pb2.Node.State.Name(nodes[0].state) if nodes else ""

    async def until(client: Client, wanted: str) -> None:
        for _ in range(300):
            if await state(client) == wanted:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never {wanted}, but {await state(client)}")

    async def scene() -> None:
        await group.wait_leader()
        endpoints = ",".join(group.endpoints)
        command = ["-m", "raftalloc.agent", "--endpoints", endpoints, "--node-id", "box"]
        environment = {**os.environ, "RAFTALLOC_TLS_DIRECTORY": group.config.tls.directory}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=subprocess.DEVNULL, env=environment
        )
        async with Client(group.endpoints, tls=group.tls) as client:
            await until(client, "STATE_READY")
            await asyncio.sleep(2)
            assert await state(client) == "STATE_READY"
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 10) == 0
            await until(client, "STATE_LOST")
        await group.close()

    group.start()
    try:
        run(scene(), timeout=60)
    finally:
        run(group.stop())
