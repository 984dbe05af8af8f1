"""What the shell needs from the outside, as Protocols: each has at least two implementations.

Production and simulation differ only in these (design 9.7). Nothing in `raft`, `service` or `storage` calls the event
loop's clock, a socket, a file or a subprocess but through one of Clock, Disk, Net, Rng, Spawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """Time. Monotonic for intervals; wall only where the whole group starts cold."""

    def monotonic(self) -> float:
        """Seconds, never going back."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as this machine believes."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back on the event loop."""

    def call_soon(self, callback: Callable[[], None]) -> Timer:
        """Call back on the event loop's next turn."""


class Rng(Protocol):
    """Randomness that a seed can replace."""

    def random(self) -> float:
        """In [0, 1)."""

    def token(self, bytes_count: int) -> bytes:
        """Unpredictable bytes."""


class Disk(Protocol):
    """Small whole files of a data directory: identity, locks, manifests."""

    def read(self, path: str) -> bytes | None:
        """The content, or None where there is no such file."""

    def write(self, path: str, content: bytes) -> None:
        """Replace the file in one step, synced, its directory too."""

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""

    def make_directory(self, path: str) -> None:
        """Also its parents."""

    def remove_tree(self, path: str) -> None:
        """And everything below; no error where there is none."""

    def lock(self, path: str) -> Callable[[], None]:
        """Hold this file for this process, answer how to let go. Raises DataDirectoryError: "in use by pid N"."""


class LogFile(Protocol):
    """One segment of the Raft log, open. Calls block; every OSError of the kernel comes through."""

    def size(self) -> int:
        """Bytes, what was preallocated included."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file."""

    def write_at(self, offset: int, content: bytes) -> None:
        """All of `content`. Not durable before `sync`."""

    def sync(self) -> None:
        """What was written is on the disk when this returns (fdatasync). After an OSError nobody knows; never retry."""

    def close(self) -> None:
        """Let go, without a sync. May be called twice."""


