"""Charts as SVG, drawn on the server: sizes are in a view box, colours are classes (static/pages.css), so charts follow
the theme.

The content of a chart is also in its title or in a table beside it, for screen readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from models import units

WIDTH, HEIGHT = 760, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 28
BAR_WIDTH: Final = 220
NODE_WIDTH: Final = 14
SANKEY_GAP: Final = 14
NAME_HEIGHT: Final = 13
LEAST_SIZE: Final = 3.0
TICKS: Final = 6
CURVE_COLOURS: Final = 5
"""The number of colours for curves."""


class Threshold(NamedTuple):
    """A threshold, drawn as a horizontal line across a chart."""

    value: float
    name: str


class Mark(NamedTuple):
    """An event at an instant."""

    at_ms: int
    kind: str
    """The class with which it is drawn: complaint, tier, alert."""
    text: str


class Point(NamedTuple):
    """A value at an instant."""

    at_ms: int
    value: float


def timeline(
    risk: Sequence[Point], spend: Sequence[Point], thresholds: Sequence[Threshold], marks: Sequence[Mark], title: str
) -> Markup:
    """Probability (0 to 1) as a curve with its thresholds, purchases as bars, and other events as marks."""
    if not risk:
        return Markup("")
    first_ms, last_ms = risk[0].at_ms, max(risk[-1].at_ms, risk[0].at_ms + 1)
    most = max([one.value for one in spend], default=0.0) or 1.0

    def x(at_ms: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at_ms - first_ms) / (last_ms - first_ms)

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    parts = [_opened(WIDTH, HEIGHT, "chart timeline", title)]
    for share in (0.0, 0.5, 1.0):
        parts.append(_line("grid", LEFT, y(share), WIDTH - RIGHT, y(share)))
        parts.append(_text("tick", LEFT - 6, y(share) + 4, f"{share:.0%}", "end"))
    for at_ms in _ticks(first_ms, last_ms):
        parts.append(_text("tick", x(at_ms), HEIGHT - 8, units.format_time(at_ms)[:10], "middle"))
    for one in spend:
        if first_ms <= one.at_ms <= last_ms and one.value > 0:
            height = max(LEAST_SIZE, (HEIGHT - TOP - BOTTOM) * 0.4 * one.value / most)
            parts.append(
                f'<rect class="spend" x="{x(one.at_ms) - 2:.1f}" y="{y(0) - height:.1f}" width="4" height="{height:.1f}"/>'
            )
    free = 0.0
    for threshold in sorted(thresholds, key=lambda one: -one.value):
        parts.append(_line("threshold", LEFT, y(threshold.value), WIDTH - RIGHT, y(threshold.value)))
        free = max(free + NAME_HEIGHT, y(threshold.value) + NAME_HEIGHT - 2)
        parts.append(_text("threshold-name", LEFT + 4, free, threshold.name, "start"))
    path = " ".join(f"{'L' if number else 'M'}{x(one.at_ms):.1f} {y(one.value):.1f}" for number, one in enumerate(risk))
    parts.append(f'<path class="risk" d="{path}"/>')
    for mark in marks:
        if first_ms <= mark.at_ms <= last_ms:
            parts.append(
                f'<g class="mark {escape(mark.kind)}"><title>{escape(mark.text)}</title>'
                f"{_line('stem', x(mark.at_ms), TOP, x(mark.at_ms), y(0))}"
                f'<circle cx="{x(mark.at_ms):.1f}" cy="{TOP + 4}" r="4"/></g>'
            )
    last = WIDTH - RIGHT  # the page's slider moves the cursor between `data-left` and `data-right`
    parts.append(
        f'<line class="cursor" x1="{last}" x2="{last}" y1="{TOP}" y2="{y(0):.1f}" data-left="{LEFT}" data-right="{last}"/>'
    )
    return Markup("".join(parts) + "</svg>")


def signed_bar(value: float, largest: float) -> Markup:
    """A contribution as a bar: to the right if it raises the risk, to the left if it lowers it. `largest` fills one
    half.
    """
    middle = BAR_WIDTH / 2
    length = middle * min(abs(value) / largest, 1.0) if largest else 0.0
    x, kind = (middle, "raises") if value >= 0 else (middle - length, "lowers")
    return Markup(
        f'<svg class="bar-chart" viewBox="0 0 {BAR_WIDTH} 16" aria-hidden="true">'
        f'<rect class="{kind}" x="{x:.1f}" y="2" width="{length:.1f}" height="12" rx="2"/>'
        f"{_line('axis', middle, 0, middle, 16)}</svg>"
    )


def sankey(
    flows: Mapping[tuple[str, str], float],
    before: Sequence[str],
    after: Sequence[str],
    title: str,
    direction: Callable[[str, str], int] | None = None,
) -> Markup:
    """The moves of customers from nodes on the left to nodes on the right; `before` and `after` are the nodes from the
    top.

    `direction` says whether a move is up (1), down (-1) or neither (0); without it, the order of `before` decides.
    """
    flows = {move: size for move, size in flows.items() if size > 0}
    total = sum(flows.values())
    if not total:
        return Markup("")
    present = [
        [name for name in order if any(move[side] == name for move in flows)]
        for side, order in enumerate((before, after))
    ]
    most = max(map(len, present))
    height = 60 + 50 * most
    usable = height - TOP - BOTTOM - SANKEY_GAP * (most - 1)
    left, right = WIDTH * 0.2, WIDTH * 0.8

    def stacked(side: int) -> dict[str, tuple[float, float]]:
        """The top and the height of each node."""
        found, y = {}, float(TOP)
        for name in present[side]:
            size = sum(value for move, value in flows.items() if move[side] == name) / total * usable
            found[name] = (y, size)
            y += size + SANKEY_GAP
        return found

    sides = stacked(0), stacked(1)
    parts = [_opened(WIDTH, height, "chart sankey", title)]
    used = tuple(dict.fromkeys(names, 0.0) for names in present)
    places = tuple({name: number for number, name in enumerate(names)} for names in present)
    for (left_name, right_name), value in sorted(flows.items(), key=lambda one: [places[n][one[0][n]] for n in (0, 1)]):
        size = value / total * usable
        y1 = sides[0][left_name][0] + used[0][left_name] + size / 2
        y2 = sides[1][right_name][0] + used[1][right_name] + size / 2
        used[0][left_name] += size
        used[1][right_name] += size
        if direction is not None:
            sign = direction(left_name, right_name)
        else:
            sign = before.index(left_name) - before.index(right_name)
        kind = "up" if sign > 0 else "down" if sign < 0 else "stay"
        x1, x2, middle = left + NODE_WIDTH, right, (left + right) / 2
        parts.append(
            f'<path class="flow {kind}" stroke-width="{max(size, 1.0):.1f}" '
            f'd="M{x1:.1f} {y1:.1f} C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}">'
            f"<title>{escape(left_name)} → {escape(right_name)}: {value:,.0f}</title></path>"
        )
    for side, (x, anchor, offset) in enumerate(((left, "end", -8), (right, "start", NODE_WIDTH + 8))):
        for name, (y, size) in sides[side].items():
            if size:
                count = sum(value for move, value in flows.items() if move[side] == name)
                parts.append(
                    f'<rect class="node" x="{x:.1f}" y="{y:.1f}" width="{NODE_WIDTH}" height="{max(size, 1.0):.1f}"/>'
                )
                parts.append(_text("label", x + offset, y + size / 2 + 5, f"{name} {count:,.0f}", anchor))
    return Markup("".join(parts) + "</svg>")


def columns(dates: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], title: str) -> Markup:
    """Columns side by side for each date; `series` are pairs of class and values."""
    most = max([value for _, values in series for value in values], default=0.0)
    if not dates or most <= 0:
        return Markup("")
    height = 200
    slot = (WIDTH - LEFT - RIGHT) / len(dates)
    width = min(18.0, slot * 0.8 / len(series))
    parts = [_opened(WIDTH, height, "chart columns", title)]
    for share in (0.0, 0.5, 1.0):
        y = TOP + (height - TOP - BOTTOM) * (1 - share)
        parts.append(_line("grid", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text("tick", LEFT - 6, y + 4, f"{most * share:,.0f}", "end"))
    every = max(1, -(-len(dates) // TICKS))
    for number, date in enumerate(dates):
        x = LEFT + slot * (number + 0.5)
        if number % every == 0:
            parts.append(_text("tick", x, height - 8, date[5:], "middle"))
        for index, (kind, values) in enumerate(series):
            size = (height - TOP - BOTTOM) * values[number] / most
            if size:
                parts.append(
                    f'<rect class="{kind}" x="{x + (index - len(series) / 2) * width:.1f}" y="{height - BOTTOM - size:.1f}" '
                    f'width="{width:.1f}" height="{size:.1f}"><title>{escape(date)}: {values[number]:,.0f}</title></rect>'
                )
    return Markup("".join(parts) + "</svg>")


def curves(dates: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], title: str) -> Markup:
    """A curve for each name, which is written at the end of the curve."""
    most = max([value for _, values in series for value in values], default=0.0)
    if len(dates) < 2 or most <= 0:
        return Markup("")
    height, right = 220, 90
    step = (WIDTH - LEFT - right) / (len(dates) - 1)

    def y(value: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - value / most)

    parts = [_opened(WIDTH, height, "chart curves", title)]
    for share in (0.0, 0.5, 1.0):
        parts.append(_line("grid", LEFT, y(most * share), WIDTH - right, y(most * share)))
        parts.append(_text("tick", LEFT - 6, y(most * share) + 4, f"{most * share:,.0f}", "end"))
    every = max(1, -(-len(dates) // TICKS))
    for number in range(0, len(dates), every):
        parts.append(_text("tick", LEFT + step * number, height - 8, dates[number][5:], "middle"))
    free = -float(NAME_HEIGHT)
    ranked = sorted(enumerate(series), key=lambda one: -one[1][1][-1])
    for index, (name, values) in ranked:
        path = " ".join(f"{'L' if n else 'M'}{LEFT + step * n:.1f} {y(value):.1f}" for n, value in enumerate(values))
        parts.append(f'<path class="curve curve-{index % CURVE_COLOURS}" d="{path}"/>')
        free = max(free + NAME_HEIGHT, y(values[-1]) + 4)
        parts.append(
            _text(f"name curve-{index % CURVE_COLOURS}", WIDTH - right + 6, free, f"{name} {values[-1]:,.0f}", "start")
        )
    return Markup("".join(parts) + "</svg>")


def _ticks(first_ms: int, last_ms: int) -> list[int]:
    """The beginnings of months, at most TICKS of them."""
    months = []
    at = datetime.fromtimestamp(first_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while (at_ms := int(at.timestamp() * 1000)) <= last_ms:
        if at_ms >= first_ms:
            months.append(at_ms)
        at = at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)
    return months[:: max(1, -(-len(months) // TICKS))]


def _opened(width: float, height: float, kind: str, title: str) -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
