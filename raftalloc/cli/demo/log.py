"""An event log as the judges read it: the API's events, with their details taken apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftalloc.api.v1.events_pb2 import Event


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a log. detail: its fields, as the API's `detail_json` has them."""

    index: int
    sequence: int
    type: str
    detail: Mapping[str, object]

    def text(self, name: str) -> str:
        """A field that is a string."""
        value = self.detail[name]
        assert isinstance(value, str), f"{self.type}.{name} is {value!r}"
        return value

    def number(self, name: str) -> int:
        """A field that is an integer."""
        value = self.detail[name]
        assert isinstance(value, int), f"{self.type}.{name} is {value!r}"
        return value

    def amounts(self, name: str) -> dict[str, int]:
        """A field that maps kinds, or device numbers, to amounts; sorted by key."""
        value = self.detail[name]
        assert isinstance(value, dict), f"{self.type}.{name} is {value!r}"
        return {str(key): int(value[key]) for key in sorted(value)}

    def names(self, name: str) -> list[str]:
        """A field that is a list of strings."""
        value = self.detail[name]
        assert isinstance(value, list), f"{self.type}.{name} is {value!r}"
        return [str(item) for item in value]


Log = tuple[Seen, ...]
"""All events of one replica, as it gives them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that must not be. index: of the log entry, 0 where there is none."""

    check: str
    replica: str
    index: int
    message: str


def seen(event: Event) -> Seen:
    """An event as the API gives it -> what the judges read."""
    return Seen(event.index, event.sequence, event.type, json.loads(event.detail_json))
