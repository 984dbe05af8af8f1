"""What we rely on inside pysyncobj, pinned: its version at start, the source of the methods in a test.

pysyncobj has no seams for most of what `replica.py` needs, so that module overrides and calls private methods. A new
release may change them without a word; then `tests/raft/test_guard.py` fails and names the method, and someone reads it
again before `FINGERPRINTS` is brought up to date.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Final

from raftalloc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PYSYNCOBJ_VERSION: Final = "0.3.17"

FINGERPRINTS: Final[Mapping[str, str]] = {
    "SyncObj.__applyLogEntries": "073db677773b5a2d",
    "SyncObj.__deleteEntriesFrom": "3b23c411bb903d36",
    "SyncObj.__getEntries": "e29c4b33293b2101",
    "SyncObj.__generateRaftTimeout": "92ed37d3620e781a",
    "SyncObj.__init__": "09df12cd7fd7d727",
    "SyncObj.__onBecomeLeader": "5a3fd97bc17dc1cf",
    "SyncObj.__onMessageReceived": "ddfe34b6c0282179",
    "SyncObj.__sendAppendEntries": "9cb9073128c392fa",
    "SyncObj.__sendNextNodeIdx": "68aaeefc267b8896",
    "SyncObj.__setCurrentTerm": "0ad5bf456ac06bd3",
    "SyncObj.__setState": "2c1f239f7bd79b39",
    "SyncObj.__tryLogCompaction": "c2f8a0ec14cc7312",
    "SyncObj._applyCommand": "827f207d515b2d64",
    "SyncObj._checkCommandsToApply": "a386a8079361d204",
    "SyncObj._doDestroy": "8a6c9f892614a4b9",
    "SyncObj._onTick": "cc9eb08232d005ba",
    "SyncObj.transferLeadership": "c3ac67963962d9aa",
}
"""Qualified name -> first 16 hex digits of the SHA-256 of the method's source."""


def check_version(found: str) -> None:
    """Refuse to run on a pysyncobj that nobody has read."""
    if found != PYSYNCOBJ_VERSION:
        raise ConfigError(
            f"pysyncobj {found} is installed, raftalloc needs exactly {PYSYNCOBJ_VERSION}; "
            f"run: pip install pysyncobj=={PYSYNCOBJ_VERSION}"
        )


def fingerprints(methods: tuple[Callable[..., object], ...]) -> dict[str, str]:
    """What the methods look like here."""
    return {
        method.__qualname__: hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]
        for method in methods
    }


def changed(methods: tuple[Callable[..., object], ...]) -> list[str]:
    """Names of those that are not as they were when they were last read, sorted; new ones included."""
    found = fingerprints(methods)
    names = found.keys() | FINGERPRINTS.keys()
    return sorted(name for name in names if found.get(name) != FINGERPRINTS.get(name))
