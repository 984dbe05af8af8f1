"""`raftalloc at` asks the lists of now for another moment, named before or behind the noun."""

from __future__ import annotations

import json

import pytest

from raftalloc.api.v1 import (
    allocator_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.cli.output import Exit
from raftalloc.errors import Compacted

NOUNS = (
    ("allocations", "List", allocator_pb2.ListResponse),
    ("queue", "ListQueue", queue_pb2.ListQueueResponse),
    ("nodes", "ListNodes", fleet_pb2.ListNodesResponse),
    ("quotas", "ListQuotas", quotas_pb2.ListQuotasResponse),
    ("reservations", "Reservations/List", reservations_pb2.ListReservationsResponse),
    ("utilization", "Utilization", usage_pb2.UtilizationResponse),
)


@pytest.mark.parametrize(("noun", "method", "answer"), NOUNS)
def test_a_moment_is_named_before_or_behind_the_noun(noun, method, answer, group, raftalloc):
    group.answer(method, answer())
    for words in (("at", "--index", "7", noun), ("at", noun, "--index", "7")):
        shown = raftalloc(*words, "--json")
        assert shown.exit_code == Exit.OK, shown.output
        assert isinstance(json.loads(shown.stdout), dict)
    assert [each.at_index for each in group.requests(method.rpartition("/")[2])] == [7, 7]


def test_a_time_may_count_back_from_the_time_of_the_group(group, raftalloc):
    def answer(request: usage_pb2.UtilizationRequest) -> usage_pb2.UtilizationResponse:
        return usage_pb2.UtilizationResponse(at_ms=9_000_000_000_000)

    group.answer("Utilization", answer)
    assert raftalloc("at", "--time", "-2h", "utilization").exit_code == Exit.OK
    assert group.requests("Utilization")[-1].at_time_ms == 9_000_000_000_000 - 7_200_000
    assert raftalloc("at", "utilization", "--time", "2026-12-01T09:00:00Z").exit_code == Exit.OK
    assert group.requests("Utilization")[-1].at_time_ms == 1_796_115_600_000


def test_every_page_is_of_the_same_moment(group, raftalloc):
    def answer(request: allocator_pb2.ListRequest) -> allocator_pb2.ListResponse:
        ids = [1, 2] if not request.page_after else [3]
        rows = [types_pb2.Allocation(id=each) for each in ids]
        return allocator_pb2.ListResponse(
            allocations=rows, index=42, next_page_after=0 if request.page_after else 2
        )

    group.answer("List", answer)
    shown = raftalloc("at", "allocations", "--time", "2026-12-01T09:00:00Z", "--json")
    assert [row["id"] for row in json.loads(shown.stdout)["allocations"]] == [1, 2, 3]
    first, second = group.requests("List")
    assert (first.at_index, bool(first.at_time_ms)) == (0, True)
    assert (second.at_index, second.at_time_ms) == (42, 0)


@pytest.mark.parametrize(
    "words",
    [
        ("at", "nodes"),
        ("at", "--index", "3", "nodes", "--index", "4"),
        ("at", "nodes", "--index", "3", "--time", "-1h"),
        ("at", "nodes", "--time", "yesterday"),
        ("at", "nodes", "--time", "-1"),
    ],
)
def test_a_moment_that_is_missing_double_or_no_time_is_a_usage_error(words, group, raftalloc):
    group.answer("ListNodes", fleet_pb2.ListNodesResponse())
    group.answer("Utilization", usage_pb2.UtilizationResponse(at_ms=10_000))
    shown = raftalloc(*words)
    if words[-1] == "-1":  # a second ago
        assert shown.exit_code == Exit.OK
        return
    assert shown.exit_code == Exit.USAGE, shown.output
    assert "remedy" in shown.stderr


def test_what_is_gone_says_what_is_left(group, raftalloc):
    group.answer("ListNodes", Compacted(5, 900))
    shown = raftalloc("at", "nodes", "--index", "5")
    assert shown.exit_code == Exit.NO
    assert "the lowest kept is 900" in shown.stderr
