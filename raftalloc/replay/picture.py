"""A small picture of the utilisation over time: SVG, written by hand, one line per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 260
LEFT: Final = 48
RIGHT: Final = 96
TOP: Final = 34
BOTTOM: Final = 34
COLOURS: Final = (
    "#1b6ca8",
    "#c8553d",
    "#3a7d44",
    "#8a5fbf",
    "#b8860b",
    "#00838f",
    "#ad1457",
    "#5d4037",
    "#455a64",
)
"""Told apart in both themes and by most eyes; they repeat after nine."""
_PLOT_WIDTH: Final = WIDTH - LEFT - RIGHT
_PLOT_HEIGHT: Final = HEIGHT - TOP - BOTTOM
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_TOPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Where the axis may end: a fleet that is hardly used would else be a line along the bottom."""
_TICKS_MAX: Final = 8
_STEPS: Final = tuple(base * 10**power for power in range(9) for base in (1, 2, 5))


def draw(title: str, step_s: float, kinds: Mapping[str, Sequence[float]]) -> str:
    """The picture as a text. kinds: for each the shares (0..1) taken in equal steps of step_s."""
    steps = max((len(shares) for shares in kinds.values()), default=0)
    peak = max((share for shares in kinds.values() for share in shares), default=1.0)
    top = next((each for each in _TOPS if peak <= each), _TOPS[-1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, size=13),
        *_levels(top),
        *_times(steps * step_s),
    ]
    for number, (kind, shares) in enumerate(kinds.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_line(shares, steps, top, colour))
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 12 + 18 * number, kind, colour=colour))
    parts.append("</svg>\n")
    return "\n".join(part for part in parts if part)


def _line(shares: Sequence[float], steps: int, top: float, colour: str) -> str:
    if not shares:
        return ""
    points = [
        f"{LEFT + _PLOT_WIDTH * edge / steps:.1f},{_height(share / top):.1f}"
        for step, share in enumerate(shares)
        for edge in (step, step + 1)  # a mean holds from edge to edge: a stair, not a slope
    ]
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>'


def _height(part: float) -> float:
    """The y of a part (0..1) of the axis."""
    return TOP + _PLOT_HEIGHT * (1 - min(max(part, 0.0), 1.0))


def _levels(top: float) -> list[str]:
    parts = []
    for quarter in (0, 1, 2, 3, 4):
        y = _height(quarter / 4)
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{100 * top * quarter / 4:g} %", anchor="end"))
    return parts


def _times(span_s: float) -> list[str]:
    unit_s, unit = next(((s, name) for s, name in _UNITS if span_s >= 2 * s), _UNITS[-1])
    span = span_s / unit_s
    step = next((each for each in _STEPS if span / each <= _TICKS_MAX), _STEPS[-1])
    return [
        _text(
            LEFT + (_PLOT_WIDTH * at / span if span else 0),
            HEIGHT - BOTTOM + 18,
            f"{at} {unit}",
            anchor="middle",
        )
        for at in range(0, int(span) + 1, step)
    ]


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = "#333333",
    size: int = 11,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
        f'font-size="{size}">{escape(words)}</text>'
    )
