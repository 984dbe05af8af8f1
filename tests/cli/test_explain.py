"""`raftalloc explain`: of an id, of an event, of what is not made; now and then."""

from __future__ import annotations

import pytest

from raftalloc.api.v1 import allocator_pb2
from raftalloc.cli.output import Exit

Response = allocator_pb2.ExplainResponse


def test_the_proof_and_the_least_change_are_shown(group, raftalloc):
    blocker = allocator_pb2.Blocker(code="NO_CAPACITY", kind="cpu", message="the fleet: 3 asked")
    answer = Response(
        verdict=Response.VERDICT_MUST_WAIT,
        index=9,
        blockers=[blocker],
        sets=[allocator_pb2.BlockingSet(blockers=[blocker])],
        changes=[allocator_pb2.Change(what="FREE", message="give 1 of cpu back on n1")],
    )
    group.answer("Explain", answer)
    shown = raftalloc("explain", "7", "--index", "9")
    assert shown.exit_code == Exit.NO
    assert (group.only("Explain").request_id, group.only("Explain").at_index) == (7, 9)
    assert "proof 1: the fleet: 3 asked (enough by itself)" in shown.stdout
    assert "the least that would let it start: give 1 of cpu back on n1" in shown.stdout


def test_a_decision_is_shown_with_what_it_saw(group, raftalloc):
    decided = allocator_pb2.Decision(
        event="Granted",
        index=41,
        at_ms=1_700_000_000_000,
        subject=7,
        agent_id="a_1",
        node_id="n1",
        runner_up_node_id="n2",
        resources={"cpu": 4_000},
        waited_ms=90_000,
    )
    group.answer("Explain", Response(verdict=Response.VERDICT_FITS_NOW, decision=decided))
    shown = raftalloc("explain", "--event", "41.2")
    assert shown.exit_code == Exit.OK, shown.output
    asked = group.only("Explain")
    assert (asked.event_index, asked.event_sequence) == (41, 2)
    assert "Granted 7: cpu=4 for a_1 on n1 after 1m 30s" in shown.stdout
    assert "without n1 it would have been n2" in shown.stdout


@pytest.mark.parametrize("words", [("--event", "x"), ("--event", "0"), ("7", "--event", "4"), ()])
def test_what_names_nothing_or_two_things_is_a_usage_error(words, group, raftalloc):
    assert raftalloc("explain", *words).exit_code == Exit.USAGE
    assert group.requests("Explain") == []
