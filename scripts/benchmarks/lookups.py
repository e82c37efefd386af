"""Look-ups of customers by the web console on one core: latency at a steady load, and the highest rate.

The console has a core to itself; Redis and the load share the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models
from models.outputs import PROFILES
from scripts.benchmarks.cluster import BenchError, say
from scripts.benchmarks.log import customer_id
from scripts.benchmarks.lookup_load import Order, order_as_json
from scripts.benchmarks.machine import ROOT
from scripts.benchmarks.report import Spread
from scripts.benchmarks.running import Running, free_port, running
from scripts.benchmarks.states import ordinary_states, policy
from streams.broker.embedded import EmbeddedRedis
from streams.view.customers import RedisView
from streams.view.updates import update_of
from streams.web.signin.keys import add_key

LETTER = "c"
STATES = 2_000
"""The number of distinct states among the customers."""
UPDATES_A_CALL = 500
FIGURES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "load_late_p99_ms", "cpu_us_per_request")
SERVERS: dict[str, Sequence[str]] = {
    "console": ("-m", "streams.cli", "console", "--port"),
    "all by Litestar": ("-m", "scripts.benchmarks.lookups_by_litestar"),
}


@dataclass(frozen=True)
class Sizes:
    """The number of customers, the requests per second, and the duration."""

    customers: int
    requests_per_second: int
    seconds: float


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Measure each server, over several rounds."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory(prefix="lookups-") as folder, EmbeddedRedis(Path(folder)) as redis:
        asyncio.run(fill(redis.url, sizes.customers))
        key = add_key(Path(folder) / "keys.toml", "bench", ["customers:read"])
        for round_ in range(rounds):
            for name in SERVERS:
                with serving(name, redis.url, Path(folder)) as (server, port):
                    order = Order(port, key, sizes.customers, LETTER, sizes.requests_per_second, sizes.seconds, 2)
                    one = under(order, server)
                    one["most_per_second"] = under(replace(order, requests_per_second=0), server)["requests_per_second"]
                runs[name].append(one)
                say(
                    f"  round {round_ + 1} of {rounds}, {name}: p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms at "
                    f"{one['requests_per_second']:,.0f}/s; {one['most_per_second']:,.0f}/s at most"
                )
    spreads = {
        name: {figure: Spread.of([one[figure] for one in found]).as_dict() for figure in (*FIGURES, "most_per_second")}
        | {"runs": found}
        for name, found in runs.items()
    }
    return {"requests_per_second": sizes.requests_per_second, "customers": sizes.customers, "served": spreads}


async def fill(url: str, customers: int) -> None:
    """Fill the serving view as a worker would."""
    view, states = RedisView(url), [models.decode(state) for state in ordinary_states(STATES)]
    try:
        for first in range(0, customers, UPDATES_A_CALL):
            updates = []
            for number in range(first, min(first + UPDATES_A_CALL, customers)):
                body = models.profile(states[number % len(states)], customer_id(number, LETTER), policy())
                update = update_of(PROFILES, body)
                assert update is not None
                updates.append(update)
            await view.apply("profiles/0", first, first + len(updates), updates)
    finally:
        await view.redis.aclose()


@contextmanager
def serving(name: str, redis_url: str, folder: Path) -> Iterator[tuple[Running, int]]:
    """Run a server on a core of its own, once it answers."""
    port = free_port()
    environment = {"TIERSTREAM_REDIS_URL": redis_url, "TIERSTREAM_CONSOLE_KEYS_FILE": str(folder / "keys.toml")}
    command = [sys.executable, *SERVERS[name], str(port)]
    with running(name, command, environment, folder / f"server-{port}") as server:
        server.wait_until(lambda: answers(port), 60, "answering")
        yield server, port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def under(order: Order, server: Running) -> dict[str, Any]:
    """The figures of a load, and the CPU time of the server. Raises BenchError if a request was refused."""
    before = server.cpu_seconds
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.lookup_load"],
        input=order_as_json(order), text=True, stdout=subprocess.PIPE, check=True, timeout=order.seconds + 60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    if found["refused"] or found["unanswered"]:
        raise BenchError(
            f"{found['refused']} look-ups were refused, {found['unanswered']} not answered:\n{server.said()}"
        )
    share = order.seconds / (order.seconds + order.warm_up_seconds)
    found["cpu_us_per_request"] = (server.cpu_seconds - before) * share / found["requests"] * 1e6
    return found
