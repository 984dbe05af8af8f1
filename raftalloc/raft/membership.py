"""Who is in the group: configurations, their bytes in the log, and the changes there are.

A configuration is the list of seats. It stands whole in an entry of Raft's own kind (first byte 2), counts from the
moment it is appended, and no longer once it is cut off. One change differs from the configuration before it by one vote
at most, so any two majorities of neighbours have a member in common (Raft dissertation, 4.1); a new replica learns
without a vote first (4.2.1). The seat is given to a data directory, known by its incarnation, and not to a name: a
replica that comes back with an empty disk has voted and acknowledged what it does not remember.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgpack

from raftalloc.errors import DataDirectoryError, InvalidRequest, Rejected
from raftalloc.ports import Seat

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBERSHIP: Final = b"\x02"
"""First byte of the entry that holds a configuration."""
VOTERS_MAX: Final = 7
SEATS_MAX: Final = 9
INCARNATION_BYTES: Final = 16

UNKNOWN_REPLICA: Final = "UNKNOWN_REPLICA"
REPLICA_EXISTS: Final = "REPLICA_EXISTS"
LAST_VOTER: Final = "LAST_VOTER"
TOO_MANY_REPLICAS: Final = "TOO_MANY_REPLICAS"
QUORUM_AT_RISK: Final = "QUORUM_AT_RISK"
CHANGE_UNDER_WAY: Final = "CHANGE_UNDER_WAY"

_FORMAT: Final = 1
Seats = tuple[Seat, ...]
"""Of all members, by replica id."""


def encode(seats: Seats) -> bytes:
    """A configuration as the log and snapshots have it."""
    rows = [
        [seat.replica_id, seat.raft, seat.grpc, seat.http, seat.is_voter, seat.incarnation]
        for seat in seats
    ]
    packed: bytes = msgpack.packb([_FORMAT, rows])
    return packed


def decode(data: bytes) -> Seats:
    """Raises DataDirectoryError; later versions may append to the list and to a seat."""
    try:
        _, rows, *_ = msgpack.unpackb(data)
        return tuple(Seat(*row[:6]) for row in rows)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DataDirectoryError(
            "a configuration of the group in the Raft log cannot be read; it was written by another version"
        ) from error


def seat_of(seats: Seats, replica_id: str) -> Seat | None:
    """Of that replica, if it is a member."""
    return next((seat for seat in seats if seat.replica_id == replica_id), None)


def voters_of(seats: Seats) -> frozenset[str]:
    """Ids of those with a vote."""
    return frozenset(seat.replica_id for seat in seats if seat.is_voter)


def address_of(text: str) -> tuple[str, int]:
    """Host and port of host:port; ("", 0) of nothing. Raises InvalidRequest."""
    host, _, port = text.rpartition(":")
    if not text:
        return "", 0
    if not host or not port.isdecimal():
        raise InvalidRequest("raft_address", f"{text!r} is not host:port", "name both")
    return host, int(port)


def seats_of(peers: Mapping[str, tuple[str, int]]) -> Seats:
    """Voters at these Raft addresses, of which nothing else is known."""
    return tuple(
        Seat(name, f"{host}:{port}" if host else "", "", "", is_voter=True, incarnation=b"")
        for name, (host, port) in sorted(peers.items())
    )


def added(seats: Seats, newcomer: Seat) -> Seats:
    """With one more, who learns first. Raises Rejected, InvalidRequest."""
    if seat_of(seats, newcomer.replica_id) is not None:
        raise Rejected(
            REPLICA_EXISTS,
            f"{newcomer.replica_id} is a member already",
            field="replica_id",
            remedy="choose another id, or replace that one",
        )
    if len(seats) >= SEATS_MAX or len(voters_of(seats)) >= VOTERS_MAX:
        raise Rejected(
            TOO_MANY_REPLICAS,
            f"{len(seats)} replicas, {VOTERS_MAX} may vote",
            field="replica_id",
            remedy="remove one first",
        )
    taken = {
        address: seat.replica_id for seat in seats for address in (seat.raft, seat.grpc, seat.http)
    }
    for name in ("raft", "grpc", "http"):
        address = getattr(newcomer, name)
        if address and address in taken:
            problem = f"{address} is already an address of {taken[address]}"
            raise InvalidRequest(name, problem, "give the new replica addresses of its own")
    learner = replace(newcomer, is_voter=False, incarnation=b"")
    return _in_order((*seats, learner))


def removed(seats: Seats, replica_id: str) -> Seats:
    """Without that one. Raises Rejected."""
    seat = _known(seats, replica_id)
    if seat.is_voter and len(voters_of(seats)) == 1:
        raise Rejected(
            LAST_VOTER,
            f"{replica_id} is the last with a vote",
            field="replica_id",
            remedy="add another first, and wait until it votes",
        )
    return tuple(each for each in seats if each is not seat)


def replaced(seats: Seats, replica_id: str) -> Seats:
    """The seat is for the data directory that comes next, which learns first. Raises Rejected."""
    seat = _known(seats, replica_id)
    removed(seats, replica_id)
    return _in_order(
        (
            *(each for each in seats if each is not seat),
            replace(seat, is_voter=False, incarnation=b""),
        )
    )


def promoted(seats: Seats, replica_id: str, incarnation: bytes) -> Seats:
    """The learner in that data directory votes from now on. Raises Rejected."""
    seat = _known(seats, replica_id)
    return _in_order(
        (
            *(each for each in seats if each is not seat),
            replace(seat, is_voter=True, incarnation=incarnation),
        )
    )


def _known(seats: Seats, replica_id: str) -> Seat:
    seat = seat_of(seats, replica_id)
    if seat is None:
        there = ", ".join(each.replica_id for each in seats)
        raise Rejected(
            UNKNOWN_REPLICA,
            f"{replica_id!r} is no member",
            field="replica_id",
            remedy=f"there are {there}",
        )
    return seat


def _in_order(seats: Seats) -> Seats:
    return tuple(sorted(seats, key=lambda seat: seat.replica_id))
