"""Three processes of an engine on loopback: ours or stock pysyncobj, through the same eyes."""

from __future__ import annotations

import asyncio
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from raftalloc.cli.loopback import free_ports
from tests.bench.children import Child, ChildFailed
from tests.bench.proposing import CASES, record
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.bench.proposing import Case
    from tests.bench.registry import Context

MEMBERS: Final = ("a", "b", "c")
WARM_SECONDS: Final = 0.3
LEADER_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005


class Engines:
    """`async with` starts three and ends them."""

    def __init__(self, module: str, directory: Path, **options: Any) -> None:
        """`module`: of the child; `options`: for each of them."""
        self._module = module
        self._directory = directory
        self._options = options
        self._children: dict[str, Child] = {}

    async def __aenter__(self) -> Engines:
        self._directory.mkdir(parents=True)
        ports = free_ports(len(MEMBERS))
        authority = Authority(self._directory / "certs", "tests")
        for name in MEMBERS:
            self._children[name] = await Child.start(
                self._module,
                self._directory / f"{name}.log",
                me=name,
                ports=ports,
                directory=str(self._directory),
                tls=astuple(authority.replica(name)),
                **self._options,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.stop() for child in self._children.values()))

    async def leader(self, among: Iterable[str] = MEMBERS) -> Child:
        """The one that leads and can be proposed to. Raises ChildFailed."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + LEADER_SECONDS
        while loop.time() < give_up:
            for name in among:
                if (await self._children[name].ask("status"))["leads"]:
                    return self._children[name]
            await asyncio.sleep(_POLL_SECONDS)
        raise ChildFailed(f"no leader after {LEADER_SECONDS:g} s in {self._directory}")

    async def cpu_seconds(self) -> float:
        """Of all members so far."""
        return float(sum([await child.ask("cpu") for child in self._children.values()]))

    async def measure(self, context: Context, bench: str, cases: Iterable[Case] = CASES) -> None:
        """Every case once."""
        for case in cases:
            leader = await self.leader()
            arguments = {"size": case.size * case.requests, "outstanding": case.outstanding}
            await leader.ask("load", seconds=WARM_SECONDS, **arguments)
            before = await self.cpu_seconds()
            found = await leader.ask("load", seconds=context.seconds, **arguments)
            record(context.figures, bench, case, found, await self.cpu_seconds() - before)

    async def idle_percent(self, seconds: float) -> float:
        """CPU of one member on average, while nothing is proposed."""
        await self.leader()
        before = await self.cpu_seconds()
        await asyncio.sleep(seconds)
        return (await self.cpu_seconds() - before) / seconds / len(MEMBERS) * 100

    async def failover_ms(self) -> float:
        """From SIGKILL of the leader until another can be proposed to, and has committed an entry."""
        leader = await self.leader()
        killed = next(name for name, child in self._children.items() if child is leader)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await leader.kill()
        successor = await self.leader([name for name in MEMBERS if name != killed])
        await successor.ask("load", size=100, outstanding=1, seconds=0.0001)
        return (loop.time() - began) * 1000
