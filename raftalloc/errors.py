"""Exceptions that cross a package border.

    RaftallocError
    ├─ InvalidRequest        INVALID_ARGUMENT     the request could never be meant; `field` and `remedy` say why
    ├─ ConfigError           (no RPC)             cluster.toml or the environment; names file, line and key
    ├─ DataDirectoryError    (no RPC)             in use, of another group, of a newer format, damaged
    ├─ Unauthenticated       UNAUTHENTICATED
    ├─ Forbidden             PERMISSION_DENIED
    ├─ Rejected              by its code          a state-dependent "no"; carries the Rejection
    ├─ Compacted             OUT_OF_RANGE         the index asked for has left the store; `lowest_index`
    ├─ Unavailable           UNAVAILABLE          not done: retry
    │  ├─ NoLeader           UNAVAILABLE
    │  ├─ NotLeader          UNAVAILABLE          this replica is not it; `leader` may say who is
    │  └─ Overloaded         RESOURCE_EXHAUSTED   shed before it reached the log
    ├─ OutcomeUnknown        UNAVAILABLE          perhaps done: retry with the same idempotency
    └─ ReplicaFailed         INTERNAL             this replica has stopped itself after a bug or a disk fault

Every "no" is a Rejection, every fault one of these, every bug an assertion that stops the replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class RaftallocError(Exception):
    """Base of everything raftalloc raises on purpose."""


class InvalidRequest(RaftallocError):
    """The request is malformed whatever the state. `field` is its path (`resources.cpu`), `remedy` one sentence."""

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        """Build the sentence `field: problem; remedy`."""
        super().__init__(f"{field}: {problem}" + (f"; {remedy}" if remedy else ""))
        self.field = field
        self.problem = problem
        self.remedy = remedy


class ConfigError(RaftallocError):
    """The configuration cannot be used."""


class DataDirectoryError(RaftallocError):
    """The data directory cannot be used; nothing in it was changed."""


class Unauthenticated(RaftallocError):
    """The caller did not prove who it is."""


class Forbidden(RaftallocError):
    """The caller may not do this."""


class Rejected(RaftallocError):
    """The state of the group says no. `code`, `field`, `numbers` as in the Rejection, `remedy` in words."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str = "",
        remedy: str = "",
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        """Carry a Rejection across a border where only exceptions pass."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy
        self.numbers = dict(numbers or {})


class Compacted(RaftallocError):
    """The index asked for is no longer kept; `lowest_index` is the lowest that is."""

    def __init__(self, asked_index: int, lowest_index: int) -> None:
        """Name both indices."""
        super().__init__(f"index {asked_index} is compacted; the lowest kept is {lowest_index}")
        self.asked_index = asked_index
        self.lowest_index = lowest_index


class Unavailable(RaftallocError):
    """Not done, and surely so: it may be tried again."""


class NoLeader(Unavailable):
    """No replica leads at the moment."""


class NotLeader(Unavailable):
    """This replica does not lead. `leader` is the address of the one that does, or empty."""

    def __init__(self, leader: str = "") -> None:
        """Name the leader where it is known."""
        super().__init__(f"not the leader; the leader is {leader or 'not known'}")
        self.leader = leader


class Overloaded(Unavailable):
    """Shed before it reached the log, since too much is waiting."""


class OutcomeUnknown(RaftallocError):
    """It may have been done: ask again with the same idempotency."""


class ReplicaFailed(RaftallocError):
    """This replica has stopped itself."""
