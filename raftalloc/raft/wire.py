"""The members' network: one link to each other member, mutual TLS, msgpack frames.

Of two members the one with the smaller id dials; a link that is lost is dialled again soon, then ever more seldom, by a
random share. If it does not come, the other dials too: the way may be open in one direction only, or the port flooded.
The other side takes it: whoever comes with the certificate of a member, saying that it is that member,
gets the place of the link there was, of which nothing is heard any more. Everybody else is closed on, and counted by
reason (docs/security.md has the list). Addresses are IP addresses; names are never looked up.

Costs, measured with TLS on two busy cores: docs/consensus.md.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from raftalloc.raft.doorman import Doorman
from raftalloc.raft.frames import Encoder
from raftalloc.raft.link import Link
from raftalloc.raft.transport import Transport
from raftalloc.security.channel import PlainChannel
from raftalloc.security.names import REPLICA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raftalloc.ports import Clock, Net, Rng, Timer
    from raftalloc.raft.messages import BadMessage
    from raftalloc.security.channel import Channel
    from raftalloc.security.contexts import TlsContexts

logger = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the frames and of hello. Members speak if the ranges that both can speak overlap."""
OLDEST_VERSION: Final = 1
HANDSHAKES_MAX: Final = 64
"""Under way at a time; of more, the oldest is given up: who means it is through in milliseconds."""
LOOK_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 1.0
"""So long without a link, and whose turn it is to dial does not matter any more."""
STALL_SECONDS: Final = 1.0
REDIAL_SECONDS: Final = 0.05
REDIAL_SECONDS_MAX: Final = 0.3
"""A try costs some hundred microseconds; a member that comes back waits for the others to try."""
LOG_SECONDS: Final = 10.0
"""One line for each reason in so long."""