class LogDisk(Protocol):
    """The disk beneath the Raft log. One for each replica; whatever goes through `submit` runs in order."""

    def make_directory(self, path: str) -> None:
        """Also its parents."""

    def list(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty where there is none."""

    def create(self, path: str, size: int) -> LogFile:
        """A new file of `size` zero bytes that are reserved on the disk; replaces a file of that name."""

    def open(self, path: str, *, writable: bool) -> LogFile:
        """A file that is there."""

    def rename(self, old: str, new: str) -> None:
        """In one step. Durable after `sync_directory`."""

    def remove(self, path: str) -> None:
        """Durable after `sync_directory`."""

    def sync_directory(self, path: str) -> None:
        """Names made, renamed and removed in it are on the disk when this returns."""

    def lock(self, path: str) -> Callable[[], None]:
        """Hold this file for this process, answer how to let go. Raises DataDirectoryError: "in use by pid N"."""

    def submit(self, work: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """Run `work` off the event loop, after what was submitted before; then call back on the loop.

        `done` hears the OSError that `work` raised, or None. Other exceptions of `work` are bugs and go to the loop's
        exception handler.
        """

    def drain(self) -> None:
        """Block until everything submitted has run; the callbacks may still be to come."""

    def close(self) -> None:
        """`drain`, and take nothing more."""


class Stream(Protocol):
    """Our end of a connection that carries bytes in order."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that no more should be written before the owner hears `drained`."""

    @property
    def is_to_itself(self) -> bool:
        """Whether both ends are this one, as may happen to who dials a port that nobody listens on."""

    def write(self, data: bytes) -> None:
        """Send, now or when there is room."""

    def abort(self) -> None:
        """Close at once; what waits is not sent. The owner hears `closed`."""


class StreamOwner(Protocol):
    """Who a stream speaks to. Calls come from the event loop, one at a time."""

    def opened(self, stream: Stream) -> None:
        """The connection is there."""

    def received(self, data: memoryview) -> None:
        """Bytes have come; the view is good during this call only."""

    def drained(self) -> None:
        """There is room again."""

    def closed(self, problem: str) -> None:
        """The connection is gone, or could not be made. Called once."""


class Net(Protocol):
    """What the Raft transport stands on: streams between IP addresses. Names are never looked up."""

    def listen(
        self,
        host: str,
        port: int,
        admit: Callable[[str], StreamOwner | None],
        failed: Callable[[OSError], None],
    ) -> Callable[[], None]:
        """Take connections until what this answers is called. Raises OSError where the address cannot be taken.

        admit: given the address of who connects, answers the stream's owner, or None, and then it is closed at once.
        failed: hears why a connection could not be taken (no descriptors left); the listener stays and tries again.
        """

    def connect(self, host: str, port: int, owner: StreamOwner) -> Callable[[], None]:
        """Make a connection. What this answers gives up, as long as it is not there."""

    def can_bind(self, host: str, port: int) -> bool:
        """Whether the address is free."""


class Child(Protocol):
    """A process of our own, spoken to over pipes in frames."""

    async def send(self, frame: bytes) -> None:
        """Waits while the pipe is full."""

    async def receive(self) -> bytes:
        """The next frame; raises EOFError when the child has gone."""

    async def stop(self) -> None:
        """Close its input, wait, and kill it if it will not end."""

    async def kill(self) -> None:
        """End it now, whatever it is doing; `receive` then raises EOFError."""

    @property
    def pid(self) -> int:
        """Its process id."""


class Spawn(Protocol):
    """Starting processes. Nothing ever forks."""

    async def child(self, module: str, arguments: Sequence[str]) -> Child:
        """Run `python -m module arguments...`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A snapshot on its way between replicas.

    index, term: of the last entry that is in it. members: the group's configuration as of it. manifest, state: the
    service's. Where the service gives one, term and members are empty: Raft knows them.
    """

    index: int
    term: int
    members: bytes
    manifest: bytes
    state: bytes


class Machine(Protocol):
    """The replicated state machine, as Raft sees it, but for `apply`."""

    def installed(self) -> Image | None:
        """What is known of the snapshot it recovered from, if that came from another replica; without the state."""

    def begin(self, first_index: int) -> int:
        """The log begins there; answers the index up to which the state holds all. Called once, before any apply."""

    async def image(self, at_least: int) -> Image | None:
        """The newest durable snapshot, at or above an index; None where the state is not there yet."""

    async def keep(self, image: Image) -> None:
        """Make a snapshot of another replica durable; nothing is applied meanwhile. Raises DataDirectoryError."""

    def adopt(self, image: Image) -> None:
        """Go on from the snapshot that was kept last, as if all up to its index had been applied."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A replica's place in the group.

    raft, grpc, http: addresses, host:port; empty where embedded. is_voter: else it learns. incarnation: of the data
    directory that the seat is given to; empty: to whichever comes.
    """

    replica_id: str
    raft: str
    grpc: str
    http: str
    is_voter: bool
    incarnation: bytes


class Consensus(Protocol):
    """The replicated log, as the service sees it: bytes in, the same bytes out, in one order, on every replica."""

    async def start(self) -> None:
        """Join the group; replays what is committed through `apply` before it returns where it is alone."""

    async def propose(self, entry: bytes) -> object:
        """Answers what `apply` returned for it here. Raises NotLeader/NoLeader (not done) or OutcomeUnknown."""

    async def read_index(self) -> int:
        """An applied index that no write acknowledged before this call is above. Raises NotLeader, NoLeader."""

    async def stop(self) -> None:
        """Leave the network; nothing is applied after."""

    def transfer(self, to_replica_id: str) -> Awaitable[str]:
        """Stand back; answers the new leader's id."""

    def compact(self, index: int) -> None:
        """A durable snapshot has all up to `index`, which is applied: the log may forget it."""

    async def add_member(self, seat: Seat) -> int:
        """Take a replica into the group, which votes once it has caught up; answers the index. Raises Rejected."""

    async def remove_member(self, replica_id: str) -> int:
        """Let a replica go; answers the index. Raises Rejected."""

    async def replace_member(self, replica_id: str) -> int:
        """Give a replica's seat to the empty data directory it comes back with; answers the index. Raises Rejected."""

    @property
    def members(self) -> tuple[Seat, ...]:
        """The group as this replica knows it, by replica id."""

    def progress(self) -> dict[str, tuple[int, float]]:
        """On a leader, of each other member: the last index that it has confirmed, and seconds since it answered."""

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""

    @property
    def role(self) -> str:
        """leader, follower or candidate."""

    @property
    def leader_id(self) -> str:
        """Replica id of the leader, or empty."""

    @property
    def term(self) -> int:
        """Raft's current term."""

    @property
    def commit_index(self) -> int:
        """Raft's commit index."""

    @property
    def applied_index(self) -> int:
        """Last index that is applied, Raft's own entries included."""


class Peers(Protocol):
    """The other members, for messages that are not Raft's."""

    @property
    def others(self) -> tuple[str, ...]:
        """Replica ids of the other members, sorted."""

    @property
    def leader_id(self) -> str:
        """Replica id of the leader, or empty."""

    def tell(self, replica_id: str, message: dict[str, Any]) -> bool:
        """Send a message of the service to another member; whether it may arrive. Never waits."""

    def on_message(self, kind: str, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Hear (replica id, message) of the service's messages whose `type` is `kind`."""


class EventReader(Protocol):
    """Blocks of events by index and by key."""

    async def read(self, from_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` blocks from `from_index` on, in order."""

    async def find(self, key: str, before_index: int, limit: int) -> list[tuple[int, bytes]]:
        """Blocks under an index key, newest first, below `before_index`."""

    async def bounds(self) -> tuple[int, int]:
        """Lowest and highest index kept; (0, 0) when empty."""

    async def snapshots(self) -> list[int]:
        """Indices of whole snapshots, newest first."""


class EventStore(EventReader, Protocol):
    """Entries and their events by index, with secondary indices, and state snapshots.

    A BLOCK is the bytes of one index (core.codec.Block). An index key is a short string such as `agent/a1` or
    `workflow/w` or `allocation/17`. Calls are answered in order; `append` may answer before the block is durable.
    """

    async def append(self, index: int, block: bytes, keys: Sequence[str]) -> None:
        """Keep a block. Waits while the store is behind by more than it may be. Indices rise, with gaps."""

    async def save_snapshot(self, index: int, state: bytes, manifest: bytes) -> tuple[str, int]:
        """Write an immutable snapshot directory, manifest last. Answers its path and bytes. Older ones but two go."""

    async def load_snapshot(self) -> tuple[int, bytes, bytes] | None:
        """The newest snapshot that is whole (index, state, manifest); bad ones are passed over."""

    async def note(self) -> bytes:
        """What `set_note` kept last; empty where nothing was."""

    async def set_note(
        self, note: bytes, blocks: Sequence[tuple[int, bytes, Sequence[str]]]
    ) -> None:
        """Keep a note, and (index, block, keys) of earlier indices, in one step; on disk when this answers."""

    async def sync(self) -> None:
        """Everything appended is on disk when this answers."""

    async def close(self) -> None:
        """Sync and let go."""


class PrunableStore(EventStore, Protocol):
    """An event store that can forget its oldest blocks."""

    async def size(self) -> int:
        """Bytes of blocks and keys, about."""

    async def prune(self, below_index: int) -> int:
        """Forget blocks below an index, and their keys; answers how many, at most so many that it is quick. 0: done."""
