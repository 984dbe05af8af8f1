"""What the control group of this process allows: CPU time and memory, in version 1 and 2.

A limit of any ancestor holds too, so the least one on the way to the root counts. Within a container the paths of
/proc/self/cgroup may not exist below the mount point; then its root is the group itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOUNT: Final = "sys/fs/cgroup"
UNLIMITED_V1: Final = 1 << 60
"""Version 1 writes "no limit" as the largest number of pages that fits."""


def cpu_milli(root: Path) -> int | None:
    """Thousandths of a CPU that may be used, rounded down; None: no limit. `root`: normally `/`."""
    found = []
    for directory in _directories(root, ""):
        words = read_text(directory / "cpu.max").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            found.append(_share(int(words[0]), int(words[1])))
    for directory in _directories(root, "cpu"):
        quota = read_text(directory / "cpu.cfs_quota_us").strip()
        period = read_text(directory / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit():  # a quota of -1 is none
            found.append(_share(int(quota), int(period)))
    return min((share for share in found if share > 0), default=None)


def memory_bytes(root: Path) -> int | None:
    """Bytes of memory that may be used; None: no limit. `root`: normally `/`."""
    texts = [read_text(each / "memory.max") for each in _directories(root, "")]
    texts += [read_text(each / "memory.limit_in_bytes") for each in _directories(root, "memory")]
    limits = [int(text) for text in map(str.strip, texts) if text.isdigit()]
    return min((limit for limit in limits if 0 < limit < UNLIMITED_V1), default=None)


def read_text(path: Path) -> str:
    """The file, or nothing where it cannot be read: most of these are there on some machines only."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _share(quota: int, period: int) -> int:
    """Quota of a period, in thousandths, rounded down."""
    return quota * 1000 // period if period else 0


def _directories(root: Path, controller: str) -> Iterator[Path]:
    """The group's directory of a controller (empty: version 2) and those of its ancestors, as far as they exist."""
    mount = root / MOUNT / controller if controller else root / MOUNT
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), 0, -1):
            yield mount.joinpath(*parts[:length])
    yield mount
