"""GPUs of a node: shares of one device, and whole devices.

An amount below 1000 is a share of one device, best fit: the device with the least free that suffices; else whole
devices, the lowest numbers that are entirely free. Of the models named, or any.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raftalloc.core.fleet import Mask
from raftalloc.core.matrix import Column
from raftalloc.core.quantities import DEVICE_UNITS

Devices = tuple[tuple[int, int], ...]
"""(device number, units) of each device taken."""


def fits_devices(device_free: Column, models: Mask, gpu: int) -> Mask:
    """(rows,): whether a share fits one device, or whole devices are free, among the devices of `models`."""
    fits: Mask
    if gpu < DEVICE_UNITS:
        fits = np.any((device_free >= gpu) & models, axis=1)
    else:
        whole = np.sum((device_free == DEVICE_UNITS) & models, axis=1)
        fits = whole * DEVICE_UNITS >= gpu
    return fits


def choose_devices(free: NDArray[np.int64], models: Mask, gpu: int) -> Devices | None:
    """Devices of one node: `free` and `models` are (devices,). None: they do not fit."""
    if gpu < DEVICE_UNITS:
        candidates = [d for d in np.flatnonzero(models).tolist() if free[d] >= gpu]
        if not candidates:
            return None
        return ((min(candidates, key=lambda device: (int(free[device]), device)), gpu),)
    whole = np.flatnonzero(models & (free == DEVICE_UNITS)).tolist()
    count = gpu // DEVICE_UNITS
    return (
        tuple((device, DEVICE_UNITS) for device in whole[:count]) if len(whole) >= count else None
    )
