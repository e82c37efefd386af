"""Self-contained pages with plots: the SVG is inside the page, in the page's colours for light and dark."""

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
"""The colours of the plots (Okabe and Ito's palette) and the page's variables for them, which have other tints in the
dark.
"""
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
    """The content in a sentence, for screen readers."""
    box: str
    """Its view box."""
    inside: str
    """The SVG elements."""


class Drawing:
    """Draws plots, with ids that are unique within the page."""

    def __init__(self) -> None:
        self.numbers = count(1)

    def __call__(self, width: float, height: float, plot: Callable[[Axes], None], says: str = "") -> Plot:
        """A plot of this size in inches; on a phone its text is about as large as that of the page."""
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
    """A piece of a curve, for the legend."""

    def plot(axes: Axes) -> None:
        axes.plot([0, 1, 2], [0, 0, 0], **style, markevery=[1], clip_on=False, in_layout=False)
        axes.set_axis_off()

    return draw(0.5, 0.16, plot)


def render(package: str, template: str, values: Callable[[Drawing], dict[str, Any]]) -> str:
    """Render a template of a package; `values` returns its values, and draws their plots with the Drawing that it is
    given.

    The same values give the same page.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("streams.reports")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"date": date, "number": number}
    with mpl.rc_context(STYLE):
        return environment.get_template(template).render(**values(Drawing()))


def percent(axes: Axes) -> None:
    """Show both axes in percent."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def dates_below(axes: Axes, at_ms: Sequence[int]) -> None:
    """Label the x axis with the dates of a few of the instants."""
    some = [at_ms[int(place)] for place in np.linspace(0, len(at_ms) - 1, min(len(at_ms), MOST_DATES)).round()]
    axes.set_xticks(some, [date(one) for one in some], fontsize=8)
