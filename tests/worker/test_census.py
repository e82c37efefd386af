"""When a partition counts its customers, and when the owner of partition 0 sends thresholds; the broker is a list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pytest

from models import encode
from models.bodies import Command
from models.customer import Customer
from models.policy.editions import Editions
from streams.engine.partition import Partition
from streams.settings import Settings, load_settings
from streams.worker import census as module
from streams.worker.census import COUNT, NO_CUSTOMERS_MS, Count, PartitionCensus
from streams.worker.context import Outgoing
from streams.worker.partition import PartitionWorker
from tests.builders import DAY, ms, policy_text, purchase
from tests.running import Fold, policy_of
from tests.worker.doubles import MemoryDelivery, ReadRecord, folding, standalone

POLICY = policy_of(
    policy_text(
        window={"kind": "trailing", "length": "90d", "bucket": "1d"}, tiers=[{"name": "gold", "top_share": 0.5}]
    )
)
MIDNIGHT = ms("2024-01-03")


def customers(count: int) -> dict[bytes, bytes]:
    fold = Fold(POLICY)
    for number in range(count):
        fold.apply(purchase(f"c{number}", str(number + 1), on="2024-01-02"))
    found: dict[str, Customer] = fold.customers
    return {name.encode(): encode(customer) for name, customer in found.items()}


class Broker:
    """The topic `census`, and the records sent to every partition of `commands`."""

    def __init__(self, partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.census: list[list[Any]] = [[] for _ in range(partitions)]
        self.commands: list[bytes] = []
        self.looks = 0
        monkeypatch.setattr(module, "read_all_to_end", self._read)

    async def _read(self, app: Any, topic: str, numbers: Iterable[int]) -> Any:
        self.looks += 1
        for number in numbers:
            yield number, self.census[number]

    def partition(self, number: int, customers: dict[bytes, bytes]) -> Counted:
        settings = load_settings(partitions=len(self.census))
        delivery = _IntoCensus(settings, self, number)
        assert POLICY.relative is not None
        return Counted(
            Partition(Editions.of(POLICY), customers), PartitionCensus(settings, number, delivery, POLICY.relative)
        )


class _IntoCensus(MemoryDelivery):
    def __init__(self, settings: Settings, broker: Broker, number: int) -> None:
        super().__init__(settings, number=number)
        self._broker = broker

    async def publish(self, name: str, records: Iterable[Outgoing]) -> None:
        for key, value, _ in records:
            self._broker.census[self.number].append(ReadRecord(0, key, value))

    async def publish_everywhere(self, name: str, value: bytes) -> None:
        self._broker.commands.append(value)


class Counted(NamedTuple):
    """A partition and its census."""

    partition: Partition
    census: PartitionCensus

    def take_turn(self, now_ms: int) -> bool:
        return asyncio.run(self.census.take_turn(self.partition, now_ms))


def turns(counted: Counted, now_ms: int, most: int = 20) -> int:
    """How many turns there are until there is nothing left to do."""
    for done in range(most):
        if not counted.take_turn(now_ms):
            return done
    raise AssertionError("it never ends")


def begin_edition(counted: Counted, body: bytes) -> None:
    """The partition folds the command."""
    command = msgspec.json.decode(body, type=Command)
    counted.partition.editions = counted.partition.editions.extended_by(command, ms("2024-01-03"))


def test_a_partition_counts_once_a_day_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    census = broker.partition(1, customers(250))
    assert turns(census, MIDNIGHT + 5) == 4  # 100, 100, 50, and sending
    assert turns(census, MIDNIGHT + DAY - 1) == 0
    (sent,) = broker.census[1]
    count = msgspec.json.decode(sent.value, type=Count)
    assert (sent.key, count.as_of_ms, count.customers) == (COUNT, MIDNIGHT, 250)
    assert turns(census, MIDNIGHT + DAY) == 4


def test_thresholds_are_sent_once_when_all_partitions_have_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    zero, one = broker.partition(0, customers(10)), broker.partition(1, {})
    turns(zero, MIDNIGHT)
    assert not broker.commands
    turns(one, MIDNIGHT)
    assert msgspec.json.decode(broker.census[1][0].value, type=Count).as_of_ms == NO_CUSTOMERS_MS
    zero.census._look_from = 0
    turns(zero, MIDNIGHT)
    (body,) = broker.commands
    assert msgspec.json.decode(body, type=Command).breakpoints.top_spend_minor == [600]  # type: ignore[union-attr]
    # Sent, but not folded yet: nothing more is sent. Folded: nothing more to do until tomorrow.
    zero.census._look_from = 0
    turns(zero, MIDNIGHT)
    begin_edition(zero, body)
    looks = broker.looks
    zero.census._look_from = 0
    turns(zero, MIDNIGHT + 5)
    assert (len(broker.commands), broker.looks) == (1, looks)


def test_the_next_owner_sends_the_recorded_edition_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(1, monkeypatch)
    turns(broker.partition(0, customers(10)), MIDNIGHT)
    (body,) = broker.commands
    # The owner died before any partition folded the command; the customers are others now.
    successor = broker.partition(0, customers(30))
    turns(successor, MIDNIGHT)
    sent = [msgspec.json.decode(one, type=Command) for one in broker.commands]
    assert sent[0] == sent[1]
    begin_edition(successor, body)


def test_while_counts_are_missing_the_owner_looks_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    clock = 1000.0
    monkeypatch.setattr("streams.worker.census.time.monotonic", lambda: clock)
    census = broker.partition(0, customers(3))
    for _ in range(3600):
        census.take_turn(MIDNIGHT)
        clock += 1
    assert 60 < broker.looks < 75


def test_a_partition_without_customers_counts_once_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(2, monkeypatch)
    census = broker.partition(1, {})
    turns(census, MIDNIGHT)
    census.partition.customers.update(customers(5))
    turns(census, MIDNIGHT + 1)
    assert [msgspec.json.decode(one.value, type=Count).customers for one in broker.census[1]] == [0, 5]


def test_no_customer_is_counted_before_the_partition_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    context = standalone(POLICY, clock="event")
    worker = folding(PartitionWorker(context, 0, MemoryDelivery(context.settings)))
    assert worker.flow is not None
    turns_taken = []

    async def take_turn(partition: Partition, now_ms: int) -> bool:
        turns_taken.append(now_ms)
        return False

    assert worker.census is not None
    monkeypatch.setattr(worker.census, "take_turn", take_turn)
    worker.inputs._ends = {"purchases": 1}
    asyncio.run(worker.step(worker.flow))
    assert not turns_taken
    worker.inputs._ends = {}
    asyncio.run(worker.step(worker.flow))
    assert len(turns_taken) == 1
