"""A state that is taken back to an index: the newest snapshot at or below it, and the fold of the blocks behind it.

This is the side of a past state that does the work: it runs in a process of its own (service/past.py feeds it), holds
one state at a time, and reads nothing but snapshots. Every block's chain is checked on the way, as at a restart, so a
past state is the state that was, or an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from raftalloc.core import codec
from raftalloc.core.state import State
from raftalloc.errors import DataDirectoryError
from raftalloc.service.recovery import Manifest, fold_block

if TYPE_CHECKING:
    from collections.abc import Sequence


class SnapshotDirectory(Protocol):
    """Where snapshots are found: whole ones, each index with its state and manifest."""

    def indices(self) -> list[int]:
        """Newest first."""

    def load_at(self, index: int) -> tuple[int, bytes, bytes] | None:
        """The newest at or below an index."""


class MissingBlocks(Exception):
    """The block at `index` does not continue the state: those between have left the store."""

    def __init__(self, index: int) -> None:
        """Name the block."""
        super().__init__(f"nothing leads to the block at index {index}")
        self.index = index


class Rewound:
    """One state, at the index that was last asked for."""

    def __init__(self, snapshots: SnapshotDirectory) -> None:
        """At the beginning."""
        self._snapshots = snapshots
        self.state = State.genesis()
        self.chain: bytes = codec.CHAIN_START

    def rewind(self, index: int) -> int:
        """Stand at or below `index`; answers where: blocks from the next index on are to be folded."""
        here = self.state.index
        nearest = next((each for each in self._snapshots.indices() if each <= index), 0)
        if nearest <= here <= index:
            return here
        self.forget()
        found = self._snapshots.load_at(index)
        if found is not None:
            self._load(*found)
        return self.state.index

    def fold(self, blocks: Sequence[tuple[int, bytes]], until: int) -> None:
        """Come forward by the blocks up to an index; the first one behind it must continue them too.

        Raises MissingBlocks, DataDirectoryError; then it stands at the beginning again.
        """
        for index, data in blocks:
            previous = self.chain
            if index > until:
                self._check_missing(previous, index, data)
                return
            try:
                self.chain = fold_block(self.state, previous, index, data)
            except DataDirectoryError:
                self._check_missing(previous, index, data)
                self.forget()
                raise

    def forget(self) -> None:
        """Stand at the beginning, and hold nothing."""
        self.state, self.chain = State.genesis(), codec.CHAIN_START

    def fork(self) -> State:
        """A copy that has nothing in common with the state: O(state)."""
        return codec.decode_state(codec.encode_state(self.state))

    def _check_missing(self, chain: bytes, index: int, data: bytes) -> None:
        if not _continues(chain, data):
            self.forget()
            raise MissingBlocks(index)

    def _load(self, index: int, data: bytes, manifest_bytes: bytes) -> None:
        try:
            manifest = Manifest.decode(manifest_bytes)
            state = codec.decode_state(data)
        except (ValueError, KeyError, TypeError) as error:
            raise DataDirectoryError(
                f"the snapshot at index {index} cannot be read: {error}"
            ) from error
        if not manifest.index == index == state.index:
            raise DataDirectoryError(f"the snapshot at index {index} does not fit its manifest")
        self.state, self.chain = state, bytes.fromhex(manifest.chain)


def _continues(chain: bytes, data: bytes) -> bool:
    """Whether a block is the one behind `chain`. One that cannot be read is not missing: it is damaged."""
    try:
        block = codec.decode_block(data)
    except ValueError:
        return True
    return codec.next_chain(chain, block.index, block.entry, block.events) == block.chain
