"""What a Raft log says once its records are put together: entries, term, vote. In memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftalloc.raft.records import (
    BASE,
    COMMIT,
    ENTRY,
    INCARNATION,
    PROMISE,
    SKIP,
    TRUNCATE,
    VOTE,
    Record,
)

Entry = tuple[bytes, int, int]
"""command, index, term: as pysyncobj has them, and sends them."""


class Impossible(Exception):
    """A record that cannot follow those before it; its argument says why."""


@dataclass(slots=True)
class Contents:
    """Entries from index `start` on, without gaps.

    base: the first index that is kept; below is what a snapshot has. start > base while reading a log whose older
    segments are gone, until the record that says so is met. base_term: term of the entry before `base`.
    base_members: the group's configuration as of that entry; empty where none was noted. skips: why an entry is not to
    be given to the state machine, by its index.
    """

    entries: list[Entry] = field(default_factory=list)
    start: int = 1
    base: int = 1
    base_term: int = 0
    base_members: bytes = b""
    current_term: int = 0
    vote: str | None = None
    commit: int = 0
    skips: dict[int, str] = field(default_factory=dict)
    incarnation: bytes = b""
    promise: bytes = b""

    @property
    def next_index(self) -> int:
        """Of the entry that would be appended."""
        return self.start + len(self.entries)

    @property
    def last_term(self) -> int:
        """Of the last entry, here or in the snapshot."""
        return self.entries[-1][2] if self.entries else self.base_term

    def append(self, command: bytes, index: int, term: int) -> None:
        """Put an entry at the end. Raises Impossible."""
        entries = self.entries
        before = entries[-1][2] if entries else self.base_term
        if index != self.start + len(entries) or term < before:
            raise Impossible(
                f"entry {index} of term {term} follows {self.next_index - 1} of term {before}"
            )
        entries.append((command, index, term))

    def add(self, records: list[Record]) -> None:
        """Put records at the end. Raises Impossible."""
        entries = self.entries
        expected = self.start + len(entries)
        term = self.last_term
        for kind, a, b, payload in records:
            if kind == ENTRY:
                if a != expected or b < term:
                    raise Impossible(f"entry {a} of term {b} follows {expected - 1} of term {term}")
                entries.append((payload, a, b))
                expected, term = a + 1, b
            else:
                self._add_other(kind, a, b, payload)
                expected = self.start + len(entries)
                term = self.last_term

    def _add_other(self, kind: int, a: int, b: int, payload: bytes) -> None:
        if kind == VOTE:
            if a < self.current_term:
                raise Impossible(f"term {a} follows term {self.current_term}")
            self.current_term, self.vote = a, payload[1:].decode() if payload else None
        elif kind == TRUNCATE:
            self.truncate(a)
        elif kind == BASE:
            self.rebase(a, b, payload)
        elif kind == COMMIT:
            self.commit = a
        elif kind == SKIP:
            if a >= self.next_index:
                raise Impossible(
                    f"entry {a} is to be skipped, the log ends at {self.next_index - 1}"
                )
            self.skips[a] = payload.decode()
        elif kind == INCARNATION:
            self.incarnation = payload
        elif kind == PROMISE:
            self.promise = payload
        else:
            raise Impossible(f"a record is of kind {kind}, which this build does not know")

    def truncate(self, last_index: int) -> None:
        """Forget what is above `last_index`."""
        if not self.base - 1 <= last_index < self.next_index:
            raise Impossible(
                f"cut back to {last_index}, outside {self.base}..{self.next_index - 1}"
            )
        self._keep_skips(self.base, last_index)
        if last_index < self.start:
            # It was in a segment that is gone, and so was what it cut; a later BASE record covers both.
            self.entries.clear()
            self.start = last_index + 1
        else:
            del self.entries[last_index + 1 - self.start :]

    def rebase(self, first_index: int, term_before: int, members: bytes = b"") -> None:
        """Forget what is below `first_index`; beyond the end, begin anew there."""
        if first_index < self.base:
            raise Impossible(f"the first index went back from {self.base} to {first_index}")
        self.base, self.base_term, self.base_members = first_index, term_before, members
        self._keep_skips(first_index, self.next_index)
        if first_index >= self.next_index:
            self.entries.clear()
            self.start = first_index
        elif first_index > self.start:
            del self.entries[: first_index - self.start]
            self.start = first_index

    def _keep_skips(self, first: int, last: int) -> None:
        if self.skips:
            self.skips = {index: why for index, why in self.skips.items() if first <= index <= last}


def vote_record(term: int, vote: str | None) -> Record:
    """The current term, and who has this replica's vote in it."""
    return (VOTE, term, 0, b"" if vote is None else b"+" + vote.encode())