class Wire(Transport):
    """A Transport over a `ports.Net`. Belongs to the event loop that it is opened on."""

    def __init__(
        self,
        *,
        cluster_id: str,
        replica_id: str,
        address: tuple[str, int],
        nodes: Mapping[str, Any],
        net: Net,
        clock: Clock,
        rng: Rng,
        security: TlsContexts | None,
        body_bytes_max: int,
        count: Callable[[str, str], None],
    ) -> None:
        """nodes: the other members, each with an `id` and an `address` (host, port). security: None is without TLS.

        count: hears ("refused" | "lost" | "dropped", reason) of links that did not come to be, of those that were
        lost, and of messages that were none.
        """
        super().__init__(replica_id, nodes)
        self.cluster_id = cluster_id
        self.body_bytes_max = body_bytes_max
        self._address = address
        self._net, self._clock, self._rng = net, clock, rng
        self._security = security
        self._count = count
        self._doorman = Doorman(clock)
        self._encoder = Encoder()
        self._ping = self._encoder.frame({"type": "ping"})
        self._live: dict[str, Link] = {}
        self._young: dict[Link, None] = {}
        self._dialling: dict[str, Link] = {}
        self._redials: dict[str, Timer] = {}
        self._failures: dict[str, int] = {}
        self._apart_since: dict[str, float] = {}
        self._logged_at: dict[tuple[str, str], float] = {}
        self._looked_at = 0.0
        self._look_timer: Timer | None = None
        self._stop_listening: Callable[[], None] = lambda: None
        self._is_open = False

    def open(
        self,
        outgoing: Callable[[dict[str, Any]], dict[str, Any]],
        on_event: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Listen and dial. Raises OSError where the address is taken."""
        super().open(outgoing, on_event, on_error)
        self._stop_listening = self._net.listen(*self._address, self._admit, self._accept_failed)
        self._is_open = True
        self._looked_at = self._clock.monotonic()
        self._look_timer = self._clock.call_later(LOOK_SECONDS, self._look_after)
        for peer in self._nodes:
            self._apart_since[peer] = self._looked_at
            self._dial(peer)

    @property
    def links(self) -> tuple[str, ...]:
        """Ids of the members to whom there is a link."""
        return tuple(self._live)

    def unsent(self, node: Any) -> int:
        """Bytes that wait to be sent to it. Who has more to say than a few of them should wait."""
        link = self._live.get(node.id)
        return 0 if link is None else link.unsent

    # What the engine calls.

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        """Send to a member; False where there is no link, or it could not keep up and is dropped."""
        link = self._live.get(node.id)
        return link is not None and link.send(self._encoder.frames(self._outgoing(message)))

    def addNode(self, node: Any) -> None:  # noqa: N802
        """Another member, or a new address of one."""
        before = self._nodes.get(node.id)
        self._nodes[node.id] = node
        if before is not None and before.address != node.address:
            self._part_from(node.id, "moved")
        if self._is_open:
            self._apart_since.setdefault(node.id, self._clock.monotonic())
            self._dial(node.id)

    def dropNode(self, node: Any) -> None:  # noqa: N802
        """No member any more."""
        self._part_from(node.id, "removed")
        for known in (self._nodes, self._failures, self._apart_since):
            known.pop(node.id, None)

    def destroy(self) -> None:
        """Close everything; nobody is called back."""
        self.forget()
        self._is_open = False
        self._stop_listening()
        if self._look_timer is not None:
            self._look_timer.cancel()
        for timer in self._redials.values():
            timer.cancel()
        for link in [*self._young, *self._dialling.values(), *self._live.values()]:
            link.end("stopping", "this replica leaves the network")

    # What links call.

    def hello_to(self, peer: str) -> bytes:
        """See LinkOwner."""
        return self._encoder.frame(
            {
                "type": "hello",
                "version": VERSION,
                "oldest": OLDEST_VERSION,
                "cluster_id": self.cluster_id,
                "from": self.replica_id,
                "to": peer,
            }
        )

    def judge(self, link: Link, hello: dict[str, Any]) -> str:
        """See LinkOwner. The certificate decides who it is; hello only says who it wants to be."""
        if hello["oldest"] > VERSION or hello["version"] < OLDEST_VERSION:
            return "other_version"
        if hello["cluster_id"] != self.cluster_id:
            return "other_cluster"
        if self._security is not None:
            identity = link.channel.identity
            if identity is None or identity.role != REPLICA:
                return "not_a_replica"
            if identity.cluster_id != self.cluster_id:
                return "other_cluster"
            if identity.name != hello["from"]:
                return "other_name"
        if hello["from"] not in self._nodes:
            return "not_a_member"
        if hello["to"] != self.replica_id or link.dialled not in ("", hello["from"]):
            return "other_name"
        return ""

    def went_live(self, link: Link) -> None:
        """The newest link of a member is the one that counts."""
        self._young.pop(link, None)
        self._dialling.pop(link.peer, None)
        self._failures.pop(link.peer, None)
        self._apart_since.pop(link.peer, None)
        old = self._live.pop(link.peer, None)
        if old is not None:
            old.end("replaced", "the member has connected anew")
            self.disconnected(link.peer)
        self._live[link.peer] = link
        self.connected(link.peer)

    def message(self, link: Link, message: dict[str, Any]) -> None:
        """See LinkOwner. Pings and second hellos have said all they have to say by coming."""
        node = self._nodes.get(link.peer)
        if message["type"] in ("ping", "hello") or node is None:
            return
        if not self.deliver(node, message):
            link.end("stopping", "this replica has stopped")

    def dropped(self, link: Link, bad: BadMessage) -> None:
        """See LinkOwner."""
        self._note("dropped", bad.reason, f"{link.peer}: {bad}")

    def heard(self, link: Link) -> None:  # noqa: ARG002 - the same for all
        """See LinkOwner."""
        self._on_event()

    def ended(self, link: Link, reason: str, problem: str) -> None:
        """See LinkOwner."""
        self._young.pop(link, None)
        peer = link.peer or link.dialled
        was_live = self._live.get(peer) is link
        if self._dialling.get(peer) is link:
            del self._dialling[peer]
        if reason == "stopping":
            self._live.pop(peer, None)
            return
        kind = "lost" if link.is_live else "refused"
        self._note(kind, reason, f"{peer or 'somebody'} at {link.address}: {problem}")
        if was_live:
            del self._live[peer]
            self._apart_since[peer] = self._clock.monotonic()
            self.disconnected(peer)
        if was_live or link.dialled:
            self._dial_later(link.dialled or peer)

    # Coming to be, and passing away.

    def _channel(self, *, server: bool) -> Channel:
        return PlainChannel() if self._security is None else self._security.channel(server=server)

    def _admit(self, address: str) -> Link | None:
        """Somebody knocks."""
        if not self._doorman.admits(address):
            self._note("refused", "too_many", f"{address} tries too often")
            return None
        if len(self._young) >= HANDSHAKES_MAX:
            oldest = next(iter(self._young))
            oldest.end("crowded_out", "too many handshakes are under way")
        link = Link(self, self._channel(server=True), self._clock, dialled="", address=address)
        self._young[link] = None
        return link

    def _accept_failed(self, error: OSError) -> None:
        self._note("refused", "no_resources", f"a connection cannot be taken: {error}")

    def _dial(self, peer: str, *, out_of_turn: bool = False) -> None:
        """Connect to it, if that is for us to do and is not done."""
        timer = self._redials.pop(peer, None)
        if timer is not None:
            timer.cancel()
        node = self._nodes.get(peer)
        if (
            not self._is_open
            or node is None
            or (self.replica_id > peer and not out_of_turn)
            or peer in self._live
            or peer in self._dialling
        ):
            return
        host, port = node.address
        channel = self._channel(server=False)
        link = Link(self, channel, self._clock, dialled=peer, address=f"{host}:{port}")
        self._dialling[peer] = link
        link.give_up = self._net.connect(host, port, link)

    def _dial_later(self, peer: str) -> None:
        """At once is too soon: half of the time is chance, so that nobody is met by all at the same moment."""
        if not self._is_open or peer in self._redials:
            return
        failures = self._failures[peer] = self._failures.get(peer, 0) + 1
        seconds = min(REDIAL_SECONDS_MAX, REDIAL_SECONDS * 2 ** min(failures - 1, 10))
        seconds *= 0.5 + self._rng.random() / 2
        self._redials[peer] = self._clock.call_later(seconds, lambda: self._dial(peer))

    def _part_from(self, peer: str, reason: str) -> None:
        timer = self._redials.pop(peer, None)
        if timer is not None:
            timer.cancel()
        for link in (self._dialling.get(peer), self._live.get(peer)):
            if link is not None:
                link.end(reason, "the members of the group have changed")

    def _look_after(self) -> None:
        """Every LOOK_SECONDS. If it comes late, it was we who did not listen, and nobody was silent."""
        now = self._clock.monotonic()
        links = [*self._young, *self._dialling.values(), *self._live.values()]
        if now - self._looked_at > LOOK_SECONDS + STALL_SECONDS:
            for link in links:
                link.forgive_silence(now)
        self._looked_at = now
        for link in links:
            if not link.is_over:
                link.look_after(now, self._ping)
        for peer, since in list(self._apart_since.items()):
            if now - since > PATIENCE_SECONDS and peer not in self._redials:
                self._dial(peer, out_of_turn=True)
        if self._is_open:
            self._look_timer = self._clock.call_later(LOOK_SECONDS, self._look_after)

    def _note(self, kind: str, reason: str, text: str) -> None:
        """Count it, and say it now and then."""
        self._count(kind, reason)
        now = self._clock.monotonic()
        if now - self._logged_at.get((kind, reason), -LOG_SECONDS) >= LOG_SECONDS:
            self._logged_at[kind, reason] = now
            level = logging.DEBUG if reason in ("unreachable", "closed") else logging.WARNING
            logger.log(level, "Raft link %s (%s): %s", kind, reason, text)
