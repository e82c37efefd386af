"""A customer's story without a log, by the worker's table.

The table has the whole state of a customer, so the effect of a purchase can be folded on it. It does not have the
events: the past is shown by its announcements.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

import models
from models import story, units
from models.customer import Customer
from models.outputs import ANNOUNCEMENTS
from models.placement import partition_of
from models.policy import Policy
from models.policy.editions import Editions
from streams.broker.librdkafka import PATIENCE_SECONDS, POLL_SECONDS, read_records, reader_options, silent_logger
from streams.engine.table import CUSTOMER, MARKER, NO_MARKER, Marker
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.workshop.explain.sentences import with_text
from streams.workshop.explain.story import ExplainError, Story, StoryEntry

MOST_ANNOUNCED: Final = 10_000


class NotInTable(ExplainError):
    """The table has no such customer."""


class TableTooLarge(ExplainError):
    """The customer was not found before the deadline."""


class StoredCustomer(NamedTuple):
    """A customer as the table stores them."""

    partition: int
    customer: Customer
    marker: Marker
    """The latest batch in the table, and its policy."""

    def story(
        self, settings: Settings, policy: Policy, customer_id: str, at_ms: int | None, announced: list[dict[str, Any]]
    ) -> Story:
        """The story of the customer, advanced to an instant or to the present. `policy` is that of the table. Raises
        ExplainError.
        """
        customer, marker = self.customer, self.marker
        editions = Editions.from_wire(policy, marker.editions)
        if marker.policy not in ("", policy.ref) and editions.needs_table_policy:
            raise ExplainError(
                f"the table was made under policy {marker.policy}, not {policy.ref}: give --policy {marker.policy}, or a log"
            )
        if at_ms is None:
            at_ms = marker.clock_ms if settings.clock == "event" else max(time.time_ns() // 1_000_000, marker.clock_ms)
        if at_ms < customer.clock_ms:
            raise ExplainError(
                f"something happened to {customer_id!r} at {units.format_time(customer.clock_ms)}, and the table has "
                "nothing older: give a log, or a later --at"
            )
        entries: list[StoryEntry] = []
        for before, edition in list(editions.steps_from(customer.edition)):
            moments = story.by_edition(customer, before, edition.policy, edition.effective_ms, customer_id)
            found, customer = story.collect(moments)
            entries += map(StoryEntry, found)
        found, customer = story.collect(story.by_time(customer, at_ms, editions.current, customer_id))
        entries += map(StoryEntry, found)
        return Story(customer_id, editions.current, at_ms, customer, entries, announced)


def story_from_table(settings: Settings, policy: Policy, customer_id: str, at_ms: int | None) -> Story:
    """A customer's story by the table's changelog, advanced to an instant or to the present. Raises ExplainError."""
    with _consumer(settings) as consumer:
        kept = _find(consumer, settings, customer_id, float("inf"))
        announced = _announced(consumer, settings, kept.partition, customer_id, kept.customer.seq)
    return kept.story(settings, policy, customer_id, at_ms, announced)


def find_in_table(settings: Settings, customer_id: str, seconds: float) -> StoredCustomer:
    """A customer in the table's changelog, found within so many seconds. Raises ExplainError."""
    with _consumer(settings) as consumer:
        return _find(consumer, settings, customer_id, time.monotonic() + seconds)


@contextmanager
def _consumer(settings: Settings) -> Iterator[Consumer]:
    """A consumer. Raises ExplainError if the broker does not answer."""
    options = reader_options(settings, "tierstream-explain") | {"fetch.wait.max.ms": 50}
    with closing(Consumer(options, logger=silent_logger)) as consumer:
        try:
            yield consumer
        except KafkaException as error:
            raise ExplainError(
                f"the broker at {settings.broker} does not answer: {error.args[0].str()}; check TIERSTREAM_BROKER"
            ) from None


def _find(consumer: Consumer, settings: Settings, customer_id: str, deadline: float) -> StoredCustomer:
    """Find the customer's partition, state and marker before `deadline`, a time of the monotonic clock. Raises
    ExplainError.
    """
    topic, key = changelog_topic(settings), CUSTOMER + customer_id.encode()
    customers = 0
    for number in likely_first(customer_id, _partitions(consumer, topic, deadline), settings.partitioner):
        marker, state, staged = NO_MARKER, None, None
        for message in _messages(consumer, topic, number, deadline):
            if message.key() == key:
                staged = message.value()
            elif message.key() == MARKER and message.value():
                of_batch = msgspec.json.decode(message.value(), type=Marker)
                if of_batch.batch > marker.batch:  # as streams.engine.table restores a batch
                    marker, state = of_batch, state if staged is None else staged
                staged = None
        if state is not None:
            return StoredCustomer(number, models.decode(state), marker)
        customers += max(marker.customers, 0)
    raise NotInTable(f"the table has no customer {customer_id!r}; it has {customers:,} others")


def likely_first(customer_id: str, numbers: Sequence[int], partitioner: str) -> list[int]:
    """Partitions, first the one where a customer lives. Tables of version 0.1 have customers in others too."""
    likely = partition_of(customer_id.encode(), len(numbers), partitioner)
    return sorted(numbers, key=lambda one: one != likely)


def _announced(consumer: Consumer, settings: Settings, number: int, customer_id: str, seq: int) -> list[dict[str, Any]]:
    """The announcements about a customer, in the order of their numbers."""
    key = customer_id.encode()
    found: dict[int, dict[str, Any]] = {}
    for name in ANNOUNCEMENTS:
        topic = settings.topic(name)
        if number not in _partitions(consumer, topic):
            continue
        for message in _messages(consumer, topic, number):
            if message.key() == key and message.value():
                body = orjson.loads(message.value())
                found[body["seq"]] = with_text(name, body)
            if len(found) == seq:
                break
    return [found[one] for one in sorted(found)]


def _partitions(consumer: Consumer, topic: str, deadline: float = float("inf")) -> list[int]:
    found = consumer.list_topics(topic, timeout=_left(deadline)).topics[topic]
    if found.error is not None:
        raise ExplainError(
            f"there is no topic {topic}; set TIERSTREAM_TOPIC_PREFIX, TIERSTREAM_APP_ID and TIERSTREAM_APP_VERSION as the "
            "worker has them"
        )
    return sorted(found.partitions)


def _left(deadline: float) -> float:
    """The seconds to wait for an answer."""
    return max(min(PATIENCE_SECONDS, deadline - time.monotonic()), POLL_SECONDS)


def _messages(consumer: Consumer, topic: str, number: int, deadline: float = float("inf")) -> Iterator[Any]:
    """The records of a partition up to its present end. Raises TableTooLarge at the deadline."""
    first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_left(deadline))
    try:
        yield from read_records(consumer, topic, {number: (first, end)}, ExplainError, deadline=deadline)
    except TimeoutError:
        raise TableTooLarge(
            f"{topic}, partition {number} was not read to its end in time; it has {end - first:,} records"
        ) from None
