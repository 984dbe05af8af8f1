"""One connection between two members: TLS, hello, then frames.

    who dials                          who is dialled
    TLS handshake, certificates both ways
    hello: group, own id, whom it wants
                                       looks at hello and certificate; else closes without a word
                                       hello
    looks at both                      the link is live
    the link is live

Until it is live it may send HELLO_BYTES_MAX and has HANDSHAKE_SECONDS. A live link that is silent for DEAD_SECONDS is
dead: who has nothing to say sends a ping every PING_SECONDS. What cannot be sent yet waits, up to QUEUE_BYTES_MAX; then
the link is dropped, and not memory: Raft says again what was lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from raftalloc.raft.frames import HEAD_BYTES_MAX, HELLO_BYTES_MAX, Assembler, Body, decode
from raftalloc.raft.messages import BadMessage
from raftalloc.security.channel import ChannelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.ports import Clock, Stream
    from raftalloc.security.channel import Channel

HANDSHAKE_SECONDS: Final = 5.0
PING_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 4.0
FRAME_SECONDS: Final = 30.0
"""For a frame to come to its end, however steadily it comes in."""
QUEUE_BYTES_MAX: Final = 32 << 20
PIECE_BYTES: Final = 128 << 10
"""A larger frame is sealed and sent in pieces, as there is room: its encrypted form never is in memory as a whole."""


class LinkOwner(Protocol):
    """What a link asks of the wire."""

    body_bytes_max: int

    def hello_to(self, peer: str) -> bytes:
        """Our hello, as a frame."""

    def judge(self, link: Link, hello: dict[str, Any]) -> str:
        """Why the other side may not be let in, in a word for counting; empty if it may."""

    def went_live(self, link: Link) -> None:
        """The other side is who it should be."""

    def message(self, link: Link, message: dict[str, Any]) -> None:
        """A live link brought one."""

    def dropped(self, link: Link, bad: BadMessage) -> None:
        """A live link brought something that is no message."""

    def heard(self, link: Link) -> None:
        """All that came with one reading has been given out."""

    def ended(self, link: Link, reason: str, problem: str) -> None:
        """It is over. Called once."""


class Link:
    """A `ports.StreamOwner`."""

    def __init__(
        self, owner: LinkOwner, channel: Channel, clock: Clock, *, dialled: str, address: str
    ) -> None:
        """dialled: the id of whom we want to reach, or empty where it was they who came. address: theirs."""
        self.channel = channel
        self.dialled = dialled
        self.address = address
        self.peer = ""
        self.is_live = False
        self.is_over = False
        self.give_up: Callable[[], None] = lambda: None
        self._owner = owner
        self._clock = clock
        self._stream: Stream | None = None
        self._assembler = Assembler(head_bytes_max=HELLO_BYTES_MAX, body_bytes_max=0)
        self._has_said_hello = False
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        now = clock.monotonic()
        self._began_at = self._heard_at = self._said_at = now
        self._partial_since: float | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait here."""
        return self._queued

    def send(self, frames: list[bytes]) -> bool:
        """Send frames now or later; False where that was too much, and the link is over."""
        for frame in frames:
            if self.is_over:
                return False
            assert self._stream is not None
            if self._queue or self._stream.is_full or len(frame) > PIECE_BYTES:
                self._queue.append(memoryview(frame))
                self._queued += len(frame)
                if self._queued > QUEUE_BYTES_MAX + len(frame):
                    self.end("queue_full", f"{self._queued} bytes wait to be sent")
                    return False
                self._pump()
            else:
                self._stream.write(self.channel.seal(frame))
        self._said_at = self._clock.monotonic()
        return True

    def look_after(self, now: float, ping: bytes) -> None:
        """From time to time: end what is dead, say something where nothing was said for long."""
        if not self.is_live:
            if now - self._began_at > HANDSHAKE_SECONDS:
                self.end("too_slow", "the handshake was not done in time")
        elif now - self._heard_at > DEAD_SECONDS:
            self.end("silent", f"nothing was heard for {DEAD_SECONDS:g} s")
        elif self._partial_since is not None and now - self._partial_since > FRAME_SECONDS:
            self.end("too_slow", "a frame did not come to its end in time")
        elif now - self._said_at > PING_SECONDS:
            self.send([ping])

    def forgive_silence(self, now: float) -> None:
        """It was this process that did not listen."""
        self._heard_at = self._began_at = now
        if self._partial_since is not None:
            self._partial_since = now

    def end(self, reason: str, problem: str) -> None:
        """Close; nothing more comes of it."""
        if self.is_over:
            return
        self.is_over = True
        self._queue.clear()
        self._queued = 0
        if self._stream is not None:
            self._stream.abort()
        else:
            self.give_up()
        self._owner.ended(self, reason, problem)

    # What the stream calls.

    def opened(self, stream: Stream) -> None:
        """Who dials speaks first."""
        self._stream = stream
        if self.is_over:
            stream.abort()
        elif stream.is_to_itself:
            self.end("unreachable", "the connection is one to itself")
        elif self.dialled:
            first = self.channel.begin()
            if first:
                stream.write(first)
            self._say_hello_when_open()

    def received(self, data: memoryview) -> None:
        """Bytes of the other side."""
        if self.is_over or self._stream is None:
            return
        try:
            pieces = self.channel.receive(data)
        except ChannelError as error:
            self._flush()
            self.end(error.reason, str(error))
            return
        self._flush()
        if self.dialled:
            self._say_hello_when_open()
        if pieces and not self.is_over:
            self._take(pieces)

    def drained(self) -> None:
        """There is room again."""
        if not self.is_over:
            self._pump()

    def closed(self, problem: str) -> None:
        """The connection is gone, or never came."""
        reason = "closed" if self.is_live else "hung_up" if self._stream else "unreachable"
        self.end(reason, problem)

    def _take(self, pieces: list[bytes]) -> None:
        self._heard_at = self._clock.monotonic()
        assembler = self._assembler
        try:
            for piece in pieces:
                for head, body in assembler.feed(piece):
                    self._frame(head, body)
                    if self.is_over:
                        return
        except BadMessage as bad:
            self.end(bad.reason, str(bad))
            return
        if not assembler.has_partial:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = self._heard_at
        if self.is_live:
            self._owner.heard(self)

    def _frame(self, head: bytes, body: Body) -> None:
        if self.is_live:
            try:
                message = decode(head, body)
            except BadMessage as bad:
                self._owner.dropped(self, bad)
                return
            self._owner.message(self, message)
            return
        message = decode(head, body)
        if message["type"] != "hello":
            raise BadMessage("no_hello", f"{message['type']} came before hello")
        problem = self._owner.judge(self, message)
        if problem:
            self.end(problem, f"it calls itself {message['from']!r}")
            return
        self.peer = message["from"]
        self._say_hello()
        self._assembler.allow(
            head_bytes_max=HEAD_BYTES_MAX, body_bytes_max=self._owner.body_bytes_max
        )
        self.is_live = True
        self._owner.went_live(self)

    def _say_hello_when_open(self) -> None:
        if self.channel.is_open:
            self._say_hello()

    def _say_hello(self) -> None:
        if not self._has_said_hello and self._stream is not None:
            self._has_said_hello = True
            self._stream.write(self.channel.seal(self._owner.hello_to(self.dialled or self.peer)))

    def _flush(self) -> None:
        """What TLS itself has to say: its handshake, or why it refuses."""
        if self._stream is not None and (data := self.channel.take()):
            self._stream.write(data)

    def _pump(self) -> None:
        """Send what waits, as far as there is room."""
        queue, stream = self._queue, self._stream
        assert stream is not None
        while queue and not stream.is_full:
            piece = queue[0][:PIECE_BYTES]
            if len(piece) == len(queue[0]):
                queue.popleft()
            else:
                queue[0] = queue[0][PIECE_BYTES:]
            self._queued -= len(piece)
            stream.write(self.channel.seal(piece))
