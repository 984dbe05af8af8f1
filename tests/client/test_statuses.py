"""What a gRPC status means for the caller: above all, whether it helps to ask again."""

from __future__ import annotations

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from raftalloc.client.statuses import ERROR, error_of
from raftalloc.errors import InvalidRequest, OutcomeUnknown, Overloaded, Unavailable

TOO_LARGE = "SERVER: Received message larger than max (10000020 vs. 4194304)"


def failed(code: StatusCode, details: str, *trailing: tuple[str, str]) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details)


def test_a_request_too_large_for_a_replica_is_not_worth_asking_again():
    error = error_of(failed(StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE), "a:1")
    assert isinstance(error, InvalidRequest)
    assert (error.field, error.problem) == ("request", TOO_LARGE)
    assert error.remedy


@pytest.mark.parametrize(
    "error",
    [
        failed(StatusCode.RESOURCE_EXHAUSTED, "too much waits"),
        failed(StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE, (ERROR, "Overloaded")),
    ],
)
def test_any_other_exhaustion_is(error: AioRpcError):
    assert isinstance(error_of(error, "a:1"), Overloaded)


def test_an_answer_that_is_too_large_was_given_perhaps_to_what_was_done():
    error = failed(StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE.replace("SERVER", "CLIENT"))
    assert isinstance(error_of(error, "a:1"), OutcomeUnknown)


def test_what_never_reached_a_replica_was_not_done():
    unsent = failed(StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    broken = failed(StatusCode.UNAVAILABLE, "Socket closed")
    assert isinstance(error_of(unsent, "a:1"), Unavailable)
    assert isinstance(error_of(broken, "a:1"), OutcomeUnknown)
