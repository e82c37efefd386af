"""Events per second while catching up on a long log, for every contender in turn.

Seen from outside, the same way for all: ten times a second, the offsets that the contender's group has committed and
the CPU time that its process has used. The rate is the slope from the first commit with a tenth of the events done to
the last; the commit that reaches the end is left out where it can be, since it may have waited for its timer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scripts.benchmarks.cluster import BenchError, Cluster, say
from scripts.benchmarks.contenders import CONTENDERS, Contender, Started, Turn, prepare_peers, tierstream
from scripts.benchmarks.latency import DELIVERIES
from scripts.benchmarks.log import Log
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import POLL_SECONDS, Running, site

START_SECONDS = 90
"""A contender has to commit something within this time."""
ENOUGH = 0.3
"""If the commits before the last cover this share of the events, the last one is left out of the slope."""
BROKEN_SHARES = (0.1, 1.0)
"""Shares of records that become dead letters: one bad producer of many, and all of them."""
BATCH_SIZES = (100, 250, 500, 1000, 2000, 4000, 8000, 16000)


class Sample(NamedTuple):
    """The progress of a contender at an instant."""

    at_seconds: float
    events: int
    cpu_seconds: float


@dataclass(frozen=True)
class Rate:
    """The events per second of a contender, and its CPU time."""

    events_per_second: float
    cpu_us_per_event: float
    events: int
    """The number of events that it had processed in the end."""
    outputs: int


def watch(cluster: Cluster, running: Running, group: str, topic: str, total: int, limit_seconds: float) -> list[Sample]:
    """The commits of a group until it has processed everything or `limit_seconds` are over. Raises BenchError."""
    began = time.monotonic()
    commits: list[Sample] = []
    with cluster.progress(group, topic) as done:
        while not commits or commits[-1].events < total:
            running.check()
            events, now = done(), time.monotonic()
            if events != (commits[-1].events if commits else 0):
                commits.append(Sample(now, events, running.cpu_seconds))
            if not commits and now - began > START_SECONDS:
                raise BenchError(f"{running.name} committed nothing within {START_SECONDS} s:\n{running.said()}")
            if commits and now - commits[0].at_seconds > limit_seconds:
                break
            time.sleep(POLL_SECONDS)
    return commits


def slope(commits: Sequence[Sample], outputs: int = 0) -> Rate:
    """The rate from the first commit with a tenth of the events to the last commit. Raises BenchError."""
    done = commits[-1].events
    first, *rest = (one for one in commits if one.events >= done / 10)
    if len(rest) > 1 and rest[-2].events - first.events >= ENOUGH * done:
        rest.pop()
    if not rest:
        raise BenchError("the events were done between two commits; give more --events")
    seconds, events = rest[-1].at_seconds - first.at_seconds, rest[-1].events - first.events
    return Rate(events / seconds, (rest[-1].cpu_seconds - first.cpu_seconds) / events * 1e6, done, outputs)


def measure_turn(contender: Contender, turn: Turn, total: int, limit_seconds: float) -> Rate:
    """One contender's turn."""
    with contender.started(turn) as started:
        return _rate(turn, started, total, limit_seconds)


def _rate(turn: Turn, started: Started, total: int, limit_seconds: float) -> Rate:
    commits = watch(turn.cluster, started.running, started.group, turn.site.purchases, total, limit_seconds)
    return slope(commits, turn.cluster.size(started.output))


def measure(
    cluster: Cluster, log: Log, rounds: int, limit_seconds: float, names: Sequence[str], is_quick: bool
) -> dict[str, Any]:
    """Measure every contender (or those of `names`) on the same topic in turn, over several rounds."""
    contenders = [one for one in CONTENDERS if (one.name in names if names else not (is_quick and one.is_extra))]
    if any(not one.name.startswith("tierstream") for one in contenders):
        prepare_peers()
    return take_turns(cluster, log, contenders, rounds, limit_seconds)


def measure_batches(cluster: Cluster, log: Log, rounds: int, limit_seconds: float) -> dict[str, Any]:
    """Our worker alone, with batches of several sizes."""
    contenders = [tierstream(f"max_batch {size}", max_batch=size) for size in BATCH_SIZES]
    found = take_turns(cluster, log, contenders, rounds, limit_seconds)
    return {name.removeprefix("max_batch "): one for name, one in found.items()}


def measure_dead_letters(cluster: Cluster, log: Log, rounds: int, limit_seconds: float) -> dict[str, Any]:
    """Our worker with both deliveries, on logs with shares of unusable records; the outputs are dead letters."""
    contenders = [tierstream(delivery, output="dead-letters", delivery=delivery) for delivery in DELIVERIES]
    found: dict[str, Any] = {}
    for share in BROKEN_SHARES:
        say(f"  {share:.0%} of the records can't be used")
        broken = replace(log, broken_share=share)
        found[str(share)] = take_turns(cluster, broken, contenders, rounds, limit_seconds)
    return found


def take_turns(
    cluster: Cluster, log: Log, contenders: Sequence[Contender], rounds: int, limit_seconds: float
) -> dict[str, Any]:
    """The rates by contender; each round begins with another contender."""
    rates: dict[str, list[Rate]] = defaultdict(list)
    with site(cluster, "throughput") as source:
        log.produce(cluster, source.purchases)
        number = 0
        for round_ in range(rounds):
            for contender in (*contenders[round_ % len(contenders) :], *contenders[: round_ % len(contenders)]):
                number += 1
                rate = measure_turn(contender, Turn(source, number), log.events, limit_seconds)
                rates[contender.name].append(rate)
                say(
                    f"  round {round_ + 1} of {rounds}, {contender.name}: {rate.events_per_second:,.0f} events/s, "
                    f"{rate.cpu_us_per_event:.1f} µs of CPU each, {rate.events:,} done, {rate.outputs:,} outputs"
                )
    return {one.name: _summary(rates[one.name]) for one in contenders}


def _summary(rates: Sequence[Rate]) -> dict[str, Any]:
    def spread(of: Callable[[Rate], float]) -> Spread:
        return Spread.of([of(rate) for rate in rates])

    return {
        "events_per_second": spread(lambda rate: rate.events_per_second).as_dict(),
        "cpu_us_per_event": spread(lambda rate: rate.cpu_us_per_event).as_dict(),
        "events_done": [rate.events for rate in rates],
        "outputs": [rate.outputs for rate in rates],
    }
