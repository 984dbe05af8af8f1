"""A file system of its own that can lose its power: ext4 on a loop device, shut down without flushing. Needs root."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = 2
"""Neither the journal of the file system nor what it has not written yet reaches the disk."""
DISK_MEGABYTES: Final = 64
UNMOUNT_SECONDS: Final = 10.0
_UNMOUNT_PAUSE_SECONDS: Final = 0.05


def why_not() -> str:
    """Why no power can be cut here; empty where it can, as far as one sees without trying."""
    if os.geteuid() != 0:
        return "a real power cut needs root, to mount a file system of its own"
    if shutil.which("mkfs.ext4") is None:
        return "a real power cut needs mkfs.ext4"
    return ""


class NoPowerDisk(Exception):
    """No such file system can be made here."""


class PowerDisk:
    """Mounted at `mount` until its power is cut; `restore` mounts it again, as after a start of the machine."""

    def __init__(self, image: Path, mount: Path, *, megabytes: int = DISK_MEGABYTES) -> None:
        """Makes and mounts it. Raises NoPowerDisk."""
        self.image, self.mount = image, mount
        self.mount.mkdir(parents=True, exist_ok=True)
        try:
            run("truncate", "-s", f"{megabytes}M", str(self.image))
            run("mkfs.ext4", "-q", "-F", str(self.image))
            self.restore()
        except subprocess.CalledProcessError as error:
            raise NoPowerDisk(
                f"no loop device can be mounted here: {error.stderr.decode().strip()}"
            ) from error

    def restore(self) -> None:
        """The power is back."""
        run("mount", "-o", "loop", str(self.image), str(self.mount))

    def cut(self) -> None:
        """From now on every read, write and sync fails; what was not synced is gone."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self, seconds: float = UNMOUNT_SECONDS) -> None:
        """Once nothing is open on it; processes that were killed a moment ago may still be going."""
        tries = max(1, round(seconds / _UNMOUNT_PAUSE_SECONDS))
        for left in range(tries - 1, -1, -1):
            try:
                run("umount", str(self.mount))
            except subprocess.CalledProcessError:
                if not left:
                    raise
                time.sleep(_UNMOUNT_PAUSE_SECONDS)
            else:
                return


def run(*command: str) -> None:
    """A command of the system. Raises CalledProcessError."""
    subprocess.run(command, check=True, capture_output=True, timeout=30)
