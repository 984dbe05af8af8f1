"""ResourceManager: allocation as a user of Python sees it, in whole units, embedded or against a group.

asynchronous.py   ResourceManager
synchronous.py    SyncResourceManager, the same for code without an event loop
"""

from __future__ import annotations

from raftalloc.manager.asynchronous import ResourceManager
from raftalloc.manager.synchronous import SyncAllocation, SyncResourceManager

__all__ = ["ResourceManager", "SyncAllocation", "SyncResourceManager"]
