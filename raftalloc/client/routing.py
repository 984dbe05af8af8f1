"""Which replica to ask: the leader where it is known, else one after the other.

Every answer names the leader in its trailing metadata, so a client that has been answered once goes to the leader
directly and saves the hop. An address that failed is passed over for AVOID_S, also as a leader: a follower may go on
naming a leader that is dead until the next election.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.client.statuses import LEADER
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raftalloc.client.transport import Transport

AVOID_S: Final = 0.5
ADDRESSES_MAX: Final = 32
"""Endpoints that were given, and leaders heard of beside them."""


class Router:
    """The addresses of a group and a transport to each. Not for several event loops at once."""

    def __init__(
        self,
        endpoints: Sequence[str],
        connect: Callable[[str], Transport],
        now: Callable[[], float],
    ) -> None:
        """`endpoints`: host:port, asked in this order. `connect` makes a transport. `now`: monotonic seconds."""
        if not endpoints:
            raise InvalidRequest("endpoints", "is empty", 'give one at least: "127.0.0.1:7001"')
        self._endpoints = list(dict.fromkeys(endpoints))
        self._connect = connect
        self._now = now
        self._transports: dict[str, Transport] = {}
        self._avoid_until: dict[str, float] = {}
        self._next = 0
        self.leader = ""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses that were given."""
        return tuple(self._endpoints)

    def pick(self) -> str:
        """The address to ask next: the leader unless it just failed, else the current endpoint that did not."""
        if self.leader and not self._avoided(self.leader):
            return self.leader
        for offset in range(len(self._endpoints)):
            endpoint = self._endpoints[(self._next + offset) % len(self._endpoints)]
            if not self._avoided(endpoint):
                return endpoint
        return self._endpoints[self._next % len(self._endpoints)]

    def any(self) -> str:
        """An address for a read that any replica may answer; they take turns."""
        self._next = (self._next + 1) % len(self._endpoints)
        for offset in range(len(self._endpoints)):
            endpoint = self._endpoints[(self._next + offset) % len(self._endpoints)]
            if not self._avoided(endpoint):
                return endpoint
        return self._endpoints[self._next]

    def transport(self, address: str) -> Transport:
        """The transport to an address, made when first asked for."""
        transport = self._transports.get(address)
        if transport is None:
            transport = self._transports[address] = self._connect(address)
        return transport

    def heard(self, address: str, trailing: Mapping[str, str | bytes]) -> None:
        """An answer came from there, with these trailing metadata."""
        self._avoid_until.pop(address, None)
        leader = trailing.get(LEADER)
        if isinstance(leader, str) and leader:
            self.leader_is(leader)

    def leader_is(self, leader: str) -> None:
        """A replica named this leader. Names that are no address, and too many of them, are not believed."""
        if leader == self.leader:
            return
        known = leader in self._transports or leader in self._endpoints
        if known or (len(self._transports) < ADDRESSES_MAX and is_endpoint(leader)):
            self.leader = leader

    def failed(self, address: str) -> None:
        """Nobody answered there, or a replica that has no leader did: others first."""
        self._avoid_until[address] = self._now() + AVOID_S
        if self.leader == address:
            self.leader = ""
        if self._endpoints[self._next % len(self._endpoints)] == address:
            self._next = (self._next + 1) % len(self._endpoints)

    @property
    def all_failed(self) -> bool:
        """Whether every endpoint failed a moment ago: then it is time to pause."""
        return all(self._avoided(endpoint) for endpoint in self._endpoints)

    async def close(self) -> None:
        """Close every transport."""
        transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            await transport.close()

    def _avoided(self, address: str) -> bool:
        """Whether the address failed a moment ago."""
        until = self._avoid_until.get(address)
        return until is not None and self._now() < until


def is_endpoint(text: str) -> bool:
    """Whether `text` has the form host:port."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and len(port) <= 5):
        return False
    return 0 < int(port) < 65536 and all(c.isalnum() or c in ".-_:[]" for c in host)


def check_endpoint(text: str) -> str:
    """The address, if it has the form host:port. Raises InvalidRequest."""
    if not isinstance(text, str) or not is_endpoint(text):
        raise InvalidRequest("endpoints", f"{text!r} is no address", 'write "127.0.0.1:7001"')
    return text
