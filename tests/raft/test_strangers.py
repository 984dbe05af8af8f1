"""Whoever is no member is dropped, counted and cheap, and a group of three goes on committing meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from raftalloc.raft import link
from raftalloc.security.certificates import make_ca
from raftalloc.security.names import CLIENT, REPLICA, Identity
from tests.certificates import now_s
from tests.raft.replicas import CLOCK, Group
from tests.raft.strangers import HUGE, Stranger, answer_to, context, frame, hello

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from raftalloc.security.files import TlsFiles
    from tests.conftest import Ports, Run


@contextlib.asynccontextmanager
async def busy(group: Group) -> AsyncIterator[list[float]]:
    """The group commits all the while; answers how long each commit took, and checks that all is well at the end."""
    await group.start()
    leader = await group.leader()
    seconds: list[float] = []

    async def write() -> None:
        while True:
            started = CLOCK.monotonic()
            await leader.propose(b"%d" % len(seconds))
            seconds.append(CLOCK.monotonic() - started)
            await CLOCK.sleep(0.001)

    writer = asyncio.create_task(write())
    try:
        while not seconds:
            await CLOCK.sleep(0.01)
        yield seconds
        before = len(seconds)
        while len(seconds) < before + 5 and not writer.done():
            await CLOCK.sleep(0.01)
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        await group.stop()
    assert group.fatal == []


def files_of(group: Group, who: str) -> TlsFiles | None:
    """The certificate that a stranger comes with."""
    authority = group.authority
    assert authority is not None
    match who:
        case "nobody":
            return None
        case "other CA":
            ca = make_ca("tests", now_s=now_s(), days=1)
            return authority.files(Identity("tests", REPLICA, "c"), "forged", ca=ca)
        case "expired":
            was = now_s() - 10 * 86_400
            who_it_was = Identity("tests", REPLICA, "c")
            return authority.files(who_it_was, "expired", made_s=was, days=2)
        case "other group":
            return authority.files(Identity("others", REPLICA, "c"), "other-group")
        case "client c":
            return authority.files(Identity("tests", CLIENT, "c"), "client-c")
    return authority.replica(who)


@pytest.mark.parametrize(
    ("who", "data", "reason"),
    [
        ("nobody", hello(), "no_certificate"),
        ("other CA", hello(), "other_ca"),
        ("expired", hello(), "expired"),
        ("client c", hello(), "not_a_replica"),
        ("other group", hello(), "other_cluster"),
        ("b", hello(), "other_name"),
        ("d", hello(**{"from": "d"}), "not_a_member"),
        ("c", hello(cluster_id="others"), "other_cluster"),
        ("c", hello(to="b"), "other_name"),
        ("c", hello(version=99, oldest=98), "other_version"),
        ("c", hello(version="1"), "bad_field"),
        ("c", HUGE, "too_large"),
        ("c", frame(b"x" * 2_000), "too_large"),
        ("c", frame({"type": "ping"}), "no_hello"),
        ("c", frame({"type": "request_vote", "term": 9, "last_log_index": 9, "last_log_term": 9}),
         "no_hello"),
        ("c", frame(b"\x91" * 1_000), "malformed"),
        ("c", frame(b"\xff" * 40), "malformed"),
    ],
)  # fmt: skip
def test_who_is_no_member_hears_nothing_and_is_counted(
    who: str, data: bytes, reason: str, tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        async with busy(group):
            assert await answer_to(group, "a", context(files_of(group, who)), data) == b""
            assert group.counted["a", "refused", reason] == 1, group.counted

    run(story())


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, hello()])
def test_who_speaks_no_tls_is_closed_on(data: bytes, tmp_path: Path, run: Run, free_ports: Ports):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        async with busy(group):
            heard = await answer_to(group, "a", None, data)
            assert len(heard) < 16, "no more than TLS's own word for it"
            refused = sum(n for (_, kind, _), n in group.counted.items() if kind == "refused")
            assert refused >= 1, group.counted

    run(story())


@pytest.mark.parametrize("half", [None, b"", b"\x16\x03\x01", hello()[:20]])
def test_half_a_frame_for_ever_ends_with_the_time_for_a_handshake(
    half: bytes | None, tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.5)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        async with busy(group):
            with_tls = half is not None and half == hello()[:20]
            tls: ssl.SSLContext | None = context(files_of(group, "c")) if with_tls else None
            assert await answer_to(group, "a", tls, half or b"") == b""
            assert group.counted["a", "refused", "too_slow"] == 1, group.counted

    run(story())


async def flood(port: int, count: int) -> None:
    """So many connections, a hundred at a time, that say nothing, or nonsense, and stay as long as they may."""
    loop = asyncio.get_running_loop()
    open_ones: list[socket.socket] = []
    for number in range(count):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(OSError):
            await loop.sock_connect(one, ("127.0.0.1", port))
            if number % 2:
                one.send(b"\x16\x03\x01\x02\x00nonsense")
        open_ones.append(one)
        if len(open_ones) > 100:
            open_ones.pop(0).close()
    for one in open_ones:
        one.close()


@pytest.mark.slow
def test_ten_thousand_connections_cost_little(tmp_path: Path, run: Run, free_ports: Ports):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        async with busy(group) as seconds:
            began, commits = CLOCK.monotonic(), len(seconds)
            cpu = time.process_time()
            await flood(group.peers["a"][1], 10_000)
            took, cpu = CLOCK.monotonic() - began, time.process_time() - cpu
            during = sorted(seconds[commits:])
            # Theirs and ours and three replicas that commit, all in this process.
            assert cpu < 20.0, f"{cpu:.1f} s of CPU"
            assert len(during) > 20, f"{len(during)} commits in {took:.1f} s"
            assert during[len(during) // 2] < 0.5
            refused = sum(
                n
                for (name, kind, _), n in group.counted.items()
                if (name, kind) == ("a", "refused")
            )
            assert refused > 9_000, group.counted
            assert not any(kind == "lost" for _, kind, _ in group.counted), group.counted

    run(story(), timeout=90)


def test_of_too_many_handshakes_the_oldest_is_given_up(
    tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raftalloc.raft.wire.HANDSHAKES_MAX", 4)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        async with busy(group):
            idle = [await Stranger.at(group, "a", None) for _ in range(6)]
            assert await idle[0].hear() == b""
            assert await idle[1].hear() == b""
            assert group.counted["a", "refused", "crowded_out"] == 2
            for each in idle:
                await each.leave()

    run(story())
