"""`raftalloc replica`: the members of the group, from a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from raftalloc.api.v1 import admin_pb2
from raftalloc.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    from tests.cli.conftest import FakeGroup

    Raftalloc = Callable[..., Result]

N1 = admin_pb2.Member(
    replica_id="n1", address="127.0.0.1:7001", voter=True, leader=True, match_index=9
)
LEARNER = admin_pb2.Member(replica_id="n4", address="127.0.0.1:7004", match_index=5, heard_ms=12)
VOTER = admin_pb2.Member(replica_id="n4", address="127.0.0.1:7004", voter=True, match_index=9)
ADDRESSES = ("--raft", "127.0.0.1:7104", "--grpc", "127.0.0.1:7004", "--http", "127.0.0.1:7204")


def members(*each: admin_pb2.Member) -> admin_pb2.ListReplicasResponse:
    return admin_pb2.ListReplicasResponse(members=each, last_index=9)


def test_members_are_listed_with_what_they_are_and_how_far(group: FakeGroup, raftalloc: Raftalloc):
    group.answer("ListReplicas", members(N1, LEARNER))
    told = raftalloc("replica", "list").stdout
    assert "leader" in told
    assert "learner" in told
    assert "5 of 9" in told
    found = json.loads(raftalloc("replica", "list", "--json").stdout)
    assert [each["replica_id"] for each in found["members"]] == ["n1", "n4"]


def test_whoever_adds_a_replica_waits_until_it_votes(group: FakeGroup, raftalloc: Raftalloc):
    answers = [members(N1, LEARNER), members(N1, LEARNER), members(N1, VOTER)]
    group.answer("AddReplica", admin_pb2.AddReplicaResponse(index=7))
    group.answer("ListReplicas", lambda _: answers.pop(0))
    done = raftalloc("replica", "add", "n4", *ADDRESSES)
    assert done.exit_code == 0
    assert "n4 has caught up, and votes" in done.stdout
    assert answers == []
    asked = group.only("AddReplica")
    assert (asked.replica_id, asked.raft_address) == ("n4", "127.0.0.1:7104")


def test_whoever_does_not_wait_is_told_how_far_it_is(group: FakeGroup, raftalloc: Raftalloc):
    group.answer("ReplaceReplica", admin_pb2.ReplaceReplicaResponse(index=7))
    group.answer("ListReplicas", members(N1, LEARNER))
    told = raftalloc("replica", "replace", "n4", "--wait", "0").stdout
    assert "n4 learns: it has 5 of 9" in told


def test_a_refusal_says_what_would_help(group: FakeGroup, raftalloc: Raftalloc):
    group.answer(
        "RemoveReplica",
        Rejected("LAST_VOTER", "n1 is the last with a vote", remedy="add another first"),
    )
    refused = raftalloc("replica", "remove", "n1")
    assert refused.exit_code != 0
    assert "add another first" in refused.stderr
