"""What this machine has, in canonical units, rounded down: nobody may be promised what is not there.

    cpu       the CPUs this process may run on, or what its control group allows, if that is less
    memory    physical memory, likewise
    disk      the size of a filesystem, less what is kept for root
    network   the speeds of the physical interfaces that are up, together; of others where none says its speed
    gpu       the devices that the NVIDIA driver lists

A kind that cannot be told is left out. Everything is read from files, below a root that tests replace.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from raftalloc.agent import cgroups
from raftalloc.agent.cgroups import read_text
from raftalloc.agent.devices import gpu_models
from raftalloc.core.quantities import AMOUNT_MAX, NAME_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path("/")
MIB: Final = 1 << 20
MBPS_MAX: Final = 10_000_000
"""No interface is faster; some drivers report 2^32 - 1 for "unknown"."""


@dataclass(frozen=True, slots=True)
class Machine:
    """capacity: canonical units by kind, each above 0. devices: a model per GPU. attributes: for constraints."""

    name: str
    capacity: Mapping[str, int]
    devices: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def discover(*, root: Path = ROOT, disk_path: str = "/") -> Machine:
    """This machine. `disk_path`: whose filesystem is offered as disk. Costs a few dozen reads of small files."""
    found = {
        "cpu": cpu_milli(root),
        "memory": memory_mib(root),
        "disk": disk_mib(disk_path),
        "network": network_mbps(root) * 1000,
    }
    system = os.uname()
    attributes = {
        "hostname": system.nodename,
        "os": system.sysname.lower(),
        "arch": system.machine,
        "kernel": system.release,
    }
    return Machine(
        name=system.nodename[:NAME_BYTES_MAX] or "localhost",
        capacity={kind: min(units, AMOUNT_MAX) for kind, units in found.items() if units > 0},
        devices=gpu_models(root),
        attributes={key: value[:NAME_BYTES_MAX] for key, value in attributes.items() if value},
    )


def cpu_milli(root: Path = ROOT) -> int:
    """Thousandths of a core."""
    own = len(os.sched_getaffinity(0)) * 1000
    limit = cgroups.cpu_milli(root)
    return own if limit is None else min(own, limit)


def memory_mib(root: Path = ROOT) -> int:
    """MiB; 0 where /proc/meminfo does not say."""
    size = 0
    for line in read_text(root / "proc/meminfo").splitlines():
        words = line.split()
        if words[:1] == ["MemTotal:"] and len(words) >= 2 and words[1].isdigit():
            size = int(words[1]) * 1024
    limit = cgroups.memory_bytes(root)
    return (size if limit is None else min(size, limit)) // MIB


def disk_mib(path: str) -> int:
    """MiB of the filesystem that holds `path`; 0 where there is none."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    for_root = found.f_bfree - found.f_bavail
    return max(0, found.f_blocks - for_root) * found.f_frsize // MIB


def network_mbps(root: Path = ROOT) -> int:
    """Mbps; 0 where no interface says."""
    try:
        interfaces = sorted((root / "sys/class/net").iterdir())
    except OSError:
        return 0
    physical, other = 0, 0
    for interface in interfaces:
        speed = _speed(interface)
        if (interface / "device").exists():
            physical += speed
        else:
            other = max(other, speed)
    return physical or other


def _speed(interface: Path) -> int:
    """Mbps of an interface that is up; 0 where it does not say, as loopback and most virtual ones."""
    state = read_text(interface / "operstate").strip()
    speed = read_text(interface / "speed").strip()
    if state not in ("up", "unknown") or not speed.isdigit() or interface.name == "lo":
        return 0
    return int(speed) if int(speed) <= MBPS_MAX else 0
