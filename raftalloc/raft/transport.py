"""pysyncobj's Transport by shape: what the engine calls, and whom a transport calls back.

There are two: `LocalTransport` within one process, `Wire` over the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Message = dict[str, Any]


class Transport:
    """The part that both have in common. Nodes are pysyncobj's, known by their `id`; the others only."""

    ready = True

    def __init__(self, replica_id: str, nodes: Mapping[str, Any]) -> None:
        """Not on the network before `open`."""
        self.replica_id = replica_id
        self._nodes = dict(nodes)
        self.guest: Callable[[str], Any] = lambda _replica_id: None
        """The node of a replica that is none of `nodes`: of this group, and not a member as far as is known here."""
        self._outgoing: Callable[[Message], Message] = lambda message: message
        self._on_event: Callable[[], None] = lambda: None
        self._on_error: Callable[[Exception], None] | None = None
        self._on_message: Callable[[Any, Message], None] | None = None
        self._on_connected: Callable[[Any], None] | None = None
        self._on_disconnected: Callable[[Any], None] | None = None

    def open(
        self,
        outgoing: Callable[[Message], Message],
        on_event: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Join the network. `outgoing` may add to every message that leaves. Raises OSError where it cannot."""
        self._outgoing, self._on_event, self._on_error = outgoing, on_event, on_error

    def deliver(self, node: Any, message: Message) -> bool:
        """Give a message to the engine; False where it failed at it, and is told so: then nothing more is good."""
        if self._on_message is None:
            return False
        try:
            self._on_message(node, message)
        except Exception as error:
            # The boundary of the event loop: whoever drives Raft decides what a fault in it means, which is to stop.
            if self._on_error is None:
                raise
            self._on_error(error)
            return False
        return True

    def connected(self, replica_id: str) -> None:
        """Another replica can be spoken to."""
        node = self._nodes.get(replica_id)
        if node is not None and self._on_connected is not None:
            self._on_connected(node)
            self._on_event()

    def disconnected(self, replica_id: str) -> None:
        """It cannot any more."""
        node = self._nodes.get(replica_id)
        if node is not None and self._on_disconnected is not None:
            self._on_disconnected(node)

    def forget(self) -> None:
        """Call nobody back any more."""
        self._on_message = self._on_connected = self._on_disconnected = None

    # What follows is in pysyncobj's spelling.

    def setOnMessageReceivedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who gets the messages."""
        self._on_message = callback

    def setOnNodeConnectedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who hears of new links."""
        self._on_connected = callback

    def setOnNodeDisconnectedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who hears of lost links."""
        self._on_disconnected = callback

    def setOnReadonlyNodeConnectedCallback(self, callback: object) -> None:  # noqa: N802
        """There are no read-only members."""

    def setOnReadonlyNodeDisconnectedCallback(self, callback: object) -> None:  # noqa: N802
        """There are no read-only members."""

    def setOnUtilityMessageCallback(self, message: str, callback: object) -> None:  # noqa: N802
        """There are no utility commands."""

    def tryGetReady(self) -> None:  # noqa: N802
        """It is."""

    def waitReady(self) -> None:  # noqa: N802
        """It is."""
