"""The command line of the benchmarks: `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.benchmarks import growth, ingest, latency, lookups, machine, rebalance, replay, table, throughput
from scripts.benchmarks.cluster import BenchError, Cluster, running_cluster, say
from scripts.benchmarks.contenders import CONTENDERS
from scripts.benchmarks.log import Log
from scripts.benchmarks.report import keys, show
from scripts.benchmarks.states import is_compiled

DEFAULT_ROWS = ("throughput", "latency", "memory", "timers", "rebalance", "dead_letters", "ingest", "replay", "growth")
ROWS = (*DEFAULT_ROWS[:3], "recovery", *DEFAULT_ROWS[3:], "lookups", "batch")
EXAMPLES = """examples:
  scripts/bench --quick                              everything, small, in about five minutes
  scripts/bench --json results.json                  everything, three rounds, in about fifty minutes
  scripts/bench throughput --contenders tierstream,limit --events 300000 --rounds 1
  scripts/bench latency --sweep --json sweep.json    latency at several loads
  scripts/bench batch --json batch.json              throughput by batch size
  scripts/bench lookups                              the console's look-ups at 2,000 requests/s, and the highest rate
  scripts/bench plots results.json sweep.json batch.json --out docs/images"""


@dataclass(frozen=True)
class Sizes:
    """The sizes of all benchmarks."""

    warm_up_seconds: float
    events: int
    customers: int
    limit_seconds: float
    loads: latency.Loads
    table_customers: int
    table_states: int
    waves: tuple[table.Wave, ...]
    join: rebalance.Join
    broken_events: int
    ingest: ingest.Sizes
    replay_events: int
    growth: growth.Sizes
    lookups: lookups.Sizes


FULL = Sizes(
    warm_up_seconds=20,
    events=3_000_000,
    customers=100_000,
    limit_seconds=40,
    loads=latency.Loads(20_000, 30, 100_000),
    table_customers=1_000_000,
    table_states=20_000,
    waves=tuple(table.Wave(due, 1_000_000, 60, 10_000, 5_000) for due in (1_000_000, 100_000)),
    join=rebalance.Join(200_000, 4, 5_000, 25),
    broken_events=1_000_000,
    ingest=ingest.Sizes(1_000_000, 5_000, 20),
    replay_events=1_000_000,
    growth=growth.Sizes((10_000, 1_000_000), (1, 32), 600_000, 40),
    lookups=lookups.Sizes(100_000, 2_000, 20),
)
QUICK = Sizes(
    warm_up_seconds=6,
    events=500_000,
    customers=50_000,
    limit_seconds=6,
    loads=latency.Loads(20_000, 6, 20_000),
    table_customers=100_000,
    table_states=2_000,
    waves=(table.Wave(50_000, 50_000, 6, 10_000, 500),),
    join=rebalance.Join(50_000, 4, 5_000, 15),
    broken_events=200_000,
    ingest=ingest.Sizes(200_000, 2_000, 6),
    replay_events=200_000,
    growth=growth.Sizes((10_000, 100_000), (1, 8), 100_000, 6),
    lookups=lookups.Sizes(10_000, 2_000, 6),
)


class Bench:
    """Runs the rows that were asked for; the broker is started by the first row that needs it."""

    def __init__(self, args: argparse.Namespace, cleanup: ExitStack) -> None:
        self._args, self._cleanup = args, cleanup
        self._sizes = QUICK if args.quick else FULL
        self._rounds: int = args.rounds or (1 if args.quick else 3)

    @cached_property
    def cluster(self) -> Cluster:
        say("starting Kafka")
        return self._cleanup.enter_context(running_cluster(self._sizes.warm_up_seconds))

    def run(self) -> Iterator[dict[str, Any]]:
        """The results so far, after each row."""
        found: dict[str, Any] = {}
        for row in self._args.rows:
            began = time.monotonic()
            say(f"{row} ...")
            found[row] = getattr(self, row)()
            say(f"{row}: took {time.monotonic() - began:.0f} s")
            version = self.cluster.version if "cluster" in self.__dict__ else ""
            about = {
                "machine": machine.facts(version),
                "is_compiled": is_compiled(),
                "is_quick": self._args.quick,
                "rounds": self._rounds,
            }
            yield keys(found) | about | found

    @property
    def _log(self) -> Log:
        return self._log_of(self._sizes.events)

    def _log_of(self, events: int) -> Log:
        """A log of so many events, unless the command line gives another number."""
        return Log(self._args.events or events, self._args.customers or self._sizes.customers)

    def throughput(self) -> dict[str, Any]:
        log = self._log
        found = throughput.measure(
            self.cluster, log, self._rounds, self._sizes.limit_seconds, self._args.contenders, self._args.quick
        )
        return {"events": log.events, "customers": log.customers, "contenders": found}

    def batch(self) -> dict[str, Any]:
        return throughput.measure_batches(self.cluster, self._log, self._rounds, self._sizes.limit_seconds)

    def latency(self) -> dict[str, Any]:
        loads = self._sizes.loads
        if self._args.sweep:
            return {"sweep": latency.sweep(self.cluster, loads)}
        if self._args.load:
            loads = replace(loads, events_per_second=self._args.load)
        deliveries = latency.DELIVERIES[:1] if self._args.quick else latency.DELIVERIES
        return latency.measure(self.cluster, loads, self._rounds, deliveries)

    def memory(self) -> dict[str, Any]:
        sizes = self._sizes
        return table.measure_memory_and_recovery(self.cluster, sizes.table_customers, sizes.table_states, self._rounds)

    def timers(self) -> dict[str, Any]:
        return {f"{wave.due}_due": table.measure_timers(self.cluster, wave) for wave in self._sizes.waves}

    def rebalance(self) -> dict[str, Any]:
        join = replace(self._sizes.join, customers=self._args.customers or self._sizes.join.customers)
        return rebalance.measure(self.cluster, join, self._rounds)

    def dead_letters(self) -> dict[str, Any]:
        log = self._log_of(self._sizes.broken_events)
        found = throughput.measure_dead_letters(self.cluster, log, self._rounds, self._sizes.limit_seconds)
        return {"events": log.events, "customers": log.customers, "shares": found}

    def ingest(self) -> dict[str, Any]:
        sizes = self._sizes.ingest
        sizes = replace(
            sizes,
            records=self._args.events or sizes.records,
            records_per_second=self._args.load or sizes.records_per_second,
        )
        return ingest.measure(self.cluster, sizes, self._rounds)

    def replay(self) -> dict[str, Any]:
        return replay.measure(self._log_of(self._sizes.replay_events), self._rounds)

    def lookups(self) -> dict[str, Any]:
        sizes = self._sizes.lookups
        if self._args.load:
            sizes = replace(sizes, requests_per_second=self._args.load)
        return lookups.measure(sizes, self._rounds)

    def growth(self) -> dict[str, Any]:
        return growth.measure(self.cluster, self._sizes.growth, self._rounds if self._args.rounds else 1)


def names_of(text: str) -> list[str]:
    names = text.split(",")
    known = [one.name for one in CONTENDERS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
    return names


def positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="How fast the worker is, next to its peers, on a real Kafka.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="ROW",
        help=f"{', '.join(ROWS)}; recovery is memory's; default: all but lookups and batch",
    )
    parser.add_argument("--quick", action="store_true", help="smaller numbers and one round: five minutes for all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--rounds", type=positive, help="default: 3, or 1 with --quick; growth: 1")
    parser.add_argument("--events", type=positive, help="in throughput, batch, dead_letters, ingest and replay")
    parser.add_argument("--customers", type=positive, help="in these and rebalance")
    parser.add_argument(
        "--contenders", type=names_of, default=[], metavar="NAMES", help="contenders of throughput, separated by commas"
    )
    parser.add_argument(
        "--load",
        type=positive,
        metavar="EVENTS",
        help="per second, in latency (default: 20000), ingest (5000) and lookups (2000 requests)",
    )
    parser.add_argument("--sweep", action="store_true", help="latency at several loads instead of one")
    args = parser.parse_args(arguments)
    for row in args.rows:
        if row not in ROWS:
            parser.error(f"{row!r} is not among {', '.join(ROWS)}, plots")
    if args.json and not args.json.absolute().parent.is_dir():
        parser.error(f"there is no folder {args.json.parent}")
    rows = ["memory" if row == "recovery" else row for row in args.rows or DEFAULT_ROWS]
    args.rows = list(dict.fromkeys(rows))
    return args


def parse_plots(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench plots", description="Draw results, as --json wrote them, as SVG files."
    )
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="RESULTS.json", help="later files override earlier ones"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    return parser.parse_args(arguments)


def bench(args: argparse.Namespace) -> None:
    if machine.IS_PINNED:
        machine.pin(os.getpid())
        say("each contender has a core to itself; Kafka, the load and the readers share another")
    else:
        say("there is only one core: contender, Kafka and load share it, so the figures are of little use")
    results: dict[str, Any] = {}
    with ExitStack() as cleanup:
        try:
            for results in Bench(args, cleanup).run():
                if args.json:
                    args.json.write_text(json.dumps(results, indent=2) + "\n")
        finally:
            if results:
                show(results)


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = sys.argv[1:]
    run: Callable[[], None]
    if arguments[:1] == ["plots"]:
        drawn = parse_plots(arguments[1:])

        def run() -> None:
            from scripts.benchmarks.plots import draw  # noqa: PLC0415 (importing matplotlib is slow)

            draw(drawn.results, drawn.out)
    else:
        args = parse(arguments)

        def run() -> None:
            bench(args)

    try:
        run()
    except BenchError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
