"""A steady load in a separate process: purchases at a constant rate, some of them by probes.

    python -m scripts.benchmarks.load '{"broker": ..., ...}'      # the fields of `Load`; started by latency.py and table.py

A probe is a new customer whose first purchase of 900.00 USD is an upgrade. All messages are built before the start and
sent on schedule, in bursts of a few milliseconds. The time at which each probe was sent is written to a file, in
seconds of the monotonic clock, which all processes of the machine share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import confluent_kafka
import numpy as np

from scripts.benchmarks.cluster import PRODUCER, BenchError
from scripts.benchmarks.log import Array, customer_id, draw_amounts, draw_customers, line, now_ms, rfc3339

BURST_SECONDS = 0.002
PROBE_AMOUNT_MINOR = 90_000
EVENTS_A_PROBE = 100


@dataclass(frozen=True)
class Load:
    """What to send, and the file for the times of sending."""

    broker: str
    topic: str
    events_per_second: int
    seconds: float
    customers: int
    first_probe: int
    """The number of the first probe; the ranges of several loads must not overlap."""
    sent_file: str
    starts_at_ms: int
    """When the load begins, by the wall clock; all messages have to be built by then."""

    @property
    def events(self) -> int:
        """The number of all events, including probes."""
        return int(self.events_per_second * self.seconds)


@dataclass(frozen=True)
class Sent:
    """What was sent: the time of each probe by its customer, and the actual load."""

    probes: dict[bytes, float]
    events_per_second: float
    most_late_ms: float
    """The longest delay of a burst behind its schedule."""


def probe_id(number: int) -> str:
    return customer_id(number, "p")


def build(load: Load) -> list[tuple[bytes, bytes]]:
    """All messages, with their keys. Event ids begin with the number of the first probe, so they are unique."""
    chance = np.random.default_rng(load.first_probe)
    occurred = load.starts_at_ms + np.arange(load.events) * 1000 // load.events_per_second
    customers = draw_customers(chance, load.events, load.customers).tolist()
    amounts = draw_amounts(chance, load.events).tolist()
    messages = []
    for number, (customer, amount, at) in enumerate(zip(customers, amounts, rfc3339(occurred), strict=True)):
        is_probe = number % EVENTS_A_PROBE == EVENTS_A_PROBE - 1
        customer_or_probe = probe_id(load.first_probe + number // EVENTS_A_PROBE) if is_probe else customer_id(customer)
        event = line(f"l{load.first_probe}-{number}", customer_or_probe, PROBE_AMOUNT_MINOR if is_probe else amount, at)
        messages.append((customer_or_probe.encode(), event))
    return messages


def send(load: Load) -> Array:
    """Send on schedule. Returns the times of the probes, then those of the first and the last event, then the longest
    delay.
    """
    messages = build(load)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": load.broker, **PRODUCER, "linger.ms": 0.5, "queue.buffering.max.messages": 1_000_000}
    )
    producer.list_topics(load.topic, timeout=30)  # connects before the schedule begins
    time.sleep(max(0, load.starts_at_ms - now_ms()) / 1000)
    probes = [0.0] * (load.events // EVENTS_A_PROBE)
    rate, number, most_late = load.events_per_second, 0, 0.0
    began = time.monotonic()
    while number < load.events:
        elapsed = time.monotonic() - began
        most_late = max(most_late, elapsed - number / rate)
        while number < min(load.events, elapsed * rate):
            if number % EVENTS_A_PROBE == EVENTS_A_PROBE - 1:
                probes[number // EVENTS_A_PROBE] = time.monotonic()
            key, value = messages[number]
            producer.produce(load.topic, value, key)
            number += 1
        producer.poll(0)
        time.sleep(BURST_SECONDS)
    ended = time.monotonic()
    if producer.flush(60):
        raise BenchError("the broker did not take the load")
    return np.array([*probes, began, ended, most_late])


@contextmanager
def sending(load: Load) -> Iterator[subprocess.Popen[bytes]]:
    """Run the load's process on the core of the broker."""
    command = [sys.executable, "-m", "scripts.benchmarks.load", json.dumps(asdict(load))]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def read_sent(load: Load) -> Sent:
    """Read what a finished load has sent. Raises BenchError if it failed."""
    try:
        *probes, began, ended, most_late = np.load(load.sent_file).tolist()
    except OSError:
        raise BenchError("the load could not be sent; see above") from None
    ids = (probe_id(load.first_probe + number).encode() for number in range(len(probes)))
    return Sent(dict(zip(ids, probes, strict=True)), load.events / (ended - began), 1000 * most_late)


if __name__ == "__main__":
    given = Load(**json.loads(sys.argv[1]))
    np.save(Path(given.sent_file), send(given))
