"""What replicas tell each other once a second beside Raft: their digests, and what they understand.

A message is msgpack: a map from short names to values. Names that are not known are passed over, so that replicas of
different versions can talk; what is malformed is dropped, since nothing depends on any one message.

    v   version of the software             d   [[index, sort, digest], ...]: the newest checkpoints (`digests.py`)
    r   highest rules version it knows      c   how it writes state: content digests are comparable only where equal
    s   [[index, why], ...]: entries that it skips (`skips.py`)
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgpack

from raftalloc.core import codec
from raftalloc.core.state import RULES_VERSION, State
from raftalloc.service.digests import CHAIN, CONTENT, DIGEST_BYTES
from raftalloc.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftalloc.service.digests import Digests
    from raftalloc.service.skips import Skips

logger = get_logger(__name__)

GOSSIP_BYTES_MAX: Final = 16 << 10
CHECKPOINTS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """What another replica last said of itself."""

    version: str
    rules: int


class Gossip:
    """Puts together what this replica says, and takes in what others say."""

    def __init__(self, *, digests: Digests, skips: Skips, version: str) -> None:
        """`version`: of this software."""
        self.peers: dict[str, Peer] = {}
        """By replica id; who never spoke since this process began is not there."""
        self.digests = digests
        self.skips = skips
        self._version = version
        self._writing = writing()

    def without_rules(self, version: int, members: Iterable[str]) -> list[str]:
        """Those of the other members that do not know these rules, or have not said yet which they know."""
        return sorted(
            name for name in members if name not in self.peers or self.peers[name].rules < version
        )

    def say(self) -> bytes:
        """A message for all others; called once a second."""
        self.digests.look()
        self.skips.look()
        return _pack(
            {
                "v": self._version,
                "r": RULES_VERSION,
                "c": self._writing,
                "d": [list(each) for each in self.digests.newest()],
                "s": [list(each) for each in self.skips.known().items()],
            }
        )

    def hear(self, replica_id: str, data: bytes) -> None:
        """Another replica's message."""
        try:
            said = _unpack(data)
            self.peers[replica_id] = Peer(str(said["v"]), int(said["r"]))
            checkpoints = _checkpoints(said["d"])
            skips = {int(index): str(why) for index, why in said.get("s", [])}
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("gossip that cannot be read", replica=replica_id, reason=repr(error))
            return
        self.skips.hear(replica_id, skips)
        for index, sort, digest in checkpoints:
            if sort == CHAIN or said.get("c") == self._writing:
                self.digests.hear(replica_id, index, sort, digest)


def writing() -> bytes:
    """8 bytes that differ between builds that write a state with other columns."""
    return blake2b(codec.encode_state(State.genesis()), digest_size=8).digest()


def _pack(said: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(said, use_bin_type=True)
    return packed


def _unpack(data: bytes) -> dict[str, Any]:
    """Raises ValueError, TypeError."""
    if len(data) > GOSSIP_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes")
    try:
        said = msgpack.unpackb(data, raw=False)
    except msgpack.UnpackException as error:
        raise ValueError(repr(error)) from error
    if not isinstance(said, dict):
        raise TypeError("no map")
    return said


def _checkpoints(said: Any) -> list[tuple[int, int, bytes]]:
    """Raises ValueError, TypeError."""
    found: list[tuple[int, int, bytes]] = []
    for index, sort, digest in said:
        well = isinstance(index, int) and index > 0 and sort in (CHAIN, CONTENT)
        if not well or not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
            raise ValueError("no checkpoint")
        found.append((index, sort, digest))
    return found[:CHECKPOINTS_MAX]
