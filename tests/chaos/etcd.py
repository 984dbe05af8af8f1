"""etcd beside us: three members on loopback, writes under way, their leader killed, the gap measured in the same way.

`default` is etcd as it comes; `tuned` has our heartbeat and election times. Members are asked over gRPC, with the few
messages that are needed written by hand: their encoding is public, and no generated code is worth its keep here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any, Final

import grpc

from raftalloc.cli.demo.dice import Dice
from raftalloc.cli.demo.workload import HOLD_MS as WORK_MS
from raftalloc.cli.loopback import HOST, free_ports
from raftalloc.errors import Unavailable
from tests.chaos.probe import until_written
from tests.chaos.report import Round
from tests.chaos.report import figures as figures_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chaos.course import Plan

PROGRAM: Final = "etcd"
SETTINGS: Final = {
    "default": (),
    "tuned": ("--heartbeat-interval=50", "--election-timeout=300"),
}
"""etcd draws its timeout between the value and twice that: 300 is our 300 to 600."""
ATTEMPT_SECONDS: Final = 2.0
CALL_SECONDS: Final = 30.0
START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_PUT: Final = "/etcdserverpb.KV/Put"
_STATUS: Final = "/etcdserverpb.Maintenance/Status"


def on_path() -> bool:
    """Whether it is there to be measured."""
    return shutil.which(PROGRAM) is not None


def figures(rounds: list[Round]) -> dict[str, Any]:
    """Those of a fault of ours, and the gaps."""
    return {
        **figures_of(rounds),
        "failovers_ms": [each.gap_ms for each in rounds if each.gap_ms is not None],
    }


async def run(name: str, plan: Plan, directory: Path, say: Callable[[str], None]) -> list[Round]:
    """As many kills of the leader as ours had, with as many agents, in one of SETTINGS."""
    kills = sum(plan.faults[each % len(plan.faults)] == "kill" for each in range(plan.rounds))
    say(f"etcd, {name}: starting three members")
    members = Members(directory, SETTINGS[name])
    dice, rounds = Dice(plan.seed), []
    work: list[asyncio.Task[None]] = []
    try:
        await members.start(*range(3))
        await members.wait_leader()
        work = [asyncio.create_task(members.work(row)) for row in range(plan.agents)]
        for number in range(kills):
            await asyncio.sleep(dice.between(300, 900) / 1000)
            rounds.append(await _kill_leader(members, dice.between(100, 500) / 1000))
            say(f"{number + 1}/{kills} etcd, {name}: writes taken after {rounds[-1].gap_ms} ms")
    finally:
        for each in work:
            each.cancel()
        await members.stop()
    return rounds


async def _kill_leader(members: Members, hold: float) -> Round:
    loop = asyncio.get_running_loop()
    leader = await members.wait_leader()
    since = loop.time()
    members.kill(leader)
    survivors = [row for row in range(3) if row != leader]

    async def write(number: int) -> bool:
        return await members.put(f"probe/{since}/{number}", survivors[number % 2])

    gap = await until_written(write, since)
    await asyncio.sleep(hold)
    await members.start(leader)
    await members.wait_well()
    return Round("kill", f"m{leader}", None if gap is None else round(gap * 1000, 1))


class Members:
    """Three processes and a channel to each."""

    def __init__(self, directory: Path, options: tuple[str, ...]) -> None:
        """Nothing is started."""
        directory.mkdir(parents=True)
        self._directory = directory
        self._options = options
        ports = free_ports(6)
        self._clients, self._peers = ports[:3], ports[3:]
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._channels = [
            grpc.aio.insecure_channel(
                f"{HOST}:{port}",
                options=(("grpc.max_reconnect_backoff_ms", 1000), ("grpc.enable_http_proxy", 0)),
            )
            for port in self._clients
        ]

    async def start(self, *rows: int) -> None:
        """Start these members; they find their data again."""
        everyone = ",".join(f"m{row}=http://{HOST}:{port}" for row, port in enumerate(self._peers))
        for row in rows:
            client, peer = (f"http://{HOST}:{ports[row]}" for ports in (self._clients, self._peers))
            log = os.open(self._directory / f"m{row}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                self._processes[row] = await asyncio.create_subprocess_exec(
                    PROGRAM,
                    f"--name=m{row}",
                    f"--data-dir={self._directory / f'm{row}'}",
                    f"--listen-client-urls={client}",
                    f"--advertise-client-urls={client}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster={everyone}",
                    "--initial-cluster-state=new",
                    *self._options,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            finally:
                os.close(log)

    def kill(self, row: int) -> None:
        """SIGKILL."""
        self._processes[row].send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """End everything."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for channel in self._channels:
            await channel.close()

    async def work(self, row: int) -> None:
        """An agent of the same pace as ours: write, hold, write."""
        dice, member, number = Dice(row), row % 3, 0
        while True:
            number += 1
            # An agent goes on at the next member where one does not answer.
            while not await self.put(f"agent/{row}/{number}", member, ATTEMPT_SECONDS):
                member = (member + 1) % 3
                await asyncio.sleep(_POLL_SECONDS / 2)
            await asyncio.sleep(dice.between(*WORK_MS) / 2000)

    async def put(self, key: str, row: int, seconds: float = CALL_SECONDS) -> bool:
        """Whether a write was acknowledged by this member."""
        try:
            await self.write(key.encode(), b"x" * 100, row, seconds)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def write(
        self, key: bytes, value: bytes, row: int, seconds: float = CALL_SECONDS
    ) -> None:
        """Returns when it is acknowledged. Raises AioRpcError."""
        await self._ask(row, _PUT, put_request(key, value), seconds)

    def pids(self) -> list[int]:
        """In the order of the rows."""
        return [self._processes[row].pid for row in sorted(self._processes)]

    async def wait_leader(self) -> int:
        """Row of the member that says it leads."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + START_SECONDS
        while loop.time() < give_up:
            for row, status in (await self._statuses()).items():
                if status.get(4) and status[4] == fields(status[1]).get(2):
                    return row
            await asyncio.sleep(_POLL_SECONDS)
        raise Unavailable(f"etcd has no leader after {START_SECONDS:g} s; see {self._directory}")

    async def wait_well(self) -> None:
        """Until all three answer, and have what the furthest had when this was asked."""
        loop = asyncio.get_running_loop()
        give_up, aim = loop.time() + START_SECONDS, 0
        while loop.time() < give_up:
            found = await self._statuses()
            aim = aim or max((status[5] for status in found.values()), default=0)
            if len(found) == 3 and all(status.get(5, 0) >= aim for status in found.values()):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise Unavailable(f"etcd is not well after {START_SECONDS:g} s; see {self._directory}")

    async def _statuses(self) -> dict[int, dict[int, Any]]:
        """Fields of the StatusResponse of every member that answers: 1 header, 4 leader, 5 index."""
        found = {}
        for row in range(3):
            with contextlib.suppress(grpc.aio.AioRpcError):
                found[row] = fields(await self._ask(row, _STATUS, b"", 1.0))
        return found

    async def _ask(self, row: int, method: str, request: bytes, seconds: float) -> bytes:
        call: Any = self._channels[row].unary_unary(method)
        answer: bytes = await call(request, timeout=seconds)
        return answer


def put_request(key: bytes, value: bytes) -> bytes:
    """etcdserverpb.PutRequest: key is field 1, value field 2."""
    return b"".join(
        bytes([number << 3 | 2]) + _varint(len(content)) + content
        for number, content in ((1, key), (2, value))
    )


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def fields(message: bytes) -> dict[int, Any]:
    """Field number -> value of a protobuf message: an int, or the bytes of what is within."""
    found: dict[int, Any] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        value: Any = number()
        if tag & 7 == 2:
            at, value = at + value, message[at : at + value]
        found[tag >> 3] = value
    return found
