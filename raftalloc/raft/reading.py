"""Reads that see every write acknowledged before them, without an entry of their own (Raft dissertation, 6.4).

A leader may have been deposed without knowing it. So a read notes the commit index, waits until a majority has answered
a round of messages that was sent after the read began, and then until that index is applied. Every sending of
append_entries is a round: its number goes out with the messages and comes back with the answers. Readers share rounds:
who comes while one is under way waits for the next, which is sent as soon as that is confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raftalloc.raft.quorum import LEADER, Quorum

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class _Reader:
    """round: the first that confirms it."""

    round: int
    term: int
    index: int
    answer: Callable[[int, Exception | None], None]


class Reading(Quorum):
    """The part of a SyncObj that confirms its lead."""

    _SyncObj__raftLastApplied: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what SyncObj takes."""
        self._round = 0
        self._echoes: dict[Any, int] = {}
        self._readers: list[_Reader] = []
        super().__init__(*arguments, **options)

    def read(self, answer: Callable[[int, Exception | None], None]) -> None:
        """Call back with an index that is applied, and that no write acknowledged before is above.

        Only on a leader that has committed an entry of its own term. With an error where it loses the lead before.
        """
        term, index = self._SyncObj__raftCurrentTerm, self._SyncObj__raftCommitIndex
        self._readers.append(_Reader(self._round + 1, term, index, answer))
        if self._is_majority(self._with_itself(())):
            self._round += 1  # nobody else needs to be asked
            self.serve_readers()

    def why_no_lead(self) -> Exception:
        """What a reader hears where the lead is lost."""
        raise NotImplementedError

    def send_for_readers(self) -> None:
        """Begin a round for those who wait for one, unless one is under way."""
        if (
            self._readers
            and self._SyncObj__raftState == LEADER
            and self._readers[-1].round > self._round
            and self._confirmed_round() >= self._round
        ):
            self._SyncObj__sendAppendEntries()

    def begin_round(self) -> None:
        """Messages that leave from now on were sent after all that was asked before."""
        self._round += 1

    def _heard_round(self, node: Any, number: int) -> None:
        """`node` was led by us when it got a message of this round."""
        if self._echoes.get(node, 0) < number <= self._round:
            self._echoes[node] = number
            if self._readers:
                self.serve_readers()

    def _confirmed_round(self) -> int:
        """The last round that a majority has answered."""
        rounds = sorted(
            self._echoes.get(node, 0) for node in self._SyncObj__otherNodes if self._is_voter(node)
        )
        if self._is_voter_itself():
            rounds.append(self._round)
        return rounds[(len(rounds) - 1) // 2] if rounds else 0

    def serve_readers(self) -> None:
        """Answer those whose round is confirmed and whose index is applied; all, where the lead is lost."""
        if not self._readers:
            return
        readers, self._readers = self._readers, []
        leads = self._SyncObj__raftState == LEADER
        term, applied = self._SyncObj__raftCurrentTerm, self._SyncObj__raftLastApplied
        confirmed = self._confirmed_round() if leads else 0
        for reader in readers:
            if not leads or reader.term != term:
                reader.answer(0, self.why_no_lead())
            elif reader.round <= confirmed and reader.index <= applied:
                reader.answer(reader.index, None)
            else:
                self._readers.append(reader)
