"""The columns of the matrix: which kind is which.

The nine base kinds are always there; a dotted kind gets the next column when something that offers or limits it
is first registered, and keeps it for ever (at most 64 columns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raftalloc.core.quantities import BASE_KINDS, Vector


class Kinds:
    """Kind <-> column."""

    __slots__ = ("_columns", "names")

    def __init__(self, names: Sequence[str] = BASE_KINDS) -> None:
        """`names` in order of their columns."""
        self.names = list(names)
        self._columns = {name: column for column, name in enumerate(self.names)}

    def define(self, kind: str) -> int:
        """Give a new kind its column."""
        assert kind not in self._columns, "a kind is defined once"
        self._columns[kind] = len(self.names)
        self.names.append(kind)
        return len(self.names) - 1

    def column(self, kind: str) -> int:
        """The column of a kind, or -1 where it is not defined."""
        return self._columns.get(kind, -1)

    def columns(self, vector: Vector) -> dict[int, int]:
        """A vector by columns. Every kind of it must be defined."""
        return {self._columns[kind]: amount for kind, amount in vector}

    def vector(self, amounts: Mapping[int, int] | Sequence[int]) -> Vector:
        """Amounts by column as a vector, without the zeros, sorted by kind."""
        items = amounts.items() if isinstance(amounts, Mapping) else enumerate(amounts)
        return tuple(sorted((self.names[c], int(a)) for c, a in items if a))

    def __len__(self) -> int:
        """Columns in use."""
        return len(self.names)
