"""When a partition counts its customers, and when the owner of partition 0 draws lines: with a broker that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from models import encode
from models.bodies import Command
from models.customer import Customer
from models.editions import Editions
from streams.worker import census as module
from streams.worker.census import COUNT, NOBODY_MS, Count, PartitionCensus
from tests.builders import DAY, ms, policy_text, purchase
from tests.running import Fold, policy_of

POLICY = policy_of(
    policy_text(
        window={"kind": "trailing", "length": "90d", "bucket": "1d"}, tiers=[{"name": "gold", "top_share": 0.5}]
    )
)
MIDNIGHT = ms("2024-01-03")


def customers(count: int) -> dict[bytes, bytes]:
    fold = Fold(POLICY)
    for who in range(count):
        fold.apply(purchase(f"c{who}", str(who + 1), on="2024-01-02"))
    found: dict[str, Customer] = fold.customers
    return {name.encode(): encode(customer) for name, customer in found.items()}


class Broker:
    """The topic `census`, and what went to every partition of `commands`."""

    def __init__(self, partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.census: list[list[Any]] = [[] for _ in range(partitions)]
        self.commands: list[bytes] = []
        self.looks = 0
        monkeypatch.setattr(module, "read_all_to_end", self._read)

    async def _read(self, app: Any, topic: str, numbers: Iterable[int]) -> Any:
        self.looks += 1
        for number in numbers:
            yield number, self.census[number]

    def worker(self, number: int, held: dict[bytes, bytes]) -> Any:
        async def publish(name: str, records: list[Any]) -> None:
            self.census[number] += [SimpleNamespace(key=key, value=value) for key, value, _ in records]

        async def publish_everywhere(name: str, value: bytes) -> None:
            self.commands.append(value)

        settings = SimpleNamespace(partitions=len(self.census), topic=lambda name: name)
        return SimpleNamespace(
            number=number, caught_up=True, held=SimpleNamespace(customers=held, editions=Editions.of(POLICY)),
            app=SimpleNamespace(settings=settings),
            delivery=SimpleNamespace(publish=publish, publish_everywhere=publish_everywhere),
        )  # fmt: skip


def turns(census: PartitionCensus, now_ms: int, most: int = 20) -> int:
    """How many turns it takes until there is nothing to do."""
    for done in range(most):
        if not asyncio.run(census.turn(now_ms)):
            return done
    raise AssertionError("it never ends")


def begun(worker: Any, body: bytes) -> None:
    """The partition folds the command."""
    command = msgspec.json.decode(body, type=Command)
    worker.held.editions = worker.held.editions.begun_with(command, ms("2024-01-03"))


def test_a_partition_counts_once_a_day_some_at_a_time_and_not_before_it_has_caught_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker(2, monkeypatch)
    worker = broker.worker(1, customers(250))
    census = PartitionCensus(worker, POLICY.relative)  # type: ignore[arg-type]
    worker.caught_up = False
    assert turns(census, MIDNIGHT + 5) == 0
    worker.caught_up = True
    assert turns(census, MIDNIGHT + 5) == 4  # 100, 100, 50, and sending
    assert turns(census, MIDNIGHT + DAY - 1) == 0
    (sent,) = broker.census[1]
    count = msgspec.json.decode(sent.value, type=Count)
    assert (sent.key, count.as_of_ms, count.customers) == (COUNT, MIDNIGHT, 250)
    assert turns(census, MIDNIGHT + DAY) == 4


def test_lines_are_drawn_when_all_have_counted_and_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    first, second = broker.worker(0, customers(10)), broker.worker(1, {})
    zero, one = (PartitionCensus(worker, POLICY.relative) for worker in (first, second))  # type: ignore[arg-type]
    turns(zero, MIDNIGHT)
    assert not broker.commands
    turns(one, MIDNIGHT)
    assert msgspec.json.decode(broker.census[1][0].value, type=Count).as_of_ms == NOBODY_MS
    zero._look_from = 0
    turns(zero, MIDNIGHT)
    (body,) = broker.commands
    assert msgspec.json.decode(body, type=Command).breakpoints.top_spend_minor == [600]  # type: ignore[union-attr]
    # Sent, but not folded yet: nothing more is sent. Folded: nothing more to do until tomorrow.
    zero._look_from = 0
    turns(zero, MIDNIGHT)
    begun(first, body)
    looks = broker.looks
    zero._look_from = 0
    turns(zero, MIDNIGHT + 5)
    assert (len(broker.commands), broker.looks) == (1, looks)


def test_a_successor_sends_the_edition_that_was_noted_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(1, monkeypatch)
    worker = broker.worker(0, customers(10))
    turns(PartitionCensus(worker, POLICY.relative), MIDNIGHT)  # type: ignore[arg-type]
    (body,) = broker.commands
    # It died before anybody folded it; the customers are others now.
    successor = broker.worker(0, customers(30))
    turns(PartitionCensus(successor, POLICY.relative), MIDNIGHT)  # type: ignore[arg-type]
    sent = [msgspec.json.decode(one, type=Command) for one in broker.commands]
    assert sent[0] == sent[1]
    begun(successor, body)


def test_while_counts_are_missing_it_looks_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    clock = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: clock)
    census = PartitionCensus(broker.worker(0, customers(3)), POLICY.relative)  # type: ignore[arg-type]
    for _ in range(3600):
        asyncio.run(census.turn(MIDNIGHT))
        clock += 1
    assert 60 < broker.looks < 75


def test_a_partition_that_had_nobody_counts_when_somebody_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    worker = broker.worker(1, {})
    census = PartitionCensus(worker, POLICY.relative)  # type: ignore[arg-type]
    turns(census, MIDNIGHT)
    worker.held.customers.update(customers(5))
    turns(census, MIDNIGHT + 1)
    assert [msgspec.json.decode(one.value, type=Count).customers for one in broker.census[1]] == [0, 5]
