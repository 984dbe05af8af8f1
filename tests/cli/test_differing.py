"""`raftalloc status` of a group in which a replica differs from the others."""

from __future__ import annotations

import pytest

from raftalloc.api.v1 import admin_pb2
from raftalloc.cli import output
from raftalloc.cli.output import Exit
from raftalloc.cli.status import health, replicas_table


def status(replica_id: str, **fields: object) -> admin_pb2.StatusResponse:
    return admin_pb2.StatusResponse(replica_id=replica_id, leader_id="n1", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told",
    [
        status("n2", divergence="the chain digest at index 7 is another"),
        status("n2", differing=["n3"]),
    ],
)
def test_one_that_differs_is_a_complaint_whoever_says_so(told: admin_pb2.StatusResponse):
    statuses = {"a:1": status("n1", role="leader"), "a:2": told}
    found = health(statuses)
    assert found.differing
    assert found.exit is Exit.NO


def test_it_is_marked_in_the_table(capsys: pytest.CaptureFixture[str]):
    statuses = {"a:1": status("n1"), "a:2": status("n2", divergence="why")}
    output.console().print(replicas_table(statuses))
    rows = capsys.readouterr().out.splitlines()
    assert ["DIFFERS" in row for row in rows if " n1" in row or " n2" in row] == [False, True]


def test_a_group_at_one_is_no_complaint():
    statuses = {"a:1": status("n1", role="leader"), "a:2": status("n2")}
    assert health(statuses).exit is Exit.OK
