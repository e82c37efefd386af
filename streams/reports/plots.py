"""Plots and pages that fetch nothing: SVG inside the page, in the page's own colours, for light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import count
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from streams.reports.formats import date, number

INK, GRID, GREY = "#010101", "#020202", "#767676"
COLOURS = {
    INK: "currentColor", GRID: "var(--grid)", GREY: "var(--grey)", "#0072b2": "var(--blue)", "#d55e00": "var(--red)",
    "#009e73": "var(--green)", "#cc79a7": "var(--pink)", "#e69f00": "var(--orange)",
}  # fmt: skip
"""What is drawn, of Okabe and Ito's palette, and what the page calls it: there are other tints for dark."""
STYLE: dict[Any, Any] = {
    "font.size": 9, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "tierstream",
    "text.parse_math": False, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "grid.color": GRID, "lines.linewidth": 1.8, "lines.markersize": 5,
}  # fmt: skip
MOST_DATES = 4


@dataclass(frozen=True)
class Plot:
    """A plot within the page."""

    says: str
    """For who does not see it."""
    box: str
    """Its coordinates."""
    inside: str
    """SVG."""


class Drawing:
    """Draws plots whose ids differ."""

    def __init__(self) -> None:
        self.numbers = count(1)

    def __call__(self, width: float, height: float, plot: Callable[[Axes], None], says: str = "") -> Plot:
        """A plot of some inches: its letters are about as large as the page's where it is a phone wide."""
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.subplots())
        svg = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing, transparent=True)
        found = re.search(r'<svg [^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', svg.getvalue(), re.DOTALL)
        assert found
        inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>plot{next(self.numbers)}-", found[2])
        for drawn, called in COLOURS.items():
            inside = inside.replace(drawn, called)
        return Plot(says, found[1], inside)


def swatch(draw: Drawing, style: dict[str, Any]) -> Plot:
    """A line as it is drawn, for the legend."""

    def plot(axes: Axes) -> None:
        axes.plot([0, 1, 2], [0, 0, 0], **style, markevery=[1], clip_on=False, in_layout=False)
        axes.set_axis_off()

    return draw(0.5, 0.16, plot)


def render(room: str, template: str, values: Callable[[Drawing], dict[str, Any]]) -> str:
    """A page of a template of this room (a package with a folder `templates`), filled with values whose plots are drawn by what is given; the same values give the same page."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room), PackageLoader("streams.reports")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"date": date, "number": number}
    with mpl.rc_context(STYLE):
        return environment.get_template(template).render(**values(Drawing()))


def percent(axes: Axes) -> None:
    """Shares on both axes."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def dates_below(axes: Axes, at_ms: Sequence[int]) -> None:
    """A few of the instants, written as dates."""
    some = [at_ms[int(place)] for place in np.linspace(0, len(at_ms) - 1, min(len(at_ms), MOST_DATES)).round()]
    axes.set_xticks(some, [date(one) for one in some], fontsize=8)
