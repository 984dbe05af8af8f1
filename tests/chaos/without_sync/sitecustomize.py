"""On the path of a replica, Python imports this before anything else: a disk that says it has synced, and has not.

Only for `scripts/chaos --faults power --without-sync`, the proof that its account can fail. What is synced once, as
identities and names of files are, and what RocksDB syncs by itself, is left alone.
"""

from __future__ import annotations

import os


def _not(_descriptor: int) -> None:
    """It takes no time, too."""


os.fdatasync = _not  # type: ignore[assignment]  # the same, for a descriptor that is a number
