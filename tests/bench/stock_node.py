"""A process with one pysyncobj as it comes, for the Raft bench: `default` settings, or the `best` we know."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf, replicated

from tests.bench.children import answer_lines, own_cpu_seconds
from tests.bench.proposing import load

_NEVER: Final = 10**8
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "best": {
        "autoTick": False,
        "appendEntriesUseBatch": True,
        "appendEntriesPeriod": 0.001,
        "appendEntriesBatchSizeBytes": 1 << 20,
        "sendBufferSize": 1 << 21,
        "recvBufferSize": 1 << 21,
        "logCompactionMinEntries": _NEVER,
        "logCompactionMinTime": _NEVER,
    },
}
_TICK_SECONDS: Final = 0.001


class Bytes(SyncObj):  # type: ignore[misc]  # it has no types
    """Counts what it was given."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.count = 0

    @replicated
    def put(self, _payload: bytes) -> None:
        """An opaque command."""
        self.count += 1


async def main(options: dict[str, Any]) -> None:
    """Join the group; answer until stdin ends."""
    addresses = [f"127.0.0.1:{port}" for port in options["ports"]]
    row = "abc".index(options["me"])
    settings = SETTINGS[options["setting"]]
    conf = SyncObjConf(journalFile=f"{options['directory']}/{options['me']}.journal", **settings)
    node = Bytes(addresses[row], addresses[:row] + addresses[row + 1 :], conf=conf)
    if not settings.get("autoTick", True):
        threading.Thread(target=_tick, args=(node,), daemon=True).start()
    loop = asyncio.get_running_loop()

    async def propose(payload: bytes) -> None:
        """Asked again where it is refused: before there is a leader, or when a queue is full."""
        error = 1
        while error:
            answered: asyncio.Future[int] = loop.create_future()
            node.put(
                payload,
                callback=lambda _result, reason, to=answered: loop.call_soon_threadsafe(
                    to.set_result, reason
                ),
            )
            error = await answered

    async def answer(what: str, arguments: dict[str, Any]) -> Any:
        if what == "load":
            return await load(propose, **arguments)
        if what == "cpu":
            return own_cpu_seconds()
        leads = node._isLeader() and node.isReady()
        return {"leads": leads, "leader": str(node._getLeader() or ""), "applied": node.count}

    await answer_lines(answer)


def _tick(node: Bytes) -> None:
    while True:
        node.doTick(_TICK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
