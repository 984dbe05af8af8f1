"""The benches there are: a module each, which says in BENCH what it is called and how it is run.

A new bench is a module beside these and its line in BENCHES. It measures `context.runs` times and adds every value to
`context.figures`; what is the same for all (runs, report, machine, ratios, Ctrl-C) is the command's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.bench.figures import Figures


@dataclass(frozen=True, slots=True)
class Context:
    """What a bench is given.

    runs: how often each case is measured. seconds: how long, each time. peers: whether others are measured beside us,
    where they are there. directory: for data, its own. say: a line of progress.
    """

    figures: Figures
    directory: Path
    runs: int
    seconds: float
    peers: bool
    quick: bool
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """says: what it measures, in a line. relate: adds its ratios, when everything was measured."""

    name: str
    says: str
    measure: Callable[[Context], Awaitable[None]]
    relate: Callable[[Figures], None]
