"""Replicas in one process without a socket: one for the embedded mode, several for tests.

A LocalNetwork is a `ports.Net` and the wire itself. Messages arrive in order, on the loop's next turn; links can be cut
and healed. It speaks pysyncobj's Transport interface by shape, so that pysyncobj stays behind `replica.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.ports import Clock

_NODE_CONNECTED: Final = "node_connected"
_NODE_DISCONNECTED: Final = "node_disconnected"
_MESSAGE_RECEIVED: Final = "message_received"


class _NoPoller:
    """There is nothing to poll."""

    def attach(self, on_event: Callable[[], None], on_error: Callable[[Exception], None]) -> None:
        """No events will come."""

    def subscribe(self, descr: int, callback: Callable[[int, int], None], event_mask: int) -> None:
        """There are no sockets: nobody may ask for this."""
        raise AssertionError(f"{callback} wants {event_mask} of {descr} where there are no sockets")

    def unsubscribe(self, descr: int) -> None:
        """There are no sockets."""

    def poll(self, timeout: float) -> None:
        """Nothing happens."""


class LocalNetwork:
    """The wire between the replicas of one process."""

    def __init__(self, clock: Clock) -> None:
        """Nobody is there yet."""
        self._clock = clock
        self._transports: dict[str, LocalTransport] = {}
        self._cut: set[frozenset[str]] = set()

    def poller(self) -> _NoPoller:
        """One that never has anything to say."""
        return _NoPoller()

    def can_bind(self, host: str, port: int) -> bool:  # noqa: ARG002 - the port's signature
        """There are no ports to take."""
        return True

    def transport(self, replica_id: str, nodes: Mapping[str, object]) -> LocalTransport:
        """The end of `replica_id`; `nodes` are the others, as its SyncObj names them."""
        return LocalTransport(self, replica_id, nodes)

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between these two, and both notice."""
        self._cut.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            if here in self._transports and there in self._transports:
                self._transports[here].disconnected(there)

    def heal(self) -> None:
        """All links work again."""
        cut, self._cut = self._cut, set()
        for link in cut:
            one, other = sorted(link)
            if one in self._transports and other in self._transports:
                self._transports[one].connected(other)
                self._transports[other].connected(one)

    def isolate(self, replica_id: str) -> None:
        """Cut one replica off from all others."""
        for other in list(self._transports):
            if other != replica_id:
                self.cut(replica_id, other)

    def reaches(self, one: str, other: str) -> bool:
        """Whether a message would get there."""
        return (
            one in self._transports
            and other in self._transports
            and frozenset((one, other)) not in self._cut
        )

    def join(self, transport: LocalTransport) -> None:
        """From now on it is there."""
        here = transport.replica_id
        assert here not in self._transports, f"two replicas are called {here}"
        self._transports[here] = transport
        for there, other in self._transports.items():
            if there != here and self.reaches(here, there):
                transport.connected(there)
                other.connected(here)

    def leave(self, replica_id: str) -> None:
        """It is gone, and the others notice."""
        if self._transports.pop(replica_id, None) is not None:
            for other in self._transports.values():
                other.disconnected(replica_id)

    def send(self, sender: str, receiver: str, message: object) -> bool:
        """Deliver on the loop's next turn, if both are still there and the link holds."""
        if not self.reaches(sender, receiver):
            return False
        target = self._transports[receiver]

        def deliver() -> None:
            if self.reaches(sender, receiver) and self._transports[receiver] is target:
                target.received(sender, message)

        self._clock.call_soon(deliver)
        return True


class LocalTransport:
    """One replica's end of a LocalNetwork, in the shape of pysyncobj's Transport."""

    ready = True

    def __init__(self, network: LocalNetwork, replica_id: str, nodes: Mapping[str, object]) -> None:
        """Not on the network before `open`."""
        self.replica_id = replica_id
        self._network = network
        self._nodes = dict(nodes)
        self._callbacks: dict[str, Callable[..., Any] | None] = {}
        self._outgoing: Callable[[dict[str, Any]], dict[str, Any]] = lambda message: message
        self._on_event: Callable[[], None] = lambda: None
        self._on_error: Callable[[Exception], None] | None = None

    def open(
        self,
        outgoing: Callable[[dict[str, Any]], dict[str, Any]],
        on_event: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Join the network. `outgoing` may add to every message that leaves."""
        self._outgoing, self._on_event, self._on_error = outgoing, on_event, on_error
        self._network.join(self)

    def received(self, sender: str, message: object) -> None:
        """A message has come."""
        node = self._nodes.get(sender)
        if node is None:
            return
        try:
            self._call(_MESSAGE_RECEIVED, node, message)
        except Exception as error:
            # The same boundary as LoopPoller's: the driver of Raft decides what a fault in it means.
            if self._on_error is None:
                raise
            self._on_error(error)
            return
        self._on_event()

    def connected(self, replica_id: str) -> None:
        """Another replica can be spoken to."""
        if replica_id in self._nodes:
            self._call(_NODE_CONNECTED, self._nodes[replica_id])
            self._on_event()

    def disconnected(self, replica_id: str) -> None:
        """It cannot any more."""
        if replica_id in self._nodes:
            self._call(_NODE_DISCONNECTED, self._nodes[replica_id])

    def _call(self, name: str, *arguments: object) -> None:
        callback = self._callbacks.get(name)
        if callback is not None:
            callback(*arguments)

    # What follows is pysyncobj's Transport, in its spelling.

    def setOnMessageReceivedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who gets the messages."""
        self._callbacks[_MESSAGE_RECEIVED] = callback

    def setOnNodeConnectedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who hears of new links."""
        self._callbacks[_NODE_CONNECTED] = callback

    def setOnNodeDisconnectedCallback(self, callback: Callable[..., Any] | None) -> None:  # noqa: N802
        """Who hears of lost links."""
        self._callbacks[_NODE_DISCONNECTED] = callback

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

    def addNode(self, node: object) -> None:  # noqa: N802
        """Membership does not change."""
        raise AssertionError(f"{node} cannot join: membership does not change")

    def dropNode(self, node: object) -> None:  # noqa: N802
        """Membership does not change."""
        raise AssertionError(f"{node} cannot leave: membership does not change")

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send to one of `nodes`."""
        return self._network.send(self.replica_id, node.id, self._outgoing(message))

    def destroy(self) -> None:
        """Leave the network."""
        self._callbacks.clear()
        self._network.leave(self.replica_id)
