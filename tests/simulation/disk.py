"""A disk for the Raft log that forgets, at a power cut, what was not synced; that tears, fails and is slow.

The kernel's side (what a process that comes after a kill still reads) and the platter's (what is there after a power
cut) are kept apart, for the content of files and for the names of directories. A sector is
written wholly or not at all.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections import Counter, deque
from typing import TYPE_CHECKING, Protocol

from raftalloc.errors import DataDirectoryError
from tests.simulation.dice import Dice

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.faults import Mix

SECTOR = 512
NEVER = 1 << 62


class Chance(Protocol):
    """As `random.Random`, or a `ports.Rng`."""

    def random(self) -> float:
        """In [0, 1)."""


class Timers(Protocol):
    """As `ports.Clock`."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        """Call back, unless the process has died by then."""


class Killed(BaseException):
    """The process ends in the middle of an operation of the disk; nothing after it in that thread happens."""


class Inode:
    """A file, whatever its names."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.durable = bytearray()
        self.dirty: list[tuple[int, bytes]] = []

    def sync(self) -> None:
        size = len(self.content)
        self.durable.extend(bytes(max(0, size - len(self.durable))))
        for offset, data in self.dirty:
            self.durable[offset : offset + len(data)] = data
        self.dirty.clear()

    def lose_power(self, survival: float, chance: Chance) -> None:
        """Of what was not synced, each sector survives or not."""
        if self.dirty and survival:
            self.durable.extend(bytes(max(0, len(self.content) - len(self.durable))))
        for offset, data in self.dirty:
            at = 0
            while at < len(data):
                end = min(len(data), (offset + at) // SECTOR * SECTOR + SECTOR - offset)
                if chance.random() < survival:
                    self.durable[offset + at : offset + end] = data[at:end]
                at = end
        self.dirty.clear()
        self.content = bytearray(self.durable)


class SimulatedFile:
    """A handle of one life of the process."""

    def __init__(self, disk: SimulatedDisk, inode: Inode) -> None:
        self._disk, self._inode, self._life = disk, inode, disk.life

    def size(self) -> int:
        return len(self._inode.content)

    def read(self, offset: int, count: int) -> bytes:
        self._disk.operation("read", self._life)
        return bytes(self._inode.content[offset : offset + count])

    def write_at(self, offset: int, content: bytes) -> None:
        inode = self._inode
        try:
            self._disk.operation("write", self._life)
        except (OSError, Killed):
            # Some of it got there: whole sectors from its beginning on.
            end = offset + int(self._disk.chance.random() * (len(content) + 1))
            content = content[: max(0, end // SECTOR * SECTOR - offset)]
            self._put(inode, offset, content)
            raise
        self._put(inode, offset, content)

    def _put(self, inode: Inode, offset: int, content: bytes) -> None:
        if content:
            end = offset + len(content)
            inode.content.extend(bytes(max(0, end - len(inode.content))))
            inode.content[offset:end] = content
            inode.dirty.append((offset, bytes(content)))

    def sync(self) -> None:
        try:
            self._disk.operation("sync", self._life)
        except OSError:
            # As Linux does: the pages are clean now, a later sync has nothing to do, and the platter has nothing.
            self._inode.dirty.clear()
            raise
        self._inode.sync()

    def close(self) -> None:
        """Handles cost nothing here."""


class SimulatedDisk:
    """A `ports.LogDisk` that outlives its process: `kill` and `cut_power` end a life, the next one opens it again.

    Work that was submitted runs `seconds()` later on `timers`, or, where there are none, when `run_one` is called.
    Faults: `fail(kind, errno, after=n)`, kinds read, write, sync, create, rename, remove, sync_directory. `kill_after`
    operations the process is killed in the middle of one: that operation raises Killed.
    """

    def __init__(self, chance: Chance, timers: Timers | None = None) -> None:
        self.chance = chance
        self.timers = timers
        self.seconds: Callable[[], float] = lambda: 0.0005
        self.life = 0
        self.kill_after = NEVER
        self.counts: Counter[str] = Counter()
        self.files: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._unsynced_names: dict[str, list[tuple[str, Inode | None]]] = {}
        self._faults: dict[str, tuple[int, int]] = {}
        self._jobs: deque[tuple[Callable[[], None], Callable[[OSError | None], None]]] = deque()
        self._locks: set[str] = set()

    # Faults

    def fail(self, kind: str, code: int = errno.EIO, *, after: int = 0) -> None:
        """That operation fails, after so many that succeed, until `mend`."""
        self._faults[kind] = (self.counts[kind] + after, code)

    def mend(self) -> None:
        """Nothing fails any more."""
        self._faults.clear()

    def kill(self) -> None:
        """As kill -9: what the kernel has been given stays. The work under way may have begun."""
        if self._jobs and self.chance.random() < 0.5:
            work, _ = self._jobs[0]
            self.kill_after = int(self.chance.random() * 6)
            try:
                work()
            except (Killed, OSError):
                self.counts["torn"] += 1
        self._end_life()

    def cut_power(self) -> None:
        """`kill`, and what was not synced is lost: nothing, all, or each sector and name by chance."""
        self.kill()
        drawn = self.chance.random()
        survival = 0.0 if drawn < 0.3 else 1.0 if drawn < 0.4 else drawn
        for _directory, changes in sorted(self._unsynced_names.items()):
            kept = int(self.chance.random() * (len(changes) + 1)) if survival else 0
            for path, inode in changes[:kept]:
                _set_name(self._durable_names, path, inode)
        self._unsynced_names.clear()
        self.files = dict(self._durable_names)
        for _path, inode in sorted(self.files.items()):
            inode.lose_power(survival, self.chance)

    def _end_life(self) -> None:
        self.life += 1
        self.kill_after = NEVER
        self._jobs.clear()
        self._locks.clear()

    def operation(self, kind: str, life: int) -> None:
        """One is about to happen: it may fail, or the process may die in it."""
        if life != self.life:
            raise Killed
        self.kill_after -= 1
        if self.kill_after < 0:
            raise Killed
        after, code = self._faults.get(kind, (NEVER, 0))
        self.counts[kind] += 1
        if self.counts[kind] > after:
            raise OSError(code, os.strerror(code))

    # Time

    def submit(self, work: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        self._jobs.append((work, done))
        if self.timers is not None:
            life = self.life
            self.timers.call_later(self.seconds(), lambda: self._run(life))

    def _run(self, life: int) -> None:
        if life == self.life:
            self.run_one()

    def run_one(self) -> bool:
        """Do the oldest work that was submitted, and call back; False where there is none."""
        if not self._jobs:
            return False
        work, done = self._jobs.popleft()
        try:
            work()
        except OSError as error:
            done(error)
        else:
            done(None)
        return True

    def drain(self) -> None:
        while self.run_one():
            """The next one."""

    def close(self) -> None:
        self.drain()

    # Names

    def make_directory(self, path: str) -> None:
        """There are only names."""

    def list(self, path: str) -> list[str]:
        prefix = path + "/"
        return sorted(
            name[len(prefix) :]
            for name in self.files
            if name.startswith(prefix) and "/" not in name[len(prefix) :]
        )

    def create(self, path: str, size: int) -> SimulatedFile:
        self.operation("create", self.life)
        inode = Inode(size)
        self._name(path, inode)
        return SimulatedFile(self, inode)

    def open(self, path: str, *, writable: bool) -> SimulatedFile:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return SimulatedFile(self, self.files[path])

    def rename(self, old: str, new: str) -> None:
        self.operation("rename", self.life)
        inode = self.files[old]
        # A cut between the two leaves both names, which is more than a disk with a journal does to us.
        self._name(new, inode)
        _set_name(self.files, old, None)
        self._unsynced_names[posixpath.dirname(new)].append((old, None))

    def remove(self, path: str) -> None:
        self.operation("remove", self.life)
        self._name(path, None)

    def sync_directory(self, path: str) -> None:
        self.operation("sync_directory", self.life)
        for name, inode in self._unsynced_names.pop(path, []):
            _set_name(self._durable_names, name, inode)

    def lock(self, path: str) -> Callable[[], None]:
        if path in self._locks:
            raise DataDirectoryError(
                f"{posixpath.dirname(path)}: in use by pid 1; stop that process"
            )
        self._locks.add(path)
        life = self.life
        return lambda: self._locks.discard(path) if life == self.life else None

    def _name(self, path: str, inode: Inode | None) -> None:
        _set_name(self.files, path, inode)
        self._unsynced_names.setdefault(posixpath.dirname(path), []).append((path, inode))


def _set_name(names: dict[str, Inode], path: str, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode


def new_disk(seed: int, name: str, mix: Mix) -> SimulatedDisk:
    """An empty one, as fast as the mix says."""
    dice = Dice(seed, f"disk/{name}")
    disk = SimulatedDisk(dice)
    stall = 20.0
    disk.seconds = lambda: (
        mix.sync_seconds * (stall if dice.happens(mix.sync_stalls) else dice.random())
    )
    return disk
