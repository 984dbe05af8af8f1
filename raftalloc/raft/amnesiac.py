"""A state machine that neither gives nor takes snapshots: its group keeps the whole log. For tests of Raft alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.ports import Image


class Amnesiac:
    """A `ports.Machine` without snapshots."""

    def installed(self) -> Image | None:
        """None ever is."""
        return None

    def begin(self, first_index: int) -> int:
        """Nothing is forgotten without a snapshot."""
        return first_index - 1

    async def image(self, at_least: int) -> Image | None:  # noqa: ARG002 - the port's signature
        """There is none."""
        return None

    async def keep(self, image: Image) -> None:
        """Nobody sends one."""
        raise AssertionError(f"a snapshot at index {image.index} for a machine that takes none")

    def adopt(self, image: Image) -> None:
        """Nobody sends one."""
        raise AssertionError(f"a snapshot at index {image.index} for a machine that takes none")
