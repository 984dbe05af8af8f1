"""Replicas in one process without a socket: one for the embedded mode, several for tests.

A LocalNetwork stands in the place of a `ports.Net`, and is the wire itself. Messages arrive in order, on the loop's
next turn; links can be cut and healed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raftalloc.raft.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.ports import Clock


class LocalNetwork:
    """The wire between the replicas of one process."""

    def __init__(self, clock: Clock) -> None:
        """Nobody is there yet."""
        self._clock = clock
        self._transports: dict[str, LocalTransport] = {}
        self._cut: set[frozenset[str]] = set()

    def can_bind(self, host: str, port: int) -> bool:  # noqa: ARG002 - the port's signature
        """There are no ports to take."""
        return True

    def transport(self, replica_id: str, nodes: Mapping[str, Any]) -> LocalTransport:
        """The end of `replica_id`; `nodes` are the others, as its SyncObj names them."""
        return LocalTransport(self, replica_id, nodes)

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between these two, and both notice."""
        self._cut.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            if here in self._transports and there in self._transports:
                self.tell_lost(here, there)

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
            for other in list(self._transports):
                self.tell_lost(other, replica_id)

    def tell_lost(self, here: str, there: str) -> None:
        """`here` notices that its link to `there` is gone."""
        self._transports[here].disconnected(there)

    def send(self, sender: str, receiver: str, message: dict[str, Any]) -> bool:
        """Deliver on the loop's next turn, if both are still there and the link holds."""
        if not self.reaches(sender, receiver):
            return False
        target = self._transports[receiver]

        def deliver() -> None:
            if self.reaches(sender, receiver) and self._transports[receiver] is target:
                target.received(sender, message)

        self._clock.call_soon(deliver)
        return True


class LocalTransport(Transport):
    """One replica's end of a LocalNetwork."""

    def __init__(self, network: LocalNetwork, replica_id: str, nodes: Mapping[str, Any]) -> None:
        """Not on the network before `open`."""
        super().__init__(replica_id, nodes)
        self._network = network

    def open(
        self,
        outgoing: Callable[[dict[str, Any]], dict[str, Any]],
        on_event: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Join the network."""
        super().open(outgoing, on_event, on_error)
        self._network.join(self)

    def received(self, sender: str, message: dict[str, Any]) -> None:
        """A message has come."""
        node = self._nodes.get(sender) or self.guest(sender)
        if self.deliver(node, message):
            self._on_event()

    # What follows is pysyncobj's Transport, in its spelling.

    def addNode(self, node: Any) -> None:  # noqa: N802
        """It may be spoken to from now on."""
        self._nodes[node.id] = node
        if self._network.reaches(self.replica_id, node.id):
            self.connected(node.id)

    def dropNode(self, node: Any) -> None:  # noqa: N802
        """It is no member any more."""
        self.disconnected(node.id)
        self._nodes.pop(node.id, None)

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send to one of `nodes`."""
        return self._network.send(self.replica_id, node.id, self._outgoing(message))

    def destroy(self) -> None:
        """Leave the network."""
        self.forget()
        self._network.leave(self.replica_id)
