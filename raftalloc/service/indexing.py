"""Under which names an entry's events are found again, and what an event is about.

Keys of the event store: `agent/<id>`, `workflow/<id>`, `allocation/<id>` and, for what concerns a node, `node/<id>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.core.events import NodeRegistered, NodeRemoved, NodeStateChanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftalloc.core.events import Event, Happened

_SUBJECT_FIELDS: Final = ("allocation_id", "request_id", "reservation_id", "session")


@dataclass(frozen=True, slots=True)
class About:
    """What an event is about, for filters: its type's name, and ids; 0 or empty where it has none."""

    type: str
    subject: int
    agent_id: str
    workflow_id: str
    node_id: str


def about(event: Event) -> About:
    """The names under which `event` can be asked for."""
    subject = next((getattr(event, name) for name in _SUBJECT_FIELDS if hasattr(event, name)), 0)
    return About(
        type=type(event).__name__,
        subject=subject,
        agent_id=getattr(event, "agent_id", ""),
        workflow_id=getattr(event, "workflow_id", ""),
        node_id=getattr(event, "node_id", ""),
    )


def agent_key(agent_id: str) -> str:
    """The key of an agent's blocks."""
    return f"agent/{agent_id}"


def workflow_key(workflow_id: str) -> str:
    """The key of a workflow's blocks."""
    return f"workflow/{workflow_id}"


def allocation_key(allocation_id: int) -> str:
    """The key of the blocks that speak of one allocation or request id."""
    return f"allocation/{allocation_id}"


def node_key(node_id: str) -> str:
    """The key of the blocks in which a node itself changed."""
    return f"node/{node_id}"


def keys_of(happened: Iterable[Happened]) -> list[str]:
    """The keys of a block with these events, each once, sorted."""
    keys: set[str] = set()
    for item in happened:
        event = item.event
        agent_id = getattr(event, "agent_id", "")
        workflow_id = getattr(event, "workflow_id", "")
        if agent_id:
            keys.add(agent_key(agent_id))
        if workflow_id:
            keys.add(workflow_key(workflow_id))
        for name in ("allocation_id", "request_id"):
            number = getattr(event, name, 0)
            if number:
                keys.add(allocation_key(number))
        if isinstance(event, NodeRegistered | NodeStateChanged | NodeRemoved):
            keys.add(node_key(event.node_id))
    return sorted(keys)
