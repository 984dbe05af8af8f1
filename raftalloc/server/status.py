"""The one table from every "no" and every fault to a gRPC status; the client's counterpart is `client/statuses.py`.

Beside code and text a status carries trailing metadata: `raftalloc-error`, the name of the exception in
`raftalloc.errors`, so that a client tells "not done" from "perhaps done"; and where there are numbers or a field,
`raftalloc-rejection-bin`, a Rejection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grpc import StatusCode

from raftalloc.api.v1 import types_pb2
from raftalloc.core import rejections
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
from raftalloc.raft import membership

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftalloc.core.rejections import Rejection

LEADER: Final = "raftalloc-leader"
INDEX: Final = "raftalloc-index"
ERROR: Final = "raftalloc-error"
REJECTION: Final = "raftalloc-rejection-bin"

NO_OTHER_REPLICA: Final = "NO_OTHER_REPLICA"
"""The one refusal that the core does not decide: nobody is there to take the lead over."""

OF_REJECTION: Final[Mapping[str, StatusCode]] = {
    rejections.QUOTA_EXCEEDED: StatusCode.RESOURCE_EXHAUSTED,
    rejections.NO_CAPACITY: StatusCode.RESOURCE_EXHAUSTED,
    rejections.UNSATISFIABLE: StatusCode.FAILED_PRECONDITION,
    rejections.UNKNOWN_KIND: StatusCode.FAILED_PRECONDITION,
    rejections.WRONG_SCOPE: StatusCode.FAILED_PRECONDITION,
    rejections.LIMIT_REACHED: StatusCode.RESOURCE_EXHAUSTED,
    rejections.UNKNOWN_ALLOCATION: StatusCode.NOT_FOUND,
    rejections.ALREADY_ENDED: StatusCode.FAILED_PRECONDITION,
    rejections.LEASE_EXPIRED: StatusCode.FAILED_PRECONDITION,
    rejections.STALE_TOKEN: StatusCode.ABORTED,
    rejections.WRONG_OWNER: StatusCode.PERMISSION_DENIED,
    rejections.NOT_WAITING: StatusCode.FAILED_PRECONDITION,
    rejections.NO_LEASE: StatusCode.FAILED_PRECONDITION,
    rejections.UNKNOWN_NODE: StatusCode.NOT_FOUND,
    rejections.NODE_IN_USE: StatusCode.FAILED_PRECONDITION,
    rejections.NODE_STATE: StatusCode.FAILED_PRECONDITION,
    rejections.UNKNOWN_QUOTA: StatusCode.NOT_FOUND,
    rejections.QUOTA_IN_USE: StatusCode.FAILED_PRECONDITION,
    rejections.QUOTA_CYCLE: StatusCode.FAILED_PRECONDITION,
    rejections.UNKNOWN_RESERVATION: StatusCode.NOT_FOUND,
    rejections.RESERVATION_NOT_OPEN: StatusCode.FAILED_PRECONDITION,
    rejections.RESERVATION_EXHAUSTED: StatusCode.RESOURCE_EXHAUSTED,
    rejections.WINDOW_PAST: StatusCode.INVALID_ARGUMENT,
    rejections.KEY_EXPIRED: StatusCode.FAILED_PRECONDITION,
    rejections.KEY_REUSED: StatusCode.ALREADY_EXISTS,
    rejections.KEYS_EXHAUSTED: StatusCode.RESOURCE_EXHAUSTED,
    rejections.RULES_UNKNOWN: StatusCode.FAILED_PRECONDITION,
    rejections.NOT_RESIZABLE: StatusCode.FAILED_PRECONDITION,
    NO_OTHER_REPLICA: StatusCode.FAILED_PRECONDITION,
    membership.UNKNOWN_REPLICA: StatusCode.NOT_FOUND,
    membership.REPLICA_EXISTS: StatusCode.ALREADY_EXISTS,
    membership.LAST_VOTER: StatusCode.FAILED_PRECONDITION,
    membership.TOO_MANY_REPLICAS: StatusCode.RESOURCE_EXHAUSTED,
    membership.QUORUM_AT_RISK: StatusCode.FAILED_PRECONDITION,
    membership.CHANGE_UNDER_WAY: StatusCode.ABORTED,
}

# From the particular to the general: the first that fits holds.
OF_ERROR: Final[tuple[tuple[type[Exception], StatusCode], ...]] = (
    (InvalidRequest, StatusCode.INVALID_ARGUMENT),
    (Unauthenticated, StatusCode.UNAUTHENTICATED),
    (Forbidden, StatusCode.PERMISSION_DENIED),
    (Compacted, StatusCode.OUT_OF_RANGE),
    (Overloaded, StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, StatusCode.UNAVAILABLE),
    (OutcomeUnknown, StatusCode.UNAVAILABLE),
    (ReplicaFailed, StatusCode.INTERNAL),
    (TimeoutError, StatusCode.DEADLINE_EXCEEDED),
    (Exception, StatusCode.INTERNAL),
)


@dataclass(frozen=True, slots=True)
class Status:
    """How a call that failed is answered."""

    code: StatusCode
    text: str
    trailing: tuple[tuple[str, str | bytes], ...] = ()


class PassedOn(Exception):
    """The leader's own answer to a call that was forwarded: it is given on as it is."""

    def __init__(self, status: Status) -> None:
        """Carry it through the layers between."""
        super().__init__(status.text)
        self.status = status


