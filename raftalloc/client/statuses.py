"""From a gRPC status to an exception of `raftalloc.errors`: the counterpart of `server/status.py`.

INVALID_ARGUMENT     InvalidRequest       field and remedy from the Rejection in the trailing metadata, or the text
UNAUTHENTICATED      Unauthenticated
OUT_OF_RANGE         Compacted
any, with Rejection  Rejected             NOT_FOUND, FAILED_PRECONDITION, ABORTED, RESOURCE_EXHAUSTED ...
PERMISSION_DENIED    Forbidden
RESOURCE_EXHAUSTED   Overloaded
UNAVAILABLE          NotLeader, NoLeader, Unavailable where it surely was not done, else OutcomeUnknown
DEADLINE_EXCEEDED    OutcomeUnknown
CANCELLED, UNKNOWN   OutcomeUnknown       the connection broke under the call
else                 ReplicaFailed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from raftalloc.api.v1 import types_pb2
from raftalloc.errors import (
    Compacted,
    Forbidden,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    RaftallocError,
    Rejected,
    ReplicaFailed,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEADER: Final = "raftalloc-leader"
INDEX: Final = "raftalloc-index"
REJECTION: Final = "raftalloc-rejection-bin"
READ: Final = "raftalloc-read"

# What gRPC itself says when it never reached the replica: then nothing was done there.
_NEVER_SENT: Final = (
    "failed to connect",
    "connection refused",
    "name resolution",
    "dns resolution",
)


def trailing_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str | bytes]:
    """Trailing metadata by key; of a key given twice the last."""
    return {str(key): value for key, value in metadata or ()}


def error_of(error: grpc.aio.AioRpcError, address: str) -> RaftallocError:
    """The exception that says what `error`, from the replica at `address`, means for the caller."""
    code, text = error.code(), error.details() or ""
    trailing = trailing_of(error.trailing_metadata())
    rejection = _rejection(trailing)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return _invalid(text, rejection)
    if code is grpc.StatusCode.OUT_OF_RANGE:
        return _compacted(rejection)
    if rejection is not None:
        return rejected_of(rejection)
    where = f"{address}: {text or code.name}"
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(where)
        case grpc.StatusCode.PERMISSION_DENIED:
            return Forbidden(where)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(where)
        case grpc.StatusCode.UNAVAILABLE:
            return _unavailable(where, trailing)
        case (
            grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED | grpc.StatusCode.UNKNOWN
        ):
            return OutcomeUnknown(where)
    return ReplicaFailed(f"{where} ({code.name})")


def rejected_of(rejection: types_pb2.Rejection) -> Rejected:
    """A Rejection, as the exception that carries it."""
    return Rejected(
        rejection.code,
        rejection.message or rejection.code,
        field=rejection.field,
        remedy=rejection.remedy,
        numbers=rejection.numbers,
    )


def _rejection(trailing: Mapping[str, str | bytes]) -> types_pb2.Rejection | None:
    """The Rejection in the trailing metadata, if there is one."""
    value = trailing.get(REJECTION)
    if not isinstance(value, bytes):
        return None
    return types_pb2.Rejection.FromString(value)


def _invalid(text: str, rejection: types_pb2.Rejection | None) -> InvalidRequest:
    """Field, problem and remedy; where only the text came, taken apart as InvalidRequest puts it together."""
    if rejection is not None:
        return InvalidRequest(rejection.field, rejection.message, rejection.remedy)
    field, colon, rest = text.partition(": ")
    if not colon:
        return InvalidRequest("request", text or "is malformed")
    problem, _, remedy = rest.partition("; ")
    return InvalidRequest(field, problem, remedy)


def _compacted(rejection: types_pb2.Rejection | None) -> Compacted:
    """Both indices, 0 where the replica did not say."""
    numbers = {} if rejection is None else dict(rejection.numbers)
    return Compacted(numbers.get("asked_index", 0), numbers.get("lowest_index", 0))


def _unavailable(where: str, trailing: Mapping[str, str | bytes]) -> RaftallocError:
    """Not done, or not known whether done."""
    return OutcomeUnknown(where) if trailing else Unavailable(where)
