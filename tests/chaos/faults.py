"""What is done to the group: each fault says how it begins and how it ends. Everything else is the course's."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.system import sync_directory
from tests.chaos.power import PowerDisk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from raftalloc.cli.group import LocalGroup

DISK_MEGABYTES: Final = 512


class Victims:
    """The group, and whom the fault of this round has hit."""

    def __init__(self, group: LocalGroup, disks: Mapping[str, PowerDisk]) -> None:
        """`disks`: of each replica, where power can be cut."""
        self.group = group
        self.disks = disks
        self.hit: list[str] = []

    async def kill_leader(self, leader: str) -> None:
        """SIGKILL: the process ends wherever it is."""
        self.hit = [leader]
        self.group.signal(leader, signal.SIGKILL)

    async def kill_follower(self, leader: str) -> None:
        """SIGKILL to the first that does not lead."""
        self.hit = [next(name for name in self.group.replica_ids if name != leader)]
        self.group.signal(self.hit[0], signal.SIGKILL)

    async def kill_all(self, _leader: str) -> None:
        """SIGKILL to all, started again at once."""
        self.hit = []
        await self._kill_all()
        self.group.start()

    async def pause_leader(self, leader: str) -> None:
        """SIGSTOP: it keeps its connections, and says nothing."""
        self.hit = [leader]
        self.group.signal(leader, signal.SIGSTOP)

    async def restart_leader(self, leader: str) -> None:
        """SIGTERM: it hands the lead over and goes."""
        self.hit = [leader]
        self.group.signal(leader, signal.SIGTERM)

    async def cut_power(self, _leader: str) -> None:
        """The disk of each replica forgets what was not synced; then everything starts again.

        All stand still first, as without power: while ext4 goes down, a sync that it overtakes may still
        answer that all is well.
        """
        self.hit = []
        for name in self.group.running():
            self.group.signal(name, signal.SIGSTOP)
        for disk in self.disks.values():
            disk.cut()
        await self._kill_all()
        for disk in self.disks.values():
            disk.unmount()
            disk.restore()
        self.group.start()

    async def start_again(self) -> None:
        """Undo a kill or a restart."""
        await self.group.wait_ended(*self.hit)
        self.group.start(*self.hit)

    async def go_on(self) -> None:
        """Undo a pause."""
        for name in self.hit:
            self.group.signal(name, signal.SIGCONT)

    async def nothing(self) -> None:
        """There is nothing to undo."""

    async def _kill_all(self) -> None:
        names = self.group.running()
        for name in names:
            self.group.signal(name, signal.SIGKILL)
        await asyncio.gather(*(self.group.wait_ended(name) for name in names))


@dataclass(frozen=True, slots=True)
class Fault:
    """begin: told who leads. end: undoes it, so that the group can be well again."""

    begin: Callable[[Victims, str], Awaitable[None]]
    end: Callable[[Victims], Awaitable[None]]


FAULTS: Final = {
    "kill": Fault(Victims.kill_leader, Victims.start_again),
    "pause": Fault(Victims.pause_leader, Victims.go_on),
    "kill-follower": Fault(Victims.kill_follower, Victims.start_again),
    "kill-all": Fault(Victims.kill_all, Victims.nothing),
    "restart": Fault(Victims.restart_leader, Victims.start_again),
    "power": Fault(Victims.cut_power, Victims.nothing),
}


def power_disks(group: LocalGroup) -> dict[str, PowerDisk]:
    """A file system of its own for each replica, mounted where its data will be. Raises NoPowerDisk."""
    disks: dict[str, PowerDisk] = {}
    try:
        for name in group.replica_ids:
            data = group.directory / "data" / name
            image = group.directory / f"{name}.ext4"
            disks[name] = PowerDisk(image, data, megabytes=DISK_MEGABYTES)
            # A replica begins in an empty directory only, and must find it so after a cut too.
            (data / "lost+found").rmdir()
            sync_directory(str(data))
    except BaseException:
        unmount(disks)
        raise
    return disks


def unmount(disks: Mapping[str, PowerDisk]) -> None:
    """All that are mounted."""
    for disk in disks.values():
        if disk.mount.is_mount():
            disk.unmount()
