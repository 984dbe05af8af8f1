"""What every test may lean on: coroutines that end, ports that are free, and examples that come back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# No deadline: the machines that run this are shared. In CI the same examples every time, so that a
# red run can be repeated; elsewhere new ones, with the failing one printed as a line to paste.
_SHARED = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, **_SHARED)  # type: ignore[arg-type]  # one dict, many types
settings.register_profile("here", **_SHARED)  # type: ignore[arg-type]
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--rewrite: scenarios write what happened in the place of what they expect."""
    parser.addoption("--rewrite", action="store_true", help="regenerate tests/scenarios/*.txt")


class Run(Protocol):
    """Runs a coroutine on a loop of its own."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        """Answers its result; fails when it takes longer, or leaves tasks behind."""


class Ports(Protocol):
    """Finds ports."""

    def __call__(self, count: int) -> list[int]:
        """Ports of 127.0.0.1 that nothing listened on a moment ago, all different."""


async def _bounded(coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
    result = await asyncio.wait_for(coroutine, timeout)
    await asyncio.sleep(0)  # what was cancelled last gets its turn to end
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"the test left tasks running: {left}"
    return result


@pytest.fixture
def run() -> Run:
    """`run(coroutine())` in a test that is no coroutine itself."""

    def runner(coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        return asyncio.run(_bounded(coroutine, timeout))

    return runner


@pytest.fixture
def program() -> Callable[[str], str]:
    """`program("promtool")`: its path. Where it is missing the test is skipped, and in CI it fails."""

    def path(name: str) -> str:
        found = shutil.which(name)
        if found is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not on PATH; .ci/run is to install it")
        if found is None:
            pytest.skip(f"{name} is not on PATH; Debian's package has it (see .ci/run)")
        return found

    return path


@pytest.fixture
def free_ports() -> Ports:
    """`free_ports(3)`: ports of 127.0.0.1 that nothing listened on a moment ago, all different."""

    def ports(count: int) -> list[int]:
        with contextlib.ExitStack() as held:
            found = []
            for _ in range(count):
                listener = held.enter_context(socket.socket())
                listener.bind(("127.0.0.1", 0))
                found.append(int(listener.getsockname()[1]))
            return found

    return ports
