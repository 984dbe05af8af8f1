"""What goes on beside Raft, between members and with entries that nobody can apply. Bytes, without meaning here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Beside:
    """Hooks of a member, called on its event loop.

    say: what to tell all other members now, asked every GOSSIP_SECONDS; an empty answer is not sent. listen: another
    member's id and word; must not raise. skip: called instead of `apply` for an entry that is to be skipped.
    may_apply: whether this index may be applied yet; asked again at the next tick.
    """

    say: Callable[[], bytes] = bytes
    listen: Callable[[str, bytes], None] = lambda _replica_id, _data: None
    skip: Callable[[int, bytes], object] = lambda _index, _entry: None
    may_apply: Callable[[int], bool] = lambda _index: True
