"""Which nodes the leader has heard of lately. Only in its memory: the log learns of *lost* and *returned*.

Nodes that were registered `static`, and providers, never send heartbeats and are never lost. A node that is cordoned or
draining is not marked lost either: nothing is granted there anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.core import views
from raftalloc.core.events import LOST, READY, NodeRegistered, NodeRemoved, NodeStateChanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftalloc.core.events import Happened
    from raftalloc.core.records import Node
    from raftalloc.core.state import State

_PAGE: Final = 1000


class Heartbeats:
    """Node id -> when it was last heard of, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        """Nobody yet."""
        self._heard: dict[str, float] = {}
        self._states: dict[str, int] = {}

    def reset(self, state: State, now: float) -> None:
        """A new leader gives every node a full timeout."""
        self._heard.clear()
        self._states.clear()
        after = ""
        while page := views.nodes(state, after=after, limit=_PAGE):
            for node in page:
                self._add(node, now)
            after = page[-1].node_id

    def follow(self, happened: Iterable[Happened], now: float) -> None:
        """Nodes that came, went or changed with an entry."""
        for item in happened:
            event = item.event
            match event:
                case NodeRegistered():
                    self._register(event, now)
                case NodeRemoved():
                    self._heard.pop(event.node_id, None)
                    self._states.pop(event.node_id, None)
                case NodeStateChanged() if event.node_id in self._states:
                    self._states[event.node_id] = event.state
                case _:
                    continue

    def hear(self, node_id: str, now: float) -> None:
        """It lives. Nodes that are not waited for are not kept."""
        if node_id in self._heard:
            self._heard[node_id] = now

    def waits_for(self, node_id: str) -> bool:
        """Whether this node is expected to send heartbeats."""
        return node_id in self._heard

    def silent(self, now: float, timeout: float) -> list[str]:
        """Ready nodes that were not heard of for `timeout` seconds, in order of registration."""
        return [
            node_id
            for node_id, heard in self._heard.items()
            if now - heard > timeout and self._states[node_id] == READY
        ]

    def returned(self, now: float, timeout: float) -> list[str]:
        """Lost nodes that were heard of again."""
        return [
            node_id
            for node_id, state in self._states.items()
            if state == LOST and now - self._heard[node_id] <= timeout
        ]

    def _add(self, node: Node, now: float) -> None:
        if node.static or node.provider:
            return
        # A lost node gets no timeout: it returns when it is heard of.
        self._heard[node.node_id] = float("-inf") if node.state == LOST else now
        self._states[node.node_id] = node.state

    def _register(self, event: NodeRegistered, now: float) -> None:
        if event.static or event.provider:
            self._heard.pop(event.node_id, None)
            self._states.pop(event.node_id, None)
            return
        self._heard[event.node_id] = now
        self._states.setdefault(event.node_id, READY)