def status_of(error: Exception) -> Status:
    """The status that says what `error` means to a caller. Of what is a bug of ours it says no more than that."""
    if isinstance(error, PassedOn):
        return error.status
    code = code_of(error)
    known = isinstance(error, (RaftallocError, TimeoutError))
    kind = "OutcomeUnknown" if isinstance(error, TimeoutError) else type(error).__name__
    trailing: list[tuple[str, str | bytes]] = [(ERROR, kind if known else "ReplicaFailed")]
    detail = detail_of(error)
    if detail is not None:
        trailing.append((REJECTION, detail.SerializeToString()))
    text = _text(error) if known else "internal error; the log of the replica has more"
    return Status(code, text or "the deadline is over", tuple(trailing))


def _text(error: Exception) -> str:
    """In words, with field and remedy: who calls by hand sees the text, and seldom the metadata."""
    if not isinstance(error, Rejected):
        return str(error)
    field = f"{error.field}: " if error.field else ""
    return f"{field}{error.message}" + (f"; {error.remedy}" if error.remedy else "")


def code_of(error: Exception) -> StatusCode:
    """Just the code."""
    if isinstance(error, Rejected):
        return OF_REJECTION[error.code]
    return next(code for kind, code in OF_ERROR if isinstance(error, kind))


def rejected(rejection: Rejection) -> Rejected:
    """A Rejection of the core, as the exception in which it crosses to the caller."""
    return Rejected(
        rejection.code,
        rejections.describe(rejection),
        field=rejection.field,
        remedy=rejections.remedy_of(rejection),
        numbers=dict(rejection.numbers),
    )


def rejection_message(rejection: Rejection) -> types_pb2.Rejection:
    """A Rejection of the core, as a message."""
    return types_pb2.Rejection(
        code=rejection.code,
        field=rejection.field,
        message=rejections.describe(rejection),
        remedy=rejections.remedy_of(rejection),
        numbers=dict(rejection.numbers),
    )


def detail_of(error: Exception) -> types_pb2.Rejection | None:
    """What is said in numbers and fields, where there are any."""
    if isinstance(error, Rejected):
        return types_pb2.Rejection(
            code=error.code,
            field=error.field,
            message=error.message,
            remedy=error.remedy,
            numbers=error.numbers,
        )
    if isinstance(error, InvalidRequest):
        return types_pb2.Rejection(
            code="INVALID_REQUEST", field=error.field, message=error.problem, remedy=error.remedy
        )
    if isinstance(error, Compacted):
        numbers = {"asked_index": error.asked_index, "lowest_index": error.lowest_index}
        return types_pb2.Rejection(code="COMPACTED", message=str(error), numbers=numbers)
    return None
