"""The Python surface as users see it: the lines of the design as they stand there, embedded and against a group."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raftalloc import (
    DataDirectoryError,
    InvalidRequest,
    Priority,
    ResourceManager,
    ResourceRequest,
    Unavailable,
)
from tests.manager.fleet import START, asks, furnish

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.cli.group import LocalGroup
    from tests.conftest import Run
    from tests.manager.conftest import Make


def test_the_lines_of_the_design_run_as_they_are_written(run: Run, make: Make) -> None:
    async def scene() -> None:
        manager = make()
        await manager.initialize()
        await furnish(manager)
        await manager.start_resource_tracking()

        allocation = await manager.allocate_resources(ResourceRequest(
            agent_id="policy_analyzer_01", workflow_id="compliance_audit_2024", priority=Priority.HIGH,
            resources={"cpu": 4, "memory": 8, "disk": 50, "api_quota": 1000}, duration=3600))  # fmt: skip
        assert allocation.success, allocation.reason
        assert allocation.allocated_resources == {
            "cpu": 4,
            "memory": 8,
            "disk": 50,
            "api_quota": 1000,
        }
        assert allocation.node_id in ("gpu-1", *await nodes(manager))
        assert allocation.reason == ""

        await manager.set_quota(
            agent_type="policy_analyzer", resources={"cpu": 16, "memory": 32, "api_quota": 10000}
        )
        usage = await manager.get_quota_usage("policy_analyzer")
        assert (usage.cpu.used, usage.cpu.limit) == (4, 16)
        assert (usage.api_quota.used, usage.api_quota.limit) == (1000, 10000)
        assert usage.gpu.limit is None

        r = await manager.reserve_resources(workflow_id="critical_compliance_check", start_time=START.isoformat(),
            duration=7200, resources={"cpu": 8, "memory": 16, "gpu": 1}, priority=Priority.CRITICAL)  # fmt: skip
        assert r.id > 0
        assert r.end_time == START + timedelta(hours=2)

        m = await manager.get_utilization_metrics()
        assert 0 < m.cpu.utilization < 1
        assert 0 < m.memory.available < m.memory.capacity
        assert m.active_allocations >= 1
        assert m["api_quota"].used == 1000

        assert (
            await manager.get_allocation_history(time_range="24h", agent_id="gap_assessment_agent")
            == []
        )
        (past,) = await manager.get_allocation_history(
            time_range="24h", agent_id="policy_analyzer_01"
        )
        assert (past.allocation_id, past.ended_at) == (allocation.id, None)

        await r.cancel()
        await allocation.release()
        await manager.close()

    run(scene(), timeout=60)


async def nodes(manager: ResourceManager) -> list[str]:
    return [node.node_id async for node in manager.client.fleet.list_all_nodes()]


def test_a_bare_laptop_says_no_with_the_numbers(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        manager = embedded()
        await manager.initialize()
        own = await manager.start_resource_tracking()

        allocation = await manager.allocate_resources(ResourceRequest(
            agent_id="policy_analyzer_01", workflow_id="compliance_audit_2024", priority=Priority.HIGH,
            resources={"cpu": 4, "memory": 8, "disk": 50, "api_quota": 1000}, duration=3600))  # fmt: skip
        assert allocation.success is False
        assert (allocation.allocated_resources, allocation.node_id, allocation.id) == ({}, "", 0)
        assert allocation.refusal is not None
        assert allocation.refusal.code in ("UNKNOWN_KIND", "UNSATISFIABLE")
        assert allocation.refusal.remedy in allocation.reason

        more = await manager.allocate_resources(
            ResourceRequest(agent_id="a", resources={"cpu": 1_000_000})
        )
        assert not more.success
        assert "1000000 of cpu" in more.reason
        assert more.refusal is not None
        numbers = more.refusal.numbers
        assert numbers["asked.cpu"] == 1_000_000_000
        (node,) = (await manager.client.fleet.list_nodes()).nodes
        assert (node.node_id, node.capacity["cpu"]) == (own, numbers["largest.cpu"])

        r = await manager.reserve_resources(workflow_id="critical_compliance_check", start_time=START.isoformat(),
            duration=7200, resources={"cpu": 8, "memory": 16, "gpu": 1}, priority=Priority.CRITICAL)  # fmt: skip
        assert (r.success, r.id, r.end_time) == (False, 0, None)
        assert r.reason

        m = await manager.get_utilization_metrics()
        assert (m.cpu.used, m.cpu.utilization, m.gpu.capacity) == (0, 0.0, 0)
        assert m.memory.available > 0
        await manager.close()

    run(scene())


def test_without_initialize_the_error_says_what_to_do(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        with pytest.raises(InvalidRequest, match=r"await manager\.initialize"):
            await embedded().allocate_resources(asks("early"))

    run(scene())


def test_a_malformed_request_is_refused_before_it_is_sent(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded() as manager:
            index = (await manager.get_utilization_metrics()).index
            with pytest.raises(InvalidRequest, match=r"resources\.cpu: nan is not finite"):
                await manager.allocate_resources(
                    ResourceRequest(agent_id="a", resources={"cpu": float("nan")})
                )
            with pytest.raises(InvalidRequest, match=r"resources\.cpus"):
                await manager.set_quota("a", {"cpus": 1})
            with pytest.raises(InvalidRequest, match="time zone"):
                await manager.reserve_resources("w", "2030-01-01T00:00:00", 60, {"cpu": 1})
            with pytest.raises(InvalidRequest, match="time_range"):
                await manager.get_allocation_history("a while", agent_id="a")
            with pytest.raises(InvalidRequest, match="agent_id"):
                await manager.get_allocation_history("1h")
            assert (await manager.get_utilization_metrics()).index == index

    run(scene())


def test_a_manager_goes_to_one_place() -> None:
    with pytest.raises(InvalidRequest, match="two places"):
        ResourceManager("cluster.toml", endpoints=["127.0.0.1:7001"])


def test_a_second_manager_on_a_directory_hears_who_has_it(run: Run, embedded: Make) -> None:
    async def scene() -> None:
        async with embedded():
            with pytest.raises(DataDirectoryError, match="in use"):
                await embedded().initialize()

    run(scene())


def test_where_nobody_answers_initialize_says_so(
    run: Run, free_ports: Callable[[int], list[int]]
) -> None:
    async def scene() -> None:
        endpoints = [f"127.0.0.1:{port}" for port in free_ports(3)]
        manager = ResourceManager(endpoints=endpoints, timeout=0.5)
        with pytest.raises(Unavailable, match="no answer"):
            await manager.initialize()

    run(scene())


@pytest.mark.cluster
def test_a_configuration_names_the_group(run: Run, group: LocalGroup) -> None:
    async def scene() -> None:
        async with ResourceManager(config_path=group.config.path) as manager:
            assert list(manager.client.endpoints) == group.endpoints

    run(scene())


@pytest.mark.parametrize("number", range(5))
def test_the_examples_of_the_python_page_run(number: int, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/python.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 5
    done = subprocess.run(
        [sys.executable, "-c", examples[number]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
