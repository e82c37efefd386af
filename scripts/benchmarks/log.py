"""The log of purchases that all contenders read: generated with numpy, the same for the same seed and day.

customers   Zipf with exponent 0.99, the ranks shuffled over the ids
amounts     log-normal, median 28.00 and mean 38.60 USD; 2 % of events are refunds
times       uniform over the 60 days before today's midnight (UTC), in order
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.cluster import BenchError, Cluster, say
from scripts.benchmarks.machine import CACHE

ZIPF_EXPONENT = 0.99
AMOUNT_MEDIAN_MINOR, AMOUNT_SIGMA = 2_800, 0.8
REFUND_SHARE = 0.02
DAY_MS = 24 * 3600 * 1000
SPAN_MS = 60 * DAY_MS
LINES_AT_ONCE = 100_000
Array = np.ndarray[Any, Any]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def draw_customers(chance: np.random.Generator, events: int, customers: int) -> Array:
    """Numbers of customers by Zipf's law, with the ranks shuffled over the numbers."""
    weights = np.cumsum(np.arange(1, customers + 1) ** -ZIPF_EXPONENT)
    ranks = np.searchsorted(weights, chance.random(events) * weights[-1])
    found: Array = chance.permutation(customers)[ranks]
    return found


def draw_amounts(chance: np.random.Generator, events: int) -> Array:
    """Amounts in minor units."""
    return np.rint(chance.lognormal(np.log(AMOUNT_MEDIAN_MINOR), AMOUNT_SIGMA, events)).astype(np.int64) + 1


def customer_id(number: int, letter: str = "c") -> str:
    """The id of a customer, of eight characters."""
    return f"{letter}{number:07d}"


def line(number: str, customer: str, amount_minor: int, occurred_at: str, kind: str = "purchase") -> bytes:
    """The body of a purchase or refund."""
    return (
        f'{{"event_id":"e{number}","customer_id":"{customer}","kind":"{kind}","order_id":"o{number}",'
        f'"amount":"{amount_minor // 100}.{amount_minor % 100:02d}","currency":"USD","occurred_at":"{occurred_at}"}}'
    ).encode()


def rfc3339(at_ms: Array) -> list[str]:
    """Times in RFC 3339."""
    return list(np.datetime_as_string(at_ms.astype("datetime64[ms]"), timezone="UTC").tolist())


@dataclass(frozen=True)
class Log:
    """A log of so many events over so many customers."""

    events: int
    customers: int
    seed: int = 1
    broken_share: float = 0.0
    """The share of records in a topic that lack their end, so that they can't be decoded."""

    @cached_property
    def _columns(self) -> tuple[Array, Array, Array, Array]:
        """Customers, amounts, whether an event is a refund, and times."""
        chance = np.random.default_rng(self.seed)
        return (
            draw_customers(chance, self.events, self.customers),
            draw_amounts(chance, self.events),
            chance.random(self.events) < REFUND_SHARE,
            now_ms() // DAY_MS * DAY_MS - SPAN_MS + np.sort(chance.integers(0, SPAN_MS, self.events)),
        )

    def lines(self) -> Iterator[bytes]:
        """The events, in the order of time."""
        customers, amounts, refunds, times = self._columns
        for first in range(0, self.events, LINES_AT_ONCE):
            part = slice(first, first + LINES_AT_ONCE)
            rows = zip(
                customers[part].tolist(),
                amounts[part].tolist(),
                rfc3339(times[part]),
                refunds[part].tolist(),
                strict=True,
            )
            for number, (customer, amount, at, is_refund) in enumerate(rows, first):
                yield line(str(number), customer_id(customer), amount, at, "refund" if is_refund else "purchase")

    @cached_property
    def path(self) -> Path:
        """The log as a file; it is written at its first use on each day."""
        day = time.strftime("%Y%m%d", time.gmtime())
        name = f"{self.events}-{self.customers}-{self.seed}"
        path = CACHE / f"{name}-{day}-purchases.jsonl"
        if not path.exists():
            say(f"generating {self.events:,} events of {self.customers:,} customers")
            CACHE.mkdir(parents=True, exist_ok=True)
            for old in CACHE.glob(f"{name}-*-purchases.jsonl"):
                old.unlink()
            # In a separate process: a child inherits the peak memory of the process that starts it.
            writing = multiprocessing.get_context("spawn").Process(target=self._write, args=(path,))
            writing.start()
            writing.join()
            if writing.exitcode:
                raise BenchError("the log could not be generated; the reason is above")
        return path

    def _write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        with partial.open("wb") as sink:
            sink.writelines(one + b"\n" for one in self.lines())
        partial.rename(path)

    def produce(self, cluster: Cluster, topic: str) -> None:
        """Append the log to a topic, keyed by customer; the timestamp of a record is the time of its event."""
        path = self.path
        say(f"producing {self.events:,} events to {topic}")
        producer, reported_at = cluster.producer(), time.monotonic()
        customers, *_, times = self._columns
        chance = np.random.default_rng([self.seed, 1])  # independent of the draws of customers
        is_broken = chance.random(self.events) < self.broken_share
        with path.open("rb") as lines:
            rows = zip(lines, customers.tolist(), times.tolist(), is_broken.tolist(), strict=True)
            for number, (one, customer, at_ms, lacks_end) in enumerate(rows):
                value = one.rstrip(b"}\n" if lacks_end else b"\n")
                producer.send(topic, customer_id(customer).encode(), value, timestamp=at_ms)
                if number % LINES_AT_ONCE == 0 and time.monotonic() - reported_at > 5:
                    reported_at = time.monotonic()
                    say(f"  {number:,} of {self.events:,}")
        producer.flush()


def partitions_of(ids: Array, partitions: int) -> Array:
    """The partition of each id of eight characters (`S8`) by Kafka's default partitioner, murmur2."""
    words = np.ascontiguousarray(ids).view(np.uint32).reshape(-1, 2)
    factor = np.uint32(0x5BD1E995)
    found = np.full(len(words), 0x9747B28C ^ 8, np.uint32)
    for word in (words[:, 0] * factor, words[:, 1] * factor):
        found = (found * factor) ^ ((word ^ (word >> np.uint32(24))) * factor)
    found = (found ^ (found >> np.uint32(13))) * factor
    found ^= found >> np.uint32(15)
    return (found & np.uint32(0x7FFFFFFF)) % partitions
