"""From what the event store holds to the state as it was: a snapshot, and the fold of the blocks behind it.

Every block's chain is checked on the way, so damage or a missing block is found and named, never folded over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core import codec, machine
from raftalloc.core.state import NewerRules, State
from raftalloc.errors import DataDirectoryError
from raftalloc.ports import Image

if TYPE_CHECKING:
    from raftalloc.ports import EventStore
    from raftalloc.service.gaps import Gaps

FORMAT: Final = 1
PAGE_BLOCKS: Final = 256
CHECKED_INDICES: Final = 256
"""How many of the latest indices are compared with what consensus brings again."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot says of itself. chain: hex, up to `index`; state_digest: of the state's bytes.

    term, members (hex): Raft's, as of the index, where the snapshot came from another replica; else 0 and empty.
    """

    format: int
    cluster_id: str
    index: int
    chain: str
    state_digest: str
    term: int = 0
    members: str = ""

    @classmethod
    def of(cls, *, cluster_id: str, index: int, chain: bytes, state: bytes) -> Manifest:
        """Of a state that is about to be written."""
        return cls(FORMAT, cluster_id, index, chain.hex(), _digest(state))

    def encode(self) -> bytes:
        """JSON, for people too."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The inverse; raises ValueError."""
        found = json.loads(data)
        if found["format"] > FORMAT:
            raise ValueError(f"format {found['format']}; this build reads up to {FORMAT}")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Recovered:
    """State and chain at the last stored index that can be reached; `entries`: index and entry of the latest blocks.

    installed: of the snapshot, if it came from another replica, without its state.
    """

    state: State
    chain: bytes
    snapshot_index: int
    entries: tuple[tuple[int, bytes], ...]
    installed: Image | None


async def recover(store: EventStore, gaps: Gaps, cluster_id: str) -> Recovered:
    """Read the store. Raises DataDirectoryError where it is damaged, of another cluster, or too new.

    Where the newest snapshot came from another replica and is gone, the state ends before the gap that it left.
    """
    state, chain, manifest = await _load_snapshot(store, cluster_id)
    snapshot_index = state.index
    await gaps.load()
    limit = gaps.limit(snapshot_index)
    _, highest = await store.bounds()
    if highest <= max(limit, snapshot_index):
        await gaps.cut(snapshot_index, chain)
    installed = _installed(manifest)
    if highest < snapshot_index and installed is None:
        raise DataDirectoryError(
            f"the event store ends at index {highest}, before its snapshot at {snapshot_index}; "
            "move the events directory away and restart: it is made again from the journal"
        )
    while page := await store.read(state.index + 1, PAGE_BLOCKS):
        within = [(index, data) for index, data in page if index <= limit]
        for index, data in within:
            chain = fold_block(state, chain, index, data)
        if len(within) < len(page):
            break
    latest = await store.read(max(1, state.index + 1 - CHECKED_INDICES), CHECKED_INDICES)
    entries = tuple(
        (index, codec.decode_block(data).entry) for index, data in latest if index <= state.index
    )
    return Recovered(state, chain, snapshot_index, entries, installed)


def _installed(manifest: Manifest | None) -> Image | None:
    if manifest is None or not manifest.term:
        return None
    members = bytes.fromhex(manifest.members)
    return Image(manifest.index, manifest.term, members, manifest=b"", state=b"")


async def _load_snapshot(
    store: EventStore, cluster_id: str
) -> tuple[State, bytes, Manifest | None]:
    found = await store.load_snapshot()
    if found is None:
        return State.genesis(), codec.CHAIN_START, None
    state, manifest = state_of(*found, cluster_id)
    return state, bytes.fromhex(manifest.chain), manifest


def state_of(
    index: int, data: bytes, manifest_bytes: bytes, cluster_id: str
) -> tuple[State, Manifest]:
    """The state in a snapshot, and what it says of itself. Raises DataDirectoryError."""
    try:
        manifest = Manifest.decode(manifest_bytes)
        state = codec.decode_state(data)
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(
            f"the snapshot at index {index} cannot be read: {error}"
        ) from error
    if manifest.cluster_id != cluster_id:
        raise DataDirectoryError(
            f"the snapshot at index {index} is of cluster {manifest.cluster_id!r}, not {cluster_id!r}"
        )
    if manifest.state_digest != _digest(data) or not manifest.index == index == state.index:
        raise DataDirectoryError(f"the snapshot at index {index} does not fit its manifest")
    return state, manifest


def fold_block(state: State, chain: bytes, index: int, data: bytes) -> bytes:
    """Bring the state forward by one block; answers the chain. Raises DataDirectoryError where it does not continue."""
    try:
        block = codec.decode_block(data)
        happened = codec.decode_events(block.events)
    except ValueError as error:
        raise DataDirectoryError(f"the event store is damaged at index {index}: {error}") from error
    chain = codec.next_chain(chain, index, block.entry, block.events)
    if block.index != index or block.chain != chain:
        raise DataDirectoryError(
            f"the event store is damaged at or before index {index}: its chain does not continue; "
            "move the events directory away and restart: it is made again from the journal"
        )
    try:
        machine.fold(state, happened, index=index, at_ms=block.at_ms)
    except NewerRules as error:
        raise DataDirectoryError(
            f"the event store, at index {index}: {error}; install the version that the other replicas run"
        ) from error
    except Exception as error:
        # What was decided does not fit what it was decided on: some bit was another one then.
        raise DataDirectoryError(
            f"the event store contradicts itself at index {index} ({error!r}); "
            "move the events directory away and restart: it is made again from the journal"
        ) from error
    return chain


def _digest(state: bytes) -> str:
    return hashlib.blake2b(state, digest_size=32).hexdigest()
