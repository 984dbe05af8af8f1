"""Who may knock: a bound on how often an address may try, so that strangers cost next to nothing.

A handshake costs about a millisecond of CPU; taking a connection and closing it at once, some microseconds. Each
address (IPv6: each /64) has a bucket of tokens; members that restart need a few, strangers that try thousands of times
find it empty. Those who flood from a member's own address can put off that member's next connection as long as they go
on, but touch no link that is there.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftalloc.ports import Clock

BURST: Final = 64.0
PER_SECOND: Final = 32.0
ADDRESSES_MAX: Final = 4_096


class Doorman:
    """Remembers the addresses that tried lately."""

    def __init__(self, clock: Clock) -> None:
        """Nobody has tried yet."""
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, address: str) -> bool:
        """Whether another try of this address may go on to a handshake. O(1)."""
        now = self._clock.monotonic()
        key = _key_of(address)
        tokens, at = self._buckets.pop(key, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * PER_SECOND)
        admitted = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if admitted else tokens, now)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return admitted


def _key_of(address: str) -> str:
    if ":" not in address:
        return address
    bits = int(ipaddress.IPv6Address(address.partition("%")[0])) >> 64
    return f"{bits:x}/64"
