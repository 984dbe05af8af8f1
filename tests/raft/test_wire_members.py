"""Two ends of the members' network by themselves: members that come, move and go, and when links are tried again."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from raftalloc.raft import wire
from raftalloc.raft.wire import Wire
from raftalloc.security.contexts import TlsContexts
from raftalloc.system import SystemClock, SystemNet, SystemRng
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Ports, Run

CLOCK = SystemClock()
PING = {"type": "response_vote", "term": 1}


class End:
    """One member's wire, and what came of it."""

    def __init__(self, authority: Authority, name: str, ports: dict[str, int], others: str) -> None:
        self.heard: list[tuple[str, int]] = []
        self.links: list[str] = []
        self.counted: Counter[tuple[str, str]] = Counter()
        self.errors: list[Exception] = []
        self.wire = Wire(
            cluster_id="g",
            replica_id=name,
            address=("127.0.0.1", ports[name]),
            nodes={other: node(other, ports[other]) for other in others},
            net=SystemNet(),
            clock=CLOCK,
            rng=SystemRng(),
            security=TlsContexts(authority.replica(name)),
            body_bytes_max=1 << 20,
            count=lambda kind, reason: self.counted.update([(kind, reason)]),
        )
        self.wire.setOnMessageReceivedCallback(self.received)
        self.wire.setOnNodeConnectedCallback(lambda peer: self.links.append(f"+{peer.id}"))
        self.wire.setOnNodeDisconnectedCallback(lambda peer: self.links.append(f"-{peer.id}"))

    def received(self, peer: Any, message: dict[str, Any]) -> None:
        if message["term"] == 666:
            raise ValueError("a bug")
        self.heard.append((peer.id, message["term"]))

    def open(self) -> None:
        self.wire.open(lambda message: message, lambda: None, self.errors.append)


def node(name: str, port: int) -> Any:
    return SimpleNamespace(id=name, address=("127.0.0.1", port))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await CLOCK.sleep(0.01)


def test_members_come_move_and_go(tmp_path: Path, run: Run, free_ports: Ports):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("abz", free_ports(3), strict=True))
        a, b = End(authority, "a", ports, ""), End(authority, "b", ports, "a")
        a.open()
        b.open()
        b.wire.send(node("a", 0), PING)
        a.wire.addNode(node("b", ports["b"]))
        await until(lambda: a.wire.links == ("b",) and b.wire.links == ("a",))
        assert a.wire.send(node("b", 0), PING)
        assert b.wire.send(node("a", 0), PING)
        await until(lambda: a.heard == [("b", 1)] and b.heard == [("a", 1)])
        # The same again changes nothing; another address is another link.
        a.wire.addNode(node("b", ports["b"]))
        assert a.links == ["+b"]
        b.wire.destroy()
        moved = End(authority, "b", {**ports, "b": ports["z"]}, "a")
        moved.open()
        a.wire.addNode(node("b", ports["z"]))
        await until(lambda: moved.wire.links == ("a",) and a.wire.links == ("b",))
        assert a.links[0] == "+b"
        assert a.links[-1] == "+b"
        a.wire.dropNode(node("b", 0))
        assert a.wire.links == ()
        assert a.links[-1] == "-b"
        assert not a.wire.send(node("b", 0), PING)
        await until(lambda: moved.links[-1] == "-a")
        await CLOCK.sleep(0.5)
        assert a.wire.links == (), "nobody dials who is no member"
        a.wire.destroy()
        moved.wire.destroy()

    run(story())


def test_the_larger_id_that_is_no_member_any_more_is_refused(
    tmp_path: Path, run: Run, free_ports: Ports
):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("ab", free_ports(2), strict=True))
        a, b = End(authority, "a", ports, "b"), End(authority, "b", ports, "")
        a.open()
        b.open()
        await until(lambda: b.counted["refused", "not_a_member"] >= 2)
        assert a.wire.links == ()
        assert not a.wire.send(node("b", 0), PING)
        a.wire.destroy()
        b.wire.destroy()

    run(story())


def test_a_member_that_is_down_is_tried_again_and_again_but_not_without_a_pause(
    tmp_path: Path, run: Run, free_ports: Ports
):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("ab", free_ports(2), strict=True))
        a = End(authority, "a", ports, "b")
        a.open()
        await CLOCK.sleep(2.0)
        tries = a.counted["refused", "unreachable"]
        assert 4 <= tries <= 2 + 2.0 / (wire.REDIAL_SECONDS / 2), tries
        b = End(authority, "b", ports, "a")
        b.open()
        began = CLOCK.monotonic()
        await until(lambda: b.wire.links == ("a",))
        assert CLOCK.monotonic() - began < wire.REDIAL_SECONDS_MAX + 1.0
        a.wire.destroy()
        b.wire.destroy()

    run(story())


def test_where_the_smaller_id_cannot_get_through_the_larger_dials(
    tmp_path: Path, run: Run, free_ports: Ports
):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("abx", free_ports(3), strict=True))
        a, b = End(authority, "a", {**ports, "b": ports["x"]}, "b"), End(authority, "b", ports, "a")
        a.open()
        b.open()
        await until(lambda: a.wire.links == ("b",) and b.wire.links == ("a",))
        assert a.wire.send(node("b", 0), PING)
        await until(lambda: b.heard == [("a", 1)])
        a.wire.destroy()
        b.wire.destroy()

    run(story())


def test_what_the_engine_raises_is_told_and_ends_the_link(
    tmp_path: Path, run: Run, free_ports: Ports
):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("ab", free_ports(2), strict=True))
        a, b = End(authority, "a", ports, "b"), End(authority, "b", ports, "a")
        a.open()
        b.open()
        await until(lambda: a.wire.links and b.wire.links)
        for term in (1, 666, 2):
            a.wire.send(node("b", 0), {**PING, "term": term})
        await until(lambda: b.errors)
        assert [str(error) for error in b.errors] == ["a bug"]
        assert b.heard == [("a", 1)], "nothing is delivered behind it"
        a.wire.destroy()
        b.wire.destroy()

    run(story())


def test_nobody_is_called_back_after_the_end(tmp_path: Path, run: Run, free_ports: Ports):
    authority = Authority(tmp_path, "g")

    async def story() -> None:
        ports = dict(zip("ab", free_ports(2), strict=True))
        a, b = End(authority, "a", ports, "b"), End(authority, "b", ports, "a")
        a.open()
        b.open()
        await until(lambda: a.wire.links and b.wire.links)
        b.wire.destroy()
        assert b.links == ["+a"]
        await until(lambda: a.links == ["+b", "-b"])
        a.wire.destroy()
        await CLOCK.sleep(0.3)
        assert b.heard == []

    run(story())
