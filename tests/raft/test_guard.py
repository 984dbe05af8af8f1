"""pysyncobj is as it was when its private methods were last read."""

from __future__ import annotations

import pytest
from pysyncobj import SyncObj
from pysyncobj.version import VERSION

from raftalloc.errors import ConfigError
from raftalloc.raft import guard

RELIED_ON = (
    SyncObj.__init__,
    SyncObj._SyncObj__applyLogEntries,
    SyncObj._SyncObj__deleteEntriesFrom,
    SyncObj._SyncObj__generateRaftTimeout,
    SyncObj._SyncObj__getEntries,
    SyncObj._SyncObj__onBecomeLeader,
    SyncObj._SyncObj__onMessageReceived,
    SyncObj._SyncObj__sendAppendEntries,
    SyncObj._SyncObj__sendNextNodeIdx,
    SyncObj._SyncObj__setCurrentTerm,
    SyncObj._SyncObj__setState,
    SyncObj._SyncObj__tryLogCompaction,
    SyncObj._applyCommand,
    SyncObj._checkCommandsToApply,
    SyncObj._doDestroy,
    SyncObj._onTick,
    SyncObj.transferLeadership,
)


def test_what_we_override_call_or_read_has_not_changed():
    changed = guard.changed(RELIED_ON)
    assert changed == [], (
        f"read these again, then bring FINGERPRINTS up to date: {guard.fingerprints(RELIED_ON)}"
    )


def test_the_pinned_version_is_installed():
    guard.check_version(VERSION)


def test_another_version_is_refused_with_the_command_that_helps():
    with pytest.raises(ConfigError, match=r"pip install pysyncobj==0\.3\.17"):
        guard.check_version("0.3.18")


def test_a_changed_method_is_named():
    def other() -> None:
        """Not what was read."""

    other.__qualname__ = SyncObj._onTick.__qualname__
    methods = tuple(other if method is SyncObj._onTick else method for method in RELIED_ON)
    assert guard.changed(methods) == [SyncObj._onTick.__qualname__]
