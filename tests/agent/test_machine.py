from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from raftalloc.agent import cgroups
from raftalloc.agent.devices import UNKNOWN_MODEL, gpu_models
from raftalloc.agent.machine import cpu_milli, discover, disk_mib, memory_mib, network_mbps

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, files: dict[str, str]) -> Path:
    """A file system of a few files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


MEMINFO = {"proc/meminfo": "MemTotal:       16384000 kB\nMemFree:  1 kB\n"}


def test_memory_is_what_the_kernel_says_rounded_down(tmp_path: Path) -> None:
    assert memory_mib(write(tmp_path, MEMINFO)) == 16000
    assert memory_mib(write(tmp_path, {"proc/meminfo": "MemTotal: 2047 kB\n"})) == 1


@pytest.mark.parametrize("text", ["", "MemTotal:\n", "MemTotal: lots kB\n", "\x00\xff"])
def test_what_cannot_be_told_is_nothing(tmp_path: Path, text: str) -> None:
    assert memory_mib(write(tmp_path, {"proc/meminfo": text})) == 0


def test_the_least_limit_of_a_version_2_group_and_its_ancestors_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            **MEMINFO,
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/container/memory.max": "max\n",
            "sys/fs/cgroup/pod/memory.max": f"{512 << 20}\n",
            "sys/fs/cgroup/pod/container/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "max 100000\n",
        },
    )
    assert memory_mib(root) == 512
    assert cgroups.cpu_milli(root) == 1500


def test_a_version_1_group_is_read_too_and_no_limit_is_none(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{256 << 20}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "33333\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroups.memory_bytes(root) == 256 << 20
    assert cgroups.cpu_milli(root) == 333


def test_in_a_container_the_mount_is_the_group_itself(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../elsewhere\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
    )
    assert cgroups.cpu_milli(root) == 500


def test_without_limits_there_are_none(tmp_path: Path) -> None:
    assert cgroups.cpu_milli(tmp_path) is None
    assert cgroups.memory_bytes(tmp_path) is None
    assert cpu_milli(tmp_path) == len(os.sched_getaffinity(0)) * 1000


def test_a_limit_below_the_cpus_counts_and_one_above_does_not(tmp_path: Path) -> None:
    root = write(tmp_path, {"sys/fs/cgroup/cpu.max": "10000 100000\n"})
    assert cpu_milli(root) == 100
    root = write(tmp_path, {"sys/fs/cgroup/cpu.max": "100000000 100000\n"})
    assert cpu_milli(root) == len(os.sched_getaffinity(0)) * 1000


def interface(name: str, speed: str, state: str = "up", *, physical: bool = True) -> dict[str, str]:
    where = f"sys/class/net/{name}"
    files = {f"{where}/speed": speed + "\n", f"{where}/operstate": state + "\n"}
    return {**files, f"{where}/device/vendor": "x"} if physical else files


def test_the_network_is_the_physical_interfaces_that_are_up(tmp_path: Path) -> None:
    files = {
        **interface("eth0", "10000"),
        **interface("eth1", "1000"),
        **interface("eth2", "25000", "down"),
        **interface("eth3", "-1"),
        **interface("eth4", "4294967295"),
        **interface("bond0", "11000", physical=False),
        **interface("lo", "100000", "unknown", physical=False),
    }
    assert network_mbps(write(tmp_path, files)) == 11000


def test_without_a_physical_interface_the_fastest_other_stands_in(tmp_path: Path) -> None:
    files = {
        **interface("veth0", "10000", physical=False),
        **interface("veth1", "1000", physical=False),
    }
    assert network_mbps(write(tmp_path, files)) == 10000
    assert network_mbps(tmp_path / "nowhere") == 0


def test_gpus_are_listed_by_model_in_order_of_address(tmp_path: Path) -> None:
    gpus = "proc/driver/nvidia/gpus"
    root = write(
        tmp_path,
        {
            f"{gpus}/0000:81:00.0/information": "Model: \t\t NVIDIA H100\nIRQ: 3\n",
            f"{gpus}/0000:01:00.0/information": "Model: \t NVIDIA A100-SXM4-40GB\n",
            f"{gpus}/0000:c1:00.0/information": "",
        },
    )
    assert gpu_models(root) == ("NVIDIA A100-SXM4-40GB", "NVIDIA H100", UNKNOWN_MODEL)
    assert gpu_models(tmp_path / "nowhere") == ()


def test_a_disk_that_is_not_there_is_no_disk(tmp_path: Path) -> None:
    assert disk_mib(str(tmp_path)) > 0
    assert disk_mib(str(tmp_path / "nowhere")) == 0


def test_this_machine_has_a_name_a_cpu_and_memory() -> None:
    machine = discover()
    assert machine.name
    assert machine.capacity["cpu"] > 0
    assert machine.capacity["memory"] > 0
    assert all(units > 0 for units in machine.capacity.values())
    assert machine.attributes["os"] == "linux"


def test_a_kind_that_cannot_be_told_is_left_out(tmp_path: Path) -> None:
    machine = discover(root=tmp_path, disk_path=str(tmp_path / "nowhere"))
    assert set(machine.capacity) == {"cpu"}
