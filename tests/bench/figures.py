"""What was measured: several values of each figure, what a reader wants of them, and ratios within one run."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


@dataclass(slots=True)
class Figure:
    """The values of some runs, in one unit."""

    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the runs."""
        return statistics.median(self.values)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "min": min(self.values),
            "median": self.median,
            "max": max(self.values),
            "unit": self.unit,
        }


class Figures:
    """Figures by bench and name. Ratios are of medians, and only of what was measured in this run."""

    def __init__(self) -> None:
        """Nothing was measured yet."""
        self.ratios: dict[str, float] = {}
        self._by_bench: dict[str, dict[str, Figure]] = defaultdict(dict)

    def add(self, bench: str, name: str, value: float, unit: str) -> None:
        """One more value."""
        figure = self._by_bench[bench].setdefault(name, Figure(unit))
        assert figure.unit == unit, f"{bench} {name} is in {figure.unit}, not in {unit}"
        figure.values.append(round(value, 3))

    def median(self, bench: str, name: str) -> float | None:
        """Of the runs so far; None where it was not measured."""
        figure = self._by_bench.get(bench, {}).get(name)
        return None if figure is None else figure.median

    def relate(
        self, name: str, over: tuple[str, str], under: Sequence[tuple[str, str, float]]
    ) -> None:
        """ratios[name] = the figure `over` (bench, name) / the sum of factor x each of `under`, if all are there."""
        top = self.median(*over)
        parts = [(self.median(bench, figure), factor) for bench, figure, factor in under]
        bottom = sum(value * factor for value, factor in parts if value is not None)
        if top is not None and bottom and all(value is not None for value, _ in parts):
            self.ratios[name] = round(top / bottom, 3)

    def plain(self) -> dict[str, Any]:
        """As JSON has it, without the machine."""
        benches: dict[str, Any] = {
            bench: {name: figure.plain() for name, figure in figures.items()}
            for bench, figures in self._by_bench.items()
        }
        return {**benches, "ratios": self.ratios}

    def table(self) -> Iterator[str]:
        """For people."""
        for bench, figures in self._by_bench.items():
            yield f"{bench:<44} {'min':>12} {'median':>12} {'max':>12}"
            for name, figure in figures.items():
                low, middle, high = min(figure.values), figure.median, max(figure.values)
                yield f"  {name:<42} {_text(low)} {_text(middle)} {_text(high)}  {figure.unit}"
        if self.ratios:
            yield "ratios of medians of this run"
            yield from (f"  {name:<68} {_text(value)}" for name, value in self.ratios.items())


def quantiles_ms(seconds: Iterable[float]) -> tuple[float, float]:
    """Median and 99th percentile of some times, in milliseconds; 0 of none."""
    ordered = sorted(seconds)
    if not ordered:
        return 0.0, 0.0
    last = len(ordered) - 1
    return ordered[len(ordered) // 2] * 1000, ordered[min(last, len(ordered) * 99 // 100)] * 1000


def _text(value: float) -> str:
    return f"{value:>12,.0f}" if abs(value) >= 1000 else f"{value:>12.3g}"
