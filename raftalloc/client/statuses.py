"""From a gRPC status to an exception of `raftalloc.errors`: the counterpart of `server/status.py`.

A replica names the exception in the trailing metadata `raftalloc-error`, and puts fields and numbers beside it. What
gRPC itself says, or something between us and the replica, has only a status:

    INVALID_ARGUMENT     InvalidRequest
    UNAUTHENTICATED      Unauthenticated
    PERMISSION_DENIED    Forbidden
    RESOURCE_EXHAUSTED   Overloaded, or InvalidRequest where the message is too large: to repeat it would not help
    UNAVAILABLE          Unavailable where it never reached the replica, else OutcomeUnknown: the connection broke
    DEADLINE_EXCEEDED    OutcomeUnknown
    CANCELLED, UNKNOWN   OutcomeUnknown, and INTERNAL: it is the connection's, since a replica names its exception
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
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    RaftallocError,
    Rejected,
    ReplicaFailed,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Trailing = Mapping[str, str | bytes]

LEADER: Final = "raftalloc-leader"
INDEX: Final = "raftalloc-index"
ERROR: Final = "raftalloc-error"
REJECTION: Final = "raftalloc-rejection-bin"
READ: Final = "raftalloc-read"

# What gRPC itself says when it never reached the replica: then nothing was done there.
_NEVER_SENT: Final = (
    "failed to connect",
    "connection refused",
    "dns resolution",
    "name resolution",
)

# What gRPC itself says when it turned a request away unread.
_TOO_LARGE: Final = "received message larger than max"

# Exceptions that are made of their text alone.
_PLAIN: Final[Mapping[str, type[RaftallocError]]] = {
    "Unauthenticated": Unauthenticated,
    "Forbidden": Forbidden,
    "Unavailable": Unavailable,
    "NoLeader": NoLeader,
    "Overloaded": Overloaded,
    "OutcomeUnknown": OutcomeUnknown,
    "ReplicaFailed": ReplicaFailed,
}
_BY_STATUS: Final[Mapping[grpc.StatusCode, type[RaftallocError]]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: OutcomeUnknown,
    grpc.StatusCode.CANCELLED: OutcomeUnknown,
    grpc.StatusCode.UNKNOWN: OutcomeUnknown,
    grpc.StatusCode.INTERNAL: OutcomeUnknown,
}


def trailing_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str | bytes]:
    """Trailing metadata by key; of a key given twice the last."""
    return {str(key): value for key, value in metadata or ()}


def error_of(error: grpc.aio.AioRpcError, address: str) -> RaftallocError:
    """The exception that says what `error`, from the replica at `address`, means for the caller."""
    code, text = error.code(), error.details() or ""
    trailing = trailing_of(error.trailing_metadata())
    where = f"{address}: {text or code.name}"
    make = _MAKERS.get(str(trailing.get(ERROR, "")))
    if make is not None:
        return make(text, trailing)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _is_too_large(text, trailing):
        return InvalidRequest("request", text, "send less at once: shorter names, smaller batches")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _is_answer_too_large(text, trailing):
        return OutcomeUnknown(
            f"{where}: carried out perhaps, and its answer is larger than we take"
        )
    plain = _PLAIN.get(str(trailing.get(ERROR, "")), _BY_STATUS.get(code))
    if plain is not None:
        return plain(where)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest("request", text or "is malformed")
    if code is grpc.StatusCode.UNAVAILABLE:
        unsent = any(sign in text.lower() for sign in _NEVER_SENT)
        return Unavailable(where) if unsent else OutcomeUnknown(where)
    return ReplicaFailed(f"{where} ({code.name})")


def _is_answer_too_large(text: str, trailing: Trailing) -> bool:
    """Whether our own gRPC refused the answer for its size."""
    said = text.lower()
    return ERROR not in trailing and _TOO_LARGE in said and said.startswith("client:")


def _is_too_large(text: str, trailing: Trailing) -> bool:
    """Whether the replica's gRPC refused the request for its size. CLIENT: it is the answer that was too large."""
    said = text.lower()
    return ERROR not in trailing and _TOO_LARGE in said and not said.startswith("client:")


def _rejection(trailing: Trailing) -> types_pb2.Rejection:
    """The Rejection in the trailing metadata; an empty one where there is none."""
    value = trailing.get(REJECTION)
    return types_pb2.Rejection.FromString(value if isinstance(value, bytes) else b"")


def _rejected(text: str, trailing: Trailing) -> RaftallocError:
    rejection = _rejection(trailing)
    return Rejected(
        rejection.code or "REJECTED",
        rejection.message or text,
        field=rejection.field,
        remedy=rejection.remedy,
        numbers=rejection.numbers,
    )


def _invalid(text: str, trailing: Trailing) -> RaftallocError:
    rejection = _rejection(trailing)
    return InvalidRequest(rejection.field or "request", rejection.message or text, rejection.remedy)


def _compacted(_: str, trailing: Trailing) -> RaftallocError:
    numbers = _rejection(trailing).numbers
    return Compacted(numbers.get("asked_index", 0), numbers.get("lowest_index", 0))


def _not_leader(_: str, trailing: Trailing) -> RaftallocError:
    return NotLeader(str(trailing.get(LEADER, "")))


# Exceptions that are made of more than their text.
_MAKERS: Final[Mapping[str, Callable[[str, Trailing], RaftallocError]]] = {
    "Rejected": _rejected,
    "InvalidRequest": _invalid,
    "Compacted": _compacted,
    "NotLeader": _not_leader,
}
