"""Interned strings with reference counts: the tables hold int64 numbers, this holds the texts.

Number 0 is the empty text and is never given back. A number that nobody refers to any more is used again, the latest
freed first; both lists are part of the state, so every replica gives the same text the same number.
"""

from __future__ import annotations

from collections.abc import Sequence


class Names:
    """Text <-> number."""

    __slots__ = ("_free", "_numbers", "_references", "_texts")

    def __init__(
        self,
        texts: Sequence[str] = ("",),
        references: Sequence[int] = (1,),
        free: Sequence[int] = (),
    ) -> None:
        """Start with the empty text alone, or with what `parts` gave."""
        self._texts = list(texts)
        self._references = list(references)
        self._free = list(free)
        self._numbers = {
            text: number for number, text in enumerate(self._texts) if self._references[number] > 0
        }

    def acquire(self, text: str) -> int:
        """The number of a text, with one more reference."""
        number = self._numbers.get(text)
        if number is not None:
            self._references[number] += 1
            return number
        if self._free:
            number = self._free.pop()
            self._texts[number] = text
            self._references[number] = 1
        else:
            number = len(self._texts)
            self._texts.append(text)
            self._references.append(1)
        self._numbers[text] = number
        return number

    def release(self, number: int) -> None:
        """One reference less."""
        assert self._references[number] > 0, "a name was released more often than acquired"
        self._references[number] -= 1
        if number and not self._references[number]:
            del self._numbers[self._texts[number]]
            self._texts[number] = ""
            self._free.append(number)

    def find(self, text: str) -> int:
        """The number of a text, or -1 where nothing refers to it."""
        return self._numbers.get(text, -1)

    def text(self, number: int) -> str:
        """The text of a number."""
        return self._texts[number]

    def count(self) -> int:
        """Texts in use."""
        return len(self._numbers)

    def parts(self) -> tuple[list[str], list[int], list[int]]:
        """Texts, references and free numbers: all there is to write down."""
        return self._texts, self._references, self._free
