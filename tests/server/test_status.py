from __future__ import annotations

import pytest
from grpc import StatusCode

from raftalloc import errors
from raftalloc.api.v1 import types_pb2
from raftalloc.core import rejections
from raftalloc.core.rejections import Rejection
from raftalloc.raft import membership
from raftalloc.server import status


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    found = [kind]
    for each in kind.__subclasses__():
        found += subclasses(each)
    return found


def trailing(error: Exception) -> dict[str, str | bytes]:
    return dict(status.status_of(error).trailing)


def detail(error: Exception) -> types_pb2.Rejection:
    content = trailing(error)[status.REJECTION]
    assert isinstance(content, bytes)
    return types_pb2.Rejection.FromString(content)


def test_every_rejection_of_core_and_membership_has_a_status_and_no_other_code_has():
    of_members = {value for name, value in vars(membership).items() if name == value}
    assert "CHANGE_UNDER_WAY" in of_members
    codes = {*rejections.CODES, *of_members, status.NO_OTHER_REPLICA}
    assert set(status.OF_REJECTION) == codes
    assert StatusCode.OK not in status.OF_REJECTION.values()


def test_every_exception_of_ours_has_the_status_that_its_tree_says():
    documented = errors.__doc__ or ""
    for kind in subclasses(errors.RaftallocError):
        # Others derive exceptions of their own from these, which the tree does not speak of.
        own = kind.__module__ == errors.__name__
        if not own or kind in (errors.RaftallocError, errors.Rejected):
            continue
        line = next(line for line in documented.splitlines() if f" {kind.__name__} " in line)
        code = next(code for known, code in status.OF_ERROR if issubclass(kind, known))
        expected = StatusCode.INTERNAL.name if "(no RPC)" in line else code.name
        assert code.name == expected, kind
        if "(no RPC)" not in line:
            assert code.name in line, f"{kind.__name__} is {code.name}, its tree says: {line}"


def test_the_general_does_not_hide_the_particular():
    for position, (kind, _) in enumerate(status.OF_ERROR):
        hidden = [each for each, _ in status.OF_ERROR[position + 1 :] if issubclass(each, kind)]
        assert hidden == [], f"{kind.__name__} hides {hidden}"


@pytest.mark.parametrize("code", rejections.CODES)
def test_a_rejection_crosses_with_code_numbers_and_words(code: str):
    rejection = Rejection(code, "resources.cpu", "cpu", (("asked.cpu", 2000),))
    error = status.rejected(rejection)
    answer = status.status_of(error)
    assert answer.code is status.OF_REJECTION[code]
    assert answer.text == (
        f"resources.cpu: {rejections.describe(rejection)}; {rejections.remedy_of(rejection)}"
    )
    assert detail(error) == status.rejection_message(rejection)
    assert detail(error).numbers["asked.cpu"] == 2000
    assert detail(error).remedy


def test_an_invalid_request_crosses_with_field_and_remedy():
    error = errors.InvalidRequest("count", "-1 is out of bounds", "give 0 to 10000")
    answer = status.status_of(error)
    assert answer.code is StatusCode.INVALID_ARGUMENT
    assert answer.text == "count: -1 is out of bounds; give 0 to 10000"
    assert detail(error).field == "count"
    assert detail(error).message == "-1 is out of bounds"
    assert detail(error).remedy == "give 0 to 10000"


def test_compacted_crosses_with_both_indices():
    found = detail(errors.Compacted(3, 9))
    assert dict(found.numbers) == {"asked_index": 3, "lowest_index": 9}


def test_not_done_and_perhaps_done_are_told_apart():
    assert trailing(errors.NoLeader("x"))[status.ERROR] == "NoLeader"
    assert trailing(errors.OutcomeUnknown("x"))[status.ERROR] == "OutcomeUnknown"
    assert trailing(TimeoutError())[status.ERROR] == "OutcomeUnknown"
    assert status.status_of(TimeoutError()).code is StatusCode.DEADLINE_EXCEEDED
    assert status.status_of(TimeoutError()).text


def test_a_bug_says_nothing_of_the_inside():
    answer = status.status_of(KeyError("secret"))
    assert answer.code is StatusCode.INTERNAL
    assert "secret" not in answer.text
    assert trailing(KeyError())[status.ERROR] == "ReplicaFailed"


def test_what_the_leader_said_is_given_on_as_it_is():
    said = status.Status(StatusCode.ABORTED, "stale", (("raftalloc-leader", "x:1"),))
    assert status.status_of(status.PassedOn(said)) is said
