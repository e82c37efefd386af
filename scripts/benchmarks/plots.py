"""Results drawn as SVG: throughput of the contenders, throughput by batch size, latency by load, where time goes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.benchmarks import flame
from scripts.benchmarks.cluster import BenchError, say
from scripts.benchmarks.report import OURS

DELIVERIES = ("exactly-once", "at-least-once")
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#9A9A9A", "#333333"
"""Okabe and Ito's palette, which colour-blind readers can distinguish; curves also differ in their markers."""
LABELS = {"limit": "limit: bare aiokafka", "bare_confluent": "bare confluent-kafka"}
STYLE = {
    "font.size": 10, "font.family": "sans-serif", "svg.fonttype": "none", "svg.hashsalt": "tierstream",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#E4E4E4",
    "legend.frameon": False,
}  # fmt: skip


def draw(paths: Sequence[Path], out: Path) -> None:
    """Draw the plots of some results; later files override earlier ones. Raises BenchError."""
    folded = [path for path in paths if path.suffix == ".folded"]
    results = _merged([path for path in paths if path not in folded])
    sweep = results.get("latency", {}).get("sweep")
    plots: dict[str, tuple[Any, Callable[[Axes, Any], None]]] = {
        "throughput": (results.get("throughput"), _throughput),
        "throughput-by-batch": (results.get("batch"), _batch),
        "latency-by-load": (sweep, _latency),
        "flame": (sum(map(flame.read, folded), Counter()), flame.draw),
    }
    if not any(found for found, _ in plots.values()):
        raise BenchError(
            "nothing in these results has a plot: throughput, batch, latency --sweep and .folded stacks have"
        )
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, (found, plot) in plots.items():
            if not found:
                continue
            figure = Figure(figsize=(7, 3.6) if name != "flame" else (11, 4.2), layout="constrained")
            plot(figure.subplots(), found)
            path = out / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None}, facecolor="white")
            say(f"drawn: {path}")


def _merged(paths: Sequence[Path]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for path in paths:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BenchError(f"{path}: {error}; give a file that --json wrote") from None
        for name, value in found.items():
            before = results.get(name)
            results[name] = {**before, **value} if isinstance(before, dict) else value
    return results


def _spread(one: dict[str, Any]) -> tuple[float, float, float]:
    """The median, and its distances to the minimum and the maximum."""
    return one["median"], one["median"] - one["min"], one["max"] - one["median"]


def _throughput(axes: Axes, found: dict[str, Any]) -> None:
    """A bar for each contender, the fastest on top."""
    contenders = found["contenders"]
    names = sorted(contenders, key=lambda name: contenders[name]["events_per_second"]["median"])
    rates, less, more = zip(*(_spread(contenders[name]["events_per_second"]) for name in names), strict=True)
    colours = [BLUE if name.startswith(OURS) else GREY for name in names]
    axes.barh([LABELS.get(name, name.replace("_", " ")) for name in names], rates, color=colours, height=0.65)
    axes.errorbar(rates, range(len(names)), xerr=(less, more), fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    for place, (rate, extra) in enumerate(zip(rates, more, strict=True)):
        axes.annotate(f"{rate:,.0f}", (rate + extra, place), (8, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1.12 * max(rate + extra for rate, extra in zip(rates, more, strict=True)))
    axes.set_xlabel("events per second on one core; lines: least and most of the rounds")
    axes.xaxis.set_major_formatter(_thousands)
    axes.tick_params(left=False)
    axes.spines.left.set_visible(False)
    axes.set_title(f"Catching up on {found['events']:,} events of {found['customers']:,} customers", loc="left")


def _batch(axes: Axes, found: dict[str, Any]) -> None:
    """A curve over the batch sizes."""
    sizes = sorted(map(int, found))
    rates, less, more = zip(*(_spread(found[str(size)]["events_per_second"]) for size in sizes), strict=True)
    axes.errorbar(sizes, rates, yerr=(less, more), color=BLUE, marker="o", linewidth=2, capsize=3, elinewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_thousands)
    axes.grid(axis="y")
    axes.set_xlabel("records in a batch, at most (TIERSTREAM_MAX_BATCH)")
    axes.set_ylabel("events per second")
    axes.set_title("Throughput by batch size", loc="left")


def _latency(axes: Axes, found: dict[str, Any]) -> None:
    """Curves over the loads: two percentiles of each delivery."""
    for delivery, colour in zip(DELIVERIES, (BLUE, ORANGE), strict=True):
        loads = sorted(map(int, found.get(delivery, {})))
        for percentile, marker, dashes in (("p99", "s", "--"), ("p50", "o", "-")):
            latencies = [found[delivery][str(load)][percentile] for load in loads]
            label = f"{percentile}, {delivery}"
            axes.plot(loads, latencies, dashes, color=colour, marker=marker, linewidth=2, label=label)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(_thousands)
    axes.yaxis.set_major_formatter(_thousands)
    axes.yaxis.set_minor_formatter(_thousands)
    axes.grid(axis="y")
    axes.set_xlabel("events per second")
    axes.set_ylabel("ms from append to visible")
    axes.set_title("Latency of a tier change by load", loc="left")
    axes.legend()


def _thousands(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
