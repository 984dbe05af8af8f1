"""What members say to each other: the table of Raft's messages, each kind with its fields and their types.

Every message of the wire is a dictionary whose `type` is a kind in KINDS. It is looked through on arrival, before any
handler sees it: a field that is missing, of another type or out of bounds makes it BadMessage, and it is dropped and
counted. Fields that are not in the table are let pass, so that a newer member may say more than an older one knows of;
a kind that is not in the table is dropped. Whoever adds a kind or a field adds it here, or nobody can send it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNT_MAX: Final = (1 << 62) - 1
BLOB_BYTES_MAX: Final = 512 << 10
NAME_CHARACTERS_MAX: Final = 128
ITEMS_MAX: Final = 4_096
DEPTH_MAX: Final = 4
_MISSING: Final = object()


class BadMessage(Exception):
    """A message that is none. `reason`: one of a few words, for counting; the argument says what is wrong."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Field:
    """What a value may be. low, high: of a number; of anything else, its length."""

    type: type
    low: int
    high: int
    optional: bool = False


COUNT: Final = Field(int, 0, COUNT_MAX)
"""An index, a term, milliseconds."""
FLAG: Final = Field(bool, 0, 1)
NAME: Final = Field(str, 0, NAME_CHARACTERS_MAX)
BLOB: Final = Field(bytes, 0, BLOB_BYTES_MAX)
INCARNATION: Final = Field(bytes, 0, 16)
SEATS: Final = Field(bytes, 0, 8 << 10)
LIST: Final = Field(list, 0, ITEMS_MAX)
"""Of plain values, lists and dictionaries with text for keys, to DEPTH_MAX."""
RECORD: Final = Field(dict, 0, ITEMS_MAX)
ENTRIES: Final = Field(list, 0, 1 << 20)
"""(command, index, term), put together by `frames`, which has checked them."""


def optional(field: Field) -> Field:
    """The same, and it may be missing."""
    return replace(field, optional=True)


KINDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "append_entries": {
        "term": COUNT,
        "commit_index": COUNT,
        "prevLogIdx": COUNT,
        "prevLogTerm": COUNT,
        "entries": ENTRIES,
        "at_ms": optional(COUNT),
        "round": optional(COUNT),
    },
    "next_node_idx": {
        "term": COUNT,
        "next_node_idx": COUNT,
        "reset": FLAG,
        "success": FLAG,
        "round": optional(COUNT),
        "wants": optional(COUNT),
        "inc": optional(INCARNATION),
    },
    "request_vote": {"term": COUNT, "last_log_index": COUNT, "last_log_term": COUNT},
    "response_vote": {"term": COUNT, "inc": optional(INCARNATION)},
    "pre_vote": {"term": COUNT, "last_log_index": COUNT, "last_log_term": COUNT},
    "pre_vote_answer": {
        "term": COUNT,
        "granted": FLAG,
        "current": COUNT,
        "inc": optional(INCARNATION),
    },
    "timeout_now": {"term": COUNT},
    "gossip": {"term": COUNT, "gossip": BLOB},
    "snapshot_chunk": {
        "term": COUNT,
        "commit_index": COUNT,
        "index": COUNT,
        "index_term": COUNT,
        "size": COUNT,
        "digest": BLOB,
        "offset": COUNT,
        "data": BLOB,
    },
    "blocks_wanted": {"after": COUNT, "until": COUNT, "offset": COUNT},
    "blocks": {
        "after": COUNT,
        "offset": COUNT,
        "size": COUNT,
        "data": BLOB,
        "is_all": FLAG,
    },
    "snapshot_answer": {
        "term": COUNT,
        "digest": BLOB,
        "offset": COUNT,
        "taken": FLAG,
        "next_node_idx": COUNT,
        "inc": optional(INCARNATION),
    },
    "greeting": {
        "inc": INCARNATION,
        "new": FLAG,
        "promise": SEATS,
        "founded": SEATS,
        "asks": FLAG,
    },
    # The link's own (link.py): no handler sees them.
    "hello": {"version": COUNT, "oldest": COUNT, "cluster_id": NAME, "from": NAME, "to": NAME},
    "ping": {},
}

FIELDS: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(("type", *fields)) for kind, fields in KINDS.items()
}

_ROWS: Final[dict[str, tuple[tuple[str, Any, int, int, bool], ...]]] = {
    kind: tuple(
        (name, field.type, field.low, field.high, field.optional) for name, field in fields.items()
    )
    for kind, fields in KINDS.items()
}
"""The same, laid out for speed: a check costs about a microsecond."""


def check(message: object) -> dict[str, Any]:
    """The message, if it is one of KINDS. Raises BadMessage."""
    if type(message) is not dict:
        raise BadMessage("malformed", f"a message is a dictionary, not {type(message).__name__}")
    kind = message.get("type")
    rows = _ROWS.get(kind) if type(kind) is str else None
    if type(kind) is not str or rows is None:
        raise BadMessage("unknown_kind", f"there is no message of type {_shown(kind)}")
    for name, expected, low, high, may_miss in rows:
        value: Any = message.get(name, _MISSING)
        if value is _MISSING and may_miss:
            continue
        if type(value) is not expected:
            raise BadMessage("bad_field", f"{kind}.{name} is {_shown(value)}")
        size: int = value if expected is int else 0 if expected is bool else len(value)
        if not low <= size <= high:
            raise BadMessage("bad_field", f"{kind}.{name} is out of bounds")
        if expected is dict or (expected is list and name != "entries"):
            _check_plain(kind, name, value, DEPTH_MAX)
    return message


def _check_plain(kind: str, name: str, value: object, depth: int) -> None:
    """Nothing is deeper than DEPTH_MAX, and no list or dictionary longer than ITEMS_MAX."""
    if type(value) is dict:
        items = list(value.values())
        if not all(type(key) is str for key in value):
            raise BadMessage("bad_field", f"{kind}.{name} has a key that is no text")
    elif type(value) is list:
        items = value
    else:
        return
    if depth == 0 or len(items) > ITEMS_MAX:
        raise BadMessage("bad_field", f"{kind}.{name} is too deep or too long")
    for item in items:
        _check_plain(kind, name, item, depth - 1)


def _shown(value: object) -> str:
    """A value as it may stand in a log: not at any length."""
    if value is _MISSING:
        return "missing"
    if isinstance(value, (list, dict, bytes)):
        return f"a {type(value).__name__}"
    return repr(value)[:40]
