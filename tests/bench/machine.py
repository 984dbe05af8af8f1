"""Where it was measured: a figure without its machine says little."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def described(directory: Path) -> dict[str, Any]:
    """Processor, memory, kernel, interpreter, the file system of `directory`, and how busy it is just now."""
    return {
        "processor": _line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _line("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": _file_system(directory),
        "load_average": os.getloadavg()[0],
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all below it; 0 where it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0.0
    # The name stands in parentheses and may hold spaces; user and system ticks are fields 14 and 15 of proc(5).
    fields = text.rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


def _line(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown"
    )


def _file_system(directory: Path) -> str:
    """Type and source of the mount that holds the directory: the longest mount point above it."""
    here, found = str(directory.resolve()), ("", "unknown")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        source, point, kind, *_ = line.split()
        if (here + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(found[0]):
            found = (point, f"{kind} on {source}")
    return found[1]
