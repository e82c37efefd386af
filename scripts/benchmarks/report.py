"""The results, as tables and as JSON."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

OURS = "tierstream"
COMPARED = ("idiomatic_faust", "quix_streams", "kafka_streams", "limit")
"""The contenders whose ratios are among the key figures."""


@dataclass(frozen=True)
class Spread:
    """The values of several rounds."""

    median: float
    min: float
    max: float
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), list(values))

    def as_dict(self) -> dict[str, Any]:
        """The spread for JSON."""
        return asdict(self)


def keys(found: dict[str, Any]) -> dict[str, Any]:
    """The key figures of the results."""
    first: dict[str, Any] = {}
    if rates := medians(found):
        if OURS in rates:
            first["events_per_second"] = rates[OURS]
            first["ratio_to"] = {name: rates[OURS] / rates[name] for name in COMPARED if name in rates}
    if one := found.get("latency", {}).get("exactly-once"):
        first["latency_ms"] = {name: one[f"{name}_ms"]["median"] for name in ("p50", "p99")}
    if one := found.get("memory"):
        first["bytes_per_customer"] = one["bytes_per_customer"]["median"]
        first["recovery_customers_per_second"] = one["recovery_customers_per_second"]["median"]
    if one := found.get("replay"):
        first["replay_events_per_second"] = one["events_per_second"]["median"]
    return first


def medians(found: dict[str, Any]) -> dict[str, float]:
    """Events per second by contender."""
    contenders = found.get("throughput", {}).get("contenders", {})
    return {name: one["events_per_second"]["median"] for name, one in contenders.items()}


def show(results: dict[str, Any]) -> None:
    """Print the results."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    facts, compiled = results["machine"], " (core compiled)" if results["is_compiled"] else ""
    console.print(
        f"\n{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}{compiled}, commit {facts['commit']}"
    )
    for row, title in (("throughput", _throughput), ("batch", _batch)):
        if row in results:
            console.print(title(results))
    shown = Table("what", "median", "min – max", title="tierstream")
    for name, spread, unit in _figures(results):
        if isinstance(spread, dict):
            shown.add_row(name, _number(spread["median"], unit), f"{_number(spread['min'])} – {_number(spread['max'])}")
        else:
            shown.add_row(name, _number(spread, unit), "")
    if shown.row_count:
        console.print(shown)


def _throughput(results: dict[str, Any]) -> Table:
    found = results["throughput"]
    title = f"catching up on {found['events']:,} events of {found['customers']:,} customers"
    shown = Table("contender", "events/s", "min – max", f"{OURS} is × as fast", "µs of CPU per event", title=title)
    rates = medians(results)
    for name, one in found["contenders"].items():
        rate = one["events_per_second"]
        ratio = f"{rates[OURS] / rates[name]:.2f}" if OURS in rates else ""
        shown.add_row(
            name, _number(rate["median"]), f"{_number(rate['min'])} – {_number(rate['max'])}", ratio,
            f"{one['cpu_us_per_event']['median']:.1f}",
        )  # fmt: skip
    return shown


def _batch(results: dict[str, Any]) -> Table:
    shown = Table("records in a batch", "events/s", "min – max", title=f"{OURS}, by TIERSTREAM_MAX_BATCH")
    for size, one in results["batch"].items():
        rate = one["events_per_second"]
        shown.add_row(size, _number(rate["median"]), f"{_number(rate['min'])} – {_number(rate['max'])}")
    return shown


def _figures(results: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Names, spreads or numbers, and units of the figures that only Tierstream has."""
    found = results.get("latency", {})
    for delivery in ("exactly-once", "at-least-once"):
        for percentile in ("p50", "p90", "p99", "max"):
            if delivery in found:
                yield f"latency, {delivery}, {percentile}", found[delivery][f"{percentile}_ms"], "ms"
        for rate, one in found.get("sweep", {}).get(delivery, {}).items():
            yield f"latency, {delivery}, p50 at {int(rate):,} events/s", one["p50"], "ms"
            yield f"latency, {delivery}, p99 at {int(rate):,} events/s", one["p99"], "ms"
    if one := results.get("memory"):
        yield f"memory at {one['customers']:,} customers", one["bytes_per_customer"], "bytes per customer"
        yield "  at its peak", one["peak_bytes_per_customer"], "bytes per customer"
        yield "  of which state", one["state_bytes"], "bytes per customer"
        yield "recovery", one["recovery_customers_per_second"], "customers/s"
    for one in results.get("timers", {}).values():
        yield (
            f"{one['due']:,} of {one['customers']:,} due in {one['due_within_seconds']:.0f} s: p99",
            one["p99_ms"],
            "ms",
        )
        yield "  all announced after the last was due", one["announced_after_seconds"], "s"
        yield "  CPU", one["cpu_us_per_due_customer"], "µs per due customer"
    if one := results.get("rebalance"):
        yield (
            f"a second worker joins, {one['customers']:,} customers: pause where partitions stayed",
            one["stayed_ms"],
            "ms",
        )
        yield "  where they moved", one["moved_ms"], "ms"
        yield "  of which restoring", one["restored_seconds"], "s"
        yield "  p99 before", one["before_p99_ms"], "ms"
    for share, found in results.get("dead_letters", {}).get("shares", {}).items():
        for delivery, one in found.items():
            yield f"{float(share):.0%} dead letters, {delivery}", one["events_per_second"], "records/s"
            yield "  CPU", one["cpu_us_per_event"], "µs per record"
    if one := results.get("ingest"):
        yield "ingest", one["records_per_second"], "records/s"
        yield "  CPU", one["cpu_us_per_record"], "µs per record"
        for percentile in ("p50", "p99"):
            yield f"  {percentile} at {one['load']:,} records/s", one[f"{percentile}_ms"], "ms"
    if one := results.get("replay"):
        yield "replay", one["events_per_second"], "events/s"
        yield "  memory at most", one["peak_memory_bytes"] / 2**20, "MiB"
        yield "  CPU of a diff of two policies, to one replay", one["diff"]["cpu_ratio"], ""
        yield "  its memory at most", one["diff"]["peak_memory_bytes"] / 2**20, "MiB"
        if two := one.get("two_workers"):
            yield "  with two workers", two["events_per_second"], "events/s"
            yield "  ratio", two["ratio"], ""
    for name, one in results.get("lookups", {}).get("served", {}).items():
        rate = results["lookups"]["requests_per_second"]
        for percentile in ("p50", "p99", "p999"):
            yield f"look-ups, {name}, {rate:,}/s: {percentile}", one[f"{percentile}_ms"], "ms"
        yield "  CPU", one["cpu_us_per_request"], "µs per request"
        yield "  at most", one["most_per_second"], "requests/s"
    for name, one in results.get("growth", {}).items():
        yield f"growth, {name.replace('_', ' ')}: CPU per event", one["cpu_us_per_event"], "µs"
        if name != "base":
            yield "  ratio to base", one["ratio_to_base"], ""


def _number(value: float, unit: str = "") -> str:
    """A number with at least three digits."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
