"""GPUs of this machine, as the NVIDIA driver lists them in /proc: no library, no command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.agent.cgroups import read_text
from raftalloc.core.quantities import DEVICES_PER_NODE_MAX, NAME_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path

GPUS: Final = "proc/driver/nvidia/gpus"
UNKNOWN_MODEL: Final = "nvidia"


def gpu_models(root: Path) -> tuple[str, ...]:
    """A model name per GPU, in order of bus address, which is how the driver numbers them. Empty without driver."""
    try:
        addresses = sorted(path for path in (root / GPUS).iterdir() if path.is_dir())
    except OSError:
        return ()
    return tuple(_model(address) for address in addresses[:DEVICES_PER_NODE_MAX])


def _model(address: Path) -> str:
    r"""`Model: \t NVIDIA A100-SXM4-40GB` -> `NVIDIA A100-SXM4-40GB`."""
    for line in read_text(address / "information").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "Model" and value.strip():
            return "".join(c for c in value.strip() if c.isprintable())[: NAME_BYTES_MAX // 4]
    return UNKNOWN_MODEL
