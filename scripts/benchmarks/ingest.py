"""The records per second that `tierstream ingest` maps on one core, and the latency until an event is visible."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.benchmarks.cluster import BenchError, Cluster
from scripts.benchmarks.latency import PERCENTILES, WARM_UP_SHARE, latencies_ms, load_on, percentiles
from scripts.benchmarks.load import read_sent, sending
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import Running, Site, Worker, free_port, running, site

SOURCE_PARTITIONS = 3
MAPPING = Path(__file__).with_name("ingest.toml")
LOAD_MAPPING = Path(__file__).with_name("ingest_load.toml")
FIRST_MS = 1_735_689_600_000
CUSTOMERS = 1_000
CATCH_UP_SECONDS = 600


@dataclass(frozen=True)
class Sizes:
    """The records that wait for the ingest, then the records per second of a steady load and its duration."""

    records: int
    records_per_second: int
    seconds: float


def measure(cluster: Cluster, sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Let a new installation catch up on a topic, and then follow it under a steady load, in each round."""
    rates, cpu, latencies = [], [], []
    for _ in range(rounds):
        with site(cluster, "ingest") as here:
            source = f"{here.prefix}shop.orders"
            cluster.create_topic(source, SOURCE_PARTITIONS)
            producer = cluster.producer()
            for number in range(sizes.records):
                producer.send(source, *_record(number, f"c{number % (sizes.records // 30 + 1)}"))
            producer.flush()
            with _ingesting(here, source, MAPPING) as process:
                rate, cpu_us = _catching_up(process, sizes.records)
                rates.append(rate)
                cpu.append(cpu_us)
            latencies.append(_following(cluster, here, sizes))
    return {
        "records": sizes.records,
        "records_per_second": Spread.of(rates).as_dict(),
        "cpu_us_per_record": Spread.of(cpu).as_dict(),
        "load": sizes.records_per_second,
        **{f"{name}_ms": Spread.of([one[name] for one in latencies]).as_dict() for name in PERCENTILES},
    }


@contextmanager
def _ingesting(here: Site, source: str, mapping: Path) -> Iterator[Worker]:
    port = free_port()
    environment = here.environment() | {"TIERSTREAM_INGEST_WEB_PORT": str(port)}
    command = [sys.executable, "-m", "streams.cli", "ingest", f"{source}={mapping}"]
    with running("ingest", command, environment, here.cluster.folder / f"{here.group}-{port}") as process:
        yield Worker(process, port)


def _catching_up(ingest: Worker, records: int) -> tuple[float, float]:
    """Records per second from the first observed batch to the last, and the CPU time per record (µs)."""
    process: Running = ingest.running
    process.wait_until(lambda: bool(ingest.stats().get("ingested")), CATCH_UP_SECONDS, "at work")
    began, cpu_began, first = time.monotonic(), process.cpu_seconds, ingest.stats()["ingested"]
    process.wait_until(lambda: ingest.stats().get("ingested", 0) >= records, CATCH_UP_SECONDS, "done")
    done = records - first
    if not done:
        raise BenchError("the ingest was done before it could be observed: give more records")
    return done / (time.monotonic() - began), 1e6 * (process.cpu_seconds - cpu_began) / done


def _following(cluster: Cluster, here: Site, sizes: Sizes) -> dict[str, float]:
    """The latency from giving a record to the producer until its event is read as committed."""
    source = f"{here.prefix}shop.sales"
    cluster.create_topic(source, SOURCE_PARTITIONS)
    with _ingesting(here, source, LOAD_MAPPING) as ingest:
        ingest.running.wait_until(lambda: bool(ingest.stats().get("ready")), CATCH_UP_SECONDS, "ready")
        load = replace(load_on(here, sizes.records_per_second, sizes.seconds, CUSTOMERS), topic=source)
        with cluster.tail(here.purchases) as tail:
            with sending(load) as process:
                process.wait()
            sent = read_sent(load)
            counted = dict(list(sent.probes.items())[int(WARM_UP_SHARE * len(sent.probes)) :])
            deadline = time.monotonic() + CATCH_UP_SECONDS
            while counted.keys() - tail.seen_at.keys() and time.monotonic() < deadline:
                time.sleep(0.1)
            return percentiles(latencies_ms(counted, tail))


def _record(number: int, customer: str) -> tuple[bytes, bytes]:
    order = f"o{number}"
    body = {
        "orderNo": order, "buyer": {"id": customer, "mail": f"{customer}@example.com"}, "state": "PAID",
        "total": {"cents": 100 + number % 20_000, "currency": "EUR"}, "placedAt": FIRST_MS + 1_000 * number,
        "lines": [{"sku": "A-1", "quantity": 2}, {"sku": "B-7", "quantity": 1}],
    }  # fmt: skip
    return order.encode(), json.dumps(body).encode()
