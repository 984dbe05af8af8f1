"""Managers of an embedded replica, and of a group of three processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from raftalloc import ResourceManager
from raftalloc.cli.group import LocalGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[[], ResourceManager]


@pytest.fixture(scope="session")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGroup]:
    """Three real replicas on free ports of loopback, shared by the tests of this session."""
    group = LocalGroup.create(tmp_path_factory.mktemp("group"), any_ports=True)

    async def ready() -> None:
        await group.wait_leader()
        await group.close()

    group.start()
    try:
        asyncio.run(ready())
        yield group
    finally:
        asyncio.run(group.stop())


@pytest.fixture(params=["embedded", pytest.param("group", marks=pytest.mark.cluster)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes managers of one and the same service: a data directory, or the group."""
    if request.param == "embedded":
        return lambda: ResourceManager(data_dir=str(tmp_path / "data"))
    group: LocalGroup = request.getfixturevalue("group")
    return lambda: ResourceManager(endpoints=group.endpoints, tls=group.tls)


@pytest.fixture
def embedded(tmp_path: Path) -> Make:
    """Makes managers of one data directory."""
    return lambda: ResourceManager(data_dir=str(tmp_path / "data"))
