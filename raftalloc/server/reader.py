"""The process of a reader: it holds one past state, and answers from it (service/past.py is its other side).

    python -m raftalloc.server.reader EVENTS_DIRECTORY POLICY

Both sides speak frames of msgpack over pipes: [method, arguments] there, [what is said, result] back, one at a time.
It reads the snapshots in EVENTS_DIRECTORY by itself, which are never changed, and is given the blocks. It runs at a
low priority, so that a replica goes first, may take a bounded amount of memory, and ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import msgpack

from raftalloc.core.codec import content_digest
from raftalloc.core.commands import POLICY_NAMES
from raftalloc.server.explaining import explain_decision
from raftalloc.server.still import StillReads, refusal_of
from raftalloc.service.past import ANSWERED
from raftalloc.service.rewind import MissingBlocks, Rewound, SnapshotDirectory
from raftalloc.storage.snapshots import Snapshots
from raftalloc.system import SystemDisk, read_frame, write_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY_BYTES_MAX: Final = 8 << 30
"""Address space, of which libraries map more than they use."""
NICENESS: Final = 10


class Reader:
    """Answers frames. One state, one call at a time."""

    def __init__(self, snapshots: SnapshotDirectory, *, default_policy: int) -> None:
        """At the beginning of the log."""
        self._rewound = Rewound(snapshots)
        self._reads = StillReads(default_policy=default_policy)

    async def answer(self, method: str, arguments: Sequence[Any]) -> tuple[str, object]:
        """What one frame is answered with."""
        try:
            return ANSWERED, await self._answer(method, *arguments)
        except MemoryError as error:
            self._rewound.forget()
            return "MemoryError", (str(error), b"")
        except Exception as error:  # noqa: BLE001 - the boundary of the process: the other side raises it
            return refusal_of(error)

    async def _answer(self, method: str, *arguments: Any) -> object:
        match method:
            case "rewind":
                return self._rewound.rewind(*arguments)
            case "fold":
                return self._fold(*arguments)
            case "read":
                self._reads.still.state = self._rewound.state
                self._reads.still.chain = self._rewound.chain
                return await self._reads.answer(*arguments)
            case "decision":
                return explain_decision(self._rewound.fork(), *arguments)
            case "digest":
                return content_digest(self._rewound.state).encode()
            case _:
                raise AssertionError(method)

    def _fold(self, blocks: Sequence[tuple[int, bytes]], until: int) -> int:
        """0, or the index of a block that does not continue what is here."""
        try:
            self._rewound.fold(blocks, until)
        except MissingBlocks as missing:
            return missing.index
        return 0


def main() -> None:
    """Serve until the input ends."""
    # Ctrl-C is for the replica, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    bound = MEMORY_BYTES_MAX if most == resource.RLIM_INFINITY else min(MEMORY_BYTES_MAX, most)
    resource.setrlimit(resource.RLIMIT_AS, (bound, most))
    # What a library prints must not get between the frames.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.stdin.fileno(), answers))


async def _serve(path: str, policy: str, asked: int, answers: int) -> None:
    """One call after the other; nothing else runs on this loop, so it may block."""
    policies = {name: number for number, name in POLICY_NAMES.items()}
    reader = Reader(Snapshots(SystemDisk(), f"{path}/snapshots"), default_policy=policies[policy])
    try:
        while (frame := read_frame(asked)) is not None:
            method, arguments = msgpack.unpackb(frame)
            write_frame(answers, msgpack.packb(await reader.answer(method, arguments)))
    except BrokenPipeError:
        return  # the replica ended between its question and our answer


if __name__ == "__main__":
    main()
