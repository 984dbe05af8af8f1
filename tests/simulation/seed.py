"""Running a seed: one world from its beginning to its verdict, with what of this process it needs meanwhile."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import pysyncobj.syncobj

from tests.simulation import clock as clocks
from tests.simulation import faults, mutants
from tests.simulation.world import FAULT_SECONDS, Verdict, World

if TYPE_CHECKING:
    from collections.abc import Sequence


def simulate(
    seed: int,
    allowed: Sequence[str] = faults.ALL,
    mutant: str = "",
    fault_seconds: float = FAULT_SECONDS,
) -> Verdict:
    """Run one seed, with one correction taken away perhaps. pysyncobj's clock is the running replica's meanwhile."""
    stock = pysyncobj.syncobj.monotonicTime
    level = logging.root.manager.disable
    pysyncobj.syncobj.monotonicTime = clocks.current_monotonic
    logging.disable(logging.CRITICAL)
    try:
        with mutants.applied(mutant):
            return World(seed, allowed, fault_seconds).run()
    finally:
        logging.disable(level)
        pysyncobj.syncobj.monotonicTime = stock


def simulate_cleanly(
    seed: int, allowed: Sequence[str], mutant: str, fault_seconds: float
) -> Verdict:
    """`simulate`, with garbage collected after the run and not in it."""
    gc.disable()
    try:
        return simulate(seed, allowed, mutant, fault_seconds)
    finally:
        gc.collect()
