"""A process with one Replica of ours and nothing above it, for the Raft bench. Started by raft.py."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

from raftalloc.raft.timing import DEFAULT_TIMING
from raftalloc.security.contexts import TlsContexts
from raftalloc.security.files import TlsFiles
from tests.bench.children import answer_lines, own_cpu_seconds
from tests.bench.proposing import load
from tests.raft.replicas import Group


class _Member(Group):
    """One of a group whose others are other processes: certificates are made before, by who starts them all."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(
            Path(options["directory"]), len(options["ports"]), options["ports"], tls=False
        )
        self._files = TlsFiles(*options["tls"])

    def contexts(self, _replica_id: str) -> TlsContexts:
        return TlsContexts(self._files)


class _Count(list[tuple[int, bytes]]):
    """How many were applied, and not which: a bench must not grow."""

    def append(self, _item: tuple[int, bytes]) -> None:
        """It is enough to have been called."""


async def main(options: dict[str, Any]) -> None:
    """Join the group; answer until stdin ends."""
    me = options["me"]
    group = _Member(options)
    group.applied[me] = _Count()
    group.heard[me] = _Heard()
    replica = group.make(me, DEFAULT_TIMING)
    await replica.start()
    gc.freeze()

    async def answer(what: str, arguments: dict[str, Any]) -> Any:
        if what == "load":
            return await load(replica.propose, **arguments)
        if what == "cpu":
            return own_cpu_seconds()
        return {
            "leads": replica.is_leader,
            "leader": replica.leader_id,
            "applied": replica.applied_index,
        }

    await answer_lines(answer)
    await replica.stop()


class _Heard(list[int]):
    """Heartbeats are heard and not kept."""

    def append(self, _item: int) -> None:
        """It is enough to have been called."""


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
