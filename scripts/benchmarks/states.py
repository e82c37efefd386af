"""Writes tables as workers would have left them. It is the only module here that uses the internals of the program."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import models
from models.outputs import CHURN_RISK
from scripts.benchmarks.log import DAY_MS, Array, customer_id, draw_amounts, line, now_ms, partitions_of, rfc3339
from scripts.benchmarks.running import POLICY, Site
from streams.broker.topic_creation import create_topics
from streams.engine.batch import fingerprint
from streams.engine.table import Marker, changelog_records
from streams.settings import load_settings
from streams.topics import changelog_topic, topics_of

PURCHASES_MEDIAN, PURCHASES_SIGMA = 5, 0.8
"""Purchases per customer, log-normal, over a year."""
YEAR_MS = 365 * DAY_MS
BATCH = 1_000
"""Customers in a batch of the changelog."""
DECADE_MS = 3650 * DAY_MS


@dataclass(frozen=True)
class Group:
    """Customers whose ids begin with a letter; they get the states in turn."""

    letter: str
    customers: int
    states: Sequence[bytes]


@dataclass(frozen=True)
class History:
    """One customer's purchases: times in ms, ascending, and amounts in minor units."""

    at_ms: Array
    amounts: list[int]

    def moved(self, by_ms: int) -> History:
        """The same purchases, moved in time."""
        return History(self.at_ms + by_ms, self.amounts)


def is_compiled() -> bool:
    """Whether the core runs in its compiled form."""
    return not str(models.fold.__file__).endswith(".py")


@functools.cache
def policy() -> models.Policy:
    """The benchmarks' policy."""
    return models.load(str(POLICY))


def histories(count: int, end_ms: int) -> Iterator[History]:
    """Customers' purchases over the year before `end_ms`."""
    chance = np.random.default_rng(7)
    numbers = np.maximum(1, np.rint(chance.lognormal(np.log(PURCHASES_MEDIAN), PURCHASES_SIGMA, count)))
    for number in numbers.astype(int).tolist():
        at_ms = np.sort(chance.integers(end_ms - YEAR_MS, end_ms, number))
        yield History(at_ms, draw_amounts(chance, number).tolist())


def fold(history: History) -> models.Customer:
    """The customer as of the last purchase."""
    decode, customer = policy().decoder().decode, None
    for number, (at, amount) in enumerate(zip(rfc3339(history.at_ms), history.amounts, strict=True)):
        event = decode("purchases", line(f"h{number}", "someone", amount, at))
        assert isinstance(event, models.Event), event
        customer, _ = models.apply(customer, event, policy())
    assert customer is not None
    return customer


@functools.cache
def ordinary_states(count: int) -> list[bytes]:
    """States of customers that have been advanced to now."""
    now = now_ms()
    return [models.encode(models.advance(fold(one), now, policy(), "someone")[0]) for one in histories(count, now)]


def states_due(count: int, first_ms: int, span_ms: int) -> list[bytes]:
    """States of customers whose risk next crosses a threshold, by time alone, at instants spread over a span.

    Their purchases are moved in time so that the crossing is at that instant. A customer may be due before the
    crossing, so the crossing itself is computed.
    """
    found: list[bytes] = []
    now, targets = now_ms(), np.linspace(first_ms, first_ms + span_ms - 1, count).astype(np.int64).tolist()
    for history in histories(4 * count, now):
        target = targets[len(found)]
        if (crossing := crossing_ms(fold(history))) is None:
            continue
        moved = history.moved(target - crossing)
        customer = models.advance(fold(moved), now, policy(), "someone")[0]
        if first_ms <= (crossing_ms(customer) or 0) < first_ms + span_ms:
            found.append(models.encode(customer))
        if len(found) == count:
            break
    return found


def crossing_ms(customer: models.Customer) -> int | None:
    """When the risk of the customer next crosses a threshold, if nothing is bought."""
    customer, until_ms = models.decode(models.encode(customer)), now_ms() + DECADE_MS
    while customer.due_at_ms < until_ms:
        customer, outputs = models.advance(customer, customer.due_at_ms, policy(), "someone")
        for output in outputs:
            if output.topic == CHURN_RISK:
                return output.occurred_at_ms
    return None


def write_table(site: Site, groups: Sequence[Group]) -> float:
    """Write the changelog of a table with these customers, profiles published; returns the mean bytes of a state."""
    settings = load_settings(
        **{name.removeprefix("TIERSTREAM_").lower(): value for name, value in site.environment().items()}
    )
    create_topics(settings, topics_of(settings))
    topic, producer = changelog_topic(settings), site.cluster.producer()
    clock_ms, total_bytes = now_ms(), 0
    written_by_partition = dict.fromkeys(range(site.partitions), (0, 0, 0))
    for group in groups:
        ids = np.array([customer_id(number, group.letter) for number in range(group.customers)], dtype="S8")
        partitions = partitions_of(ids, site.partitions)
        for number in range(site.partitions):
            batch, count, checksum = written_by_partition[number]
            ours = np.flatnonzero(partitions == number)
            for first in range(0, len(ours), BATCH):
                part = ours[first : first + BATCH]
                states = [group.states[one % len(group.states)] for one in part.tolist()]
                changed = dict(zip(ids[part].tolist(), states, strict=True))
                batch, count = batch + 1, count + len(changed)
                for key, state in changed.items():
                    checksum ^= fingerprint(key, state)
                marker = Marker(batch, {}, clock_ms, policy().ref, True, 0, count, checksum)
                for key, value in changelog_records(changed, marker):
                    producer.send(topic, key, value, partition=number)
                total_bytes += sum(map(len, states))
            written_by_partition[number] = (batch, count, checksum)
    for number, (batch, count, checksum) in written_by_partition.items():
        # A last batch without customers: after it, the profiles of all customers count as published.
        marker = Marker(batch + 1, {}, clock_ms, policy().ref, True, 0, count, checksum)
        for key, value in changelog_records({}, marker):
            producer.send(topic, key, value, partition=number)
    producer.flush()
    return total_bytes / max(1, sum(group.customers for group in groups))
