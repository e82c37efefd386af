"""A load of look-ups in a separate process: `python -m scripts.benchmarks.lookup_load`, with its order as JSON on
standard input.

The loop is open: the time of a request does not depend on earlier answers, and its latency counts from its scheduled
time. `select` waits with a resolution of microseconds, while event loops round to milliseconds.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import httptools

from scripts.benchmarks.log import customer_id

CONNECTIONS = 64
BUCKETS_MS = (0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 50, 100, 1_000)
"""The upper bounds of the histogram."""
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Order:
    """What to send: so many requests per second (0: always the next one at once, on every connection), for so long."""

    port: int
    key: str
    customers: int
    letter: str
    requests_per_second: int
    seconds: float
    warm_up_seconds: float
    connections: int = CONNECTIONS


class Connection:
    """A connection that is kept open, with at most one request in progress."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_at = 0.0
        self.is_done = False
        self._parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.is_done = True

    def send(self, request: bytes, due_at: float) -> None:
        self.due_at, self.is_done = due_at, False
        self.socket.sendall(request)

    def receive(self) -> int:
        """The status once the whole answer has arrived, else 0."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the console closed a connection")
        self._parser.feed_data(data)
        if not self.is_done:
            return 0
        status: int = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        return status


class Times:
    """The scheduled times of requests: a Poisson process with so many requests per second."""

    def __init__(self, order: Order, begins_at: float) -> None:
        self._chance, self._rate = random.Random(11), order.requests_per_second
        self.next_at = begins_at

    def advance(self) -> None:
        self.next_at += self._chance.expovariate(self._rate) if self._rate else 0.0


def run(order: Order) -> dict[str, Any]:
    """Send all requests; returns the figures."""
    chance = random.Random(7)
    head = f"Host: 127.0.0.1\r\nX-API-Key: {order.key}\r\n\r\n"
    requests = [
        f"GET /v1/customers/{customer_id(chance.randrange(order.customers), order.letter)} HTTP/1.1\r\n{head}".encode()
        for _ in range(min(100_000, order.customers))
    ]
    idle = deque(Connection(order.port) for _ in range(order.connections))
    busy: dict[socket.socket, Connection] = {}
    begins_at = time.perf_counter() + 0.2
    counts_at, ends_at = begins_at + order.warm_up_seconds, begins_at + order.warm_up_seconds + order.seconds
    times, number = Times(order, begins_at), 0
    latencies: list[float] = []
    late: list[float] = []
    refused = 0
    while True:
        now = time.perf_counter()
        while idle and times.next_at <= min(now, ends_at):
            one = idle.popleft()
            due_at = times.next_at if order.requests_per_second else now
            one.send(requests[number % len(requests)], due_at)
            if due_at >= counts_at:
                late.append(now - due_at)
            busy[one.socket] = one
            number += 1
            times.advance()
            if not order.requests_per_second and now > ends_at:
                times.next_at = ends_at + 1
        is_over = times.next_at > ends_at
        if is_over and (not busy or now > ends_at + PATIENCE_SECONDS):
            break
        wait = PATIENCE_SECONDS if is_over or not idle else max(0.0, times.next_at - now)
        for ready in select.select(list(busy), [], [], wait)[0]:
            one = busy[ready]
            if status := one.receive():
                if one.due_at >= counts_at:
                    latencies.append(time.perf_counter() - one.due_at)
                    refused += status != 200
                del busy[ready]
                idle.append(one)
    return summarise(latencies, late, refused, len(busy), time.perf_counter() - counts_at)


def summarise(
    latencies: list[float], late: list[float], refused: int, unanswered: int, seconds: float
) -> dict[str, Any]:
    """The figures of a load, in ms."""
    latencies.sort()
    late.sort()

    def at(found: list[float], share: float) -> float:
        return 1000 * found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")

    within = {str(bound): sum(1000 * one <= bound for one in latencies) for bound in BUCKETS_MS}
    return {
        "requests": len(latencies), "requests_per_second": len(latencies) / seconds, "refused": refused, "unanswered": unanswered,
        "p50_ms": at(latencies, 0.5), "p90_ms": at(latencies, 0.9), "p99_ms": at(latencies, 0.99), "p999_ms": at(latencies, 0.999),
        "max_ms": at(latencies, 1), "load_late_p99_ms": at(late, 0.99), "within_ms": within,
    }  # fmt: skip


def order_as_json(order: Order) -> str:
    return json.dumps(asdict(order))


if __name__ == "__main__":
    print(json.dumps(run(Order(**json.load(sys.stdin)))))
