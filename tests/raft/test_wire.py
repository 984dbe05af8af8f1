"""The members' network: what members may do to each other, and what they may not."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import msgpack
import pytest

from raftalloc.raft import link
from raftalloc.raft.replica import Replica
from tests.raft.replicas import CLOCK, Group
from tests.raft.strangers import HUGE, Stranger, context, frame, hello

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raftalloc.raft.wire import Wire
    from tests.conftest import Ports, Run


async def posing_as_c(group: Group) -> Stranger:
    """With the certificate of a member that is not there: all the wire can ask for."""
    assert group.authority is not None
    member = await Stranger.at(group, "a", context(group.authority.replica("c")))
    await member.say(hello())
    said = await member.hear_frame()
    assert (said["type"], said["from"], said["to"]) == ("hello", "a", "c")
    return member


def wire_of(replica: Replica) -> Wire:
    wire: Wire = replica._log._gate._transport  # type: ignore[union-attr]  # the replica is running
    return wire


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await CLOCK.sleep(0.01)


GARBAGE = [
    (b"\xc1" * 50, "malformed"),
    (b"\x91" * 100_000, "malformed"),
    (b"", "malformed"),
    (msgpack.packb([1, 2]), "malformed"),
    (msgpack.packb({"type": "apply_command", "command": b"x"}), "unknown_kind"),
    (msgpack.packb({"type": "request_vote", "term": "9"}), "bad_field"),
    (msgpack.packb({"type": "append_entries", "term": 1, "entries": [b"abc", []]}), "malformed"),
]


@pytest.mark.parametrize(("head", "reason"), GARBAGE)
def test_garbage_of_a_member_is_dropped_and_counted_and_its_link_stays(
    head: bytes, reason: str, tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.begin_without("c")
        leader = await group.leader()
        member = await posing_as_c(group)
        for _ in range(3):
            await member.say(frame(head))
        await until(lambda: group.counted["a", "dropped", reason] == 3)
        assert "c" in wire_of(group.replicas["a"]).links
        await leader.propose(b"still here")
        await member.leave()
        await group.stop()
        assert group.fatal == []

    run(story())


@pytest.mark.parametrize("lengths", [HUGE, struct.pack(">II", (1 << 20) + 1, 0)])
def test_a_member_with_a_huge_length_loses_its_link(
    lengths: bytes, tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.begin_without("c")
        leader = await group.leader()
        member = await posing_as_c(group)
        await member.say(lengths)
        await member.hear()
        assert group.counted["a", "lost", "too_large"] == 1
        assert "c" not in wire_of(group.replicas["a"]).links
        await leader.propose(b"still here")
        await member.leave()
        await group.stop()
        assert group.fatal == []

    run(story())


def test_the_newest_link_of_a_member_counts_and_nothing_more_is_heard_of_the_old(
    tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.begin_without("c")
        await group.leader()
        old = await posing_as_c(group)
        new = await posing_as_c(group)
        await until(lambda: group.counted["a", "lost", "replaced"] == 1)
        term = group.replicas["a"].term
        vote = {"type": "request_vote", "last_log_index": 0, "last_log_term": 0}
        await old.say(frame({**vote, "term": term + 100}))
        await old.hear()
        assert group.replicas["a"].term < term + 100
        await new.say(frame({**vote, "term": term + 50}))
        await until(lambda: group.replicas["a"].term >= term + 50)
        await old.leave()
        await new.leave()
        await group.stop()

    run(story())


def test_a_member_that_does_not_read_loses_its_link_and_takes_no_memory(
    tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(link, "QUEUE_BYTES_MAX", 1 << 20)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.begin_without("c")
        leader = await group.leader()
        port = group.peers[leader.replica_id][1]
        assert group.authority is not None
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context(group.authority.replica("c")), limit=1 << 10
        )
        writer.write(hello(to=leader.replica_id))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket, which can
        await until(lambda: "c" in wire_of(leader).links)
        wire = wire_of(leader)
        heartbeat = {"type": "append_entries", "term": leader.term, "commit_index": 0}
        heartbeat |= {"prevLogIdx": 1, "prevLogTerm": 0}
        sent = 0
        while wire.send(wire._nodes["c"], {**heartbeat, "entries": [(b"x" * (1 << 20), 2, sent)]}):
            sent += 1
            assert wire.unsent(wire._nodes["c"]) < 3 << 20
            await CLOCK.sleep(0)
        assert group.counted[leader.replica_id, "lost", "queue_full"] == 1
        writer.transport.abort()
        await group.stop()
        assert group.fatal == []

    run(story())


def test_a_silent_member_loses_its_link(
    tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(link, "DEAD_SECONDS", 1.0)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.begin_without("c")
        leader = await group.leader()
        member = await posing_as_c(group)
        await until(lambda: group.counted["a", "lost", "silent"] == 1)
        await leader.propose(b"still here")
        await member.leave()
        await group.stop()

    run(story())


def test_members_who_have_nothing_to_say_keep_their_link(
    tmp_path: Path, run: Run, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(link, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(link, "PING_SECONDS", 0.3)

    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.start()
        await group.leader()
        await until(lambda: all(len(wire_of(r).links) == 2 for r in group.replicas.values()))
        await CLOCK.sleep(2.0)
        assert not any(kind == "lost" for _, kind, _ in group.counted), group.counted
        await group.stop()

    run(story())


def test_a_member_that_comes_back_is_reached_again_soon(
    tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        await group.start()
        await group.leader()
        await until(lambda: len(wire_of(group.replicas["a"]).links) == 2)
        await group.stop("c")
        await until(lambda: wire_of(group.replicas["a"]).links == ("b",))
        await group.start("c")
        began = CLOCK.monotonic()
        await until(lambda: len(wire_of(group.replicas["c"]).links) == 2)
        assert CLOCK.monotonic() - began < 3.0
        await group.stop()

    run(story())


def test_a_replica_with_another_ca_does_not_join_and_both_sides_say_so(
    tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        ports = free_ports(3)
        group = Group(tmp_path / "ours", 3, ports)
        others = Group(tmp_path / "theirs", 3, ports)
        await group.begin_without("c")
        leader = await group.leader()
        await others.start("c")
        await until(lambda: group.counted["a", "refused", "other_ca"] > 0)
        await until(lambda: others.counted["c", "refused", "refused_by_peer"] > 0)
        assert wire_of(others.replicas["c"]).links == ()
        await leader.propose(b"without it")
        await others.stop()
        await group.stop()

    run(story())


def test_without_tls_members_still_know_each_other_by_hello(
    tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3), tls=False)
        await group.start()
        leader = await group.leader()
        await leader.propose(b"plain")
        stranger = await Stranger.at(group, "a", None)
        await stranger.say(hello(cluster_id="others"))
        assert await stranger.hear() == b""
        assert group.counted["a", "refused", "other_cluster"] == 1
        await stranger.leave()
        await group.agree()
        await group.stop()

    run(story())


def test_new_certificates_are_used_for_links_that_come_after(
    tmp_path: Path, run: Run, free_ports: Ports
):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        authority = group.authority
        assert authority is not None
        await group.start()
        await (await group.leader()).propose(b"old")
        # A new CA: first it is trusted beside the old one, then everybody gets a certificate of it.
        authority.renew_ca()
        for name in group.ids:
            authority.reissue(name)
        await (await group.leader()).propose(b"between")
        await group.stop("c")
        await group.start("c")
        await group.agree()
        # Then the old one goes; who has only that is a stranger now.
        authority.trust_only_new()
        await group.stop("b")
        await group.start("b")
        log = await group.agree()
        assert [entry for _, entry in log] == [b"old", b"between"]
        old = context(authority.of_old_ca("c"))
        member = await Stranger.at(group, "a", old)
        await member.say(hello())
        assert await member.hear() == b""
        assert group.counted["a", "refused", "other_ca"] == 1
        await member.leave()
        await group.stop()
        assert group.fatal == []

    run(story())


def test_files_that_are_half_written_do_no_harm(tmp_path: Path, run: Run, free_ports: Ports):
    async def story() -> None:
        group = Group(tmp_path, 3, free_ports(3))
        authority = group.authority
        assert authority is not None
        await group.start()
        await (await group.leader()).propose(b"old")
        whole = authority.bundle.read_bytes()
        authority.bundle.write_bytes(whole[: len(whole) // 2])
        link_of_b = wire_of(group.replicas["a"])._live["b"]
        link_of_b.end("closed", "by the test")
        await until(lambda: wire_of(group.replicas["a"])._live.get("b") not in (None, link_of_b))
        authority.bundle.write_bytes(whole)
        await (await group.leader()).propose(b"new")
        await group.stop()
        assert group.fatal == []

    run(story())
