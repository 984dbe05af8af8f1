"""How what is proposed gets into a leader's log: all that came since the last tick at once.

pysyncobj takes its commands one by one from a queue with a lock, and asks the clock for each; at 64 proposals a tick
that was a third of what a leader spent on an entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftalloc.raft.quorum import LEADER, Quorum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Answer = Callable[[Any, int], None]

PROPOSALS_MAX: Final = 100_000
"""That wait for a tick; more are refused."""


class Proposing(Quorum):
    """The part of a SyncObj that takes proposals. Names beginning with `_SyncObj__` are pysyncobj's own."""

    _SyncObj__commandsWaitingCommit: dict[int, list[tuple[int, Answer]]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._proposed: list[tuple[bytes, Answer]] = []
        super().__init__(*arguments, **options)

    def put_in_line(self, command: bytes, answer: Answer) -> bool:
        """For the next tick; False where too many wait. `answer`: called with a result and a reason."""
        if len(self._proposed) >= PROPOSALS_MAX:
            return False
        self._proposed.append((command, answer))
        return True

    def take_commands(self) -> None:
        """Append what was proposed, and send it at once; refuse it, where this replica does not lead."""
        if not self._proposed:
            return
        proposed, self._proposed = self._proposed, []
        if self._SyncObj__raftState != LEADER:
            self.refuse([answer for _, answer in proposed])
            return
        term, waiting = self._SyncObj__raftCurrentTerm, self._SyncObj__commandsWaitingCommit
        first = self._SyncObj__raftLog.extend([command for command, _ in proposed], term)
        for index, (_, answer) in enumerate(proposed, first):
            waiting[index] = [(term, answer)]
        self._SyncObj__sendAppendEntries()

    def refuse(self, answers: Sequence[Answer]) -> None:
        """Tell them that nothing was done, since this replica does not lead."""
        raise NotImplementedError
