"""What a follower does when the link to its leader breaks: it does not wait for the silence to become long.

A process that is killed leaves closed connections behind, within a millisecond; an election timeout would only find out
a third of a second later. So a lost link brings the election forward to a fifth of a timeout. That is long enough for a
leader that lives to dial again, and spread enough that two followers seldom stand at once; who is asked for support
meanwhile lets the other go first.

Nothing is decided here: before it stands, a replica asks whether anybody would vote for it (handlers.py), and whoever
still hears the leader says no. A link that breaks between two of three costs a question, and no term.
"""

from __future__ import annotations

from typing import Any, Final

from raftalloc.raft.handlers import Handlers, Message
from raftalloc.raft.quorum import FOLLOWER

SHARE: Final = 0.2
"""Of a drawn election timeout: 60 to 120 ms where that is 300 to 600."""


class Orphaned(Handlers):
    """The part of a SyncObj that notices. Names beginning with `_SyncObj__` are pysyncobj's own."""

    def link_lost(self, node: Any) -> None:
        """The link to `node` has closed. Whoever drives this replica must let it tick, to set its timer anew."""
        if (
            node == self._SyncObj__raftLeader
            and self._SyncObj__raftState == FOLLOWER
            and not self._SyncObj__transferInProgress
        ):
            self._heard_at = float("-inf")
            soon = self._soon()
            self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, soon)

    def _on_pre_vote_asked(self, node: Any, message: Message) -> None:
        """Two that stand at the same time take each other's votes, and nobody wins."""
        super()._on_pre_vote_asked(node, message)
        if self._SyncObj__raftState == FOLLOWER and self._has_all_of_ours(message):
            later = max(self._SyncObj__raftElectionDeadline, self._soon())
            self._SyncObj__raftElectionDeadline = later

    def _soon(self) -> float:
        return self.now() + SHARE * self._SyncObj__generateRaftTimeout()
