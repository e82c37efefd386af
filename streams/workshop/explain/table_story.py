"""A customer without a log: as the worker's table has them, or as the serving view shows them.

The table has the whole state, so what a purchase would do is folded on it; the view has the profile. Neither has the events: what
is told of the past is what was announced.
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
from models.editions import Editions
from models.outputs import ANNOUNCEMENTS
from models.policy import Policy
from streams.broker.librdkafka import PATIENCE_SECONDS, POLL_SECONDS, quiet, reading, records_in
from streams.broker.partitioner import partition_of
from streams.engine.table import CUSTOMER, MARKER, NO_MARKER, Marker
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.workshop.explain.sentences import with_text
from streams.workshop.explain.story import ExplainError, Story, StoryEntry

MOST_ANNOUNCED: Final = 10_000


class NotInTable(ExplainError):
    """The table has no such customer."""


class TableTooLarge(ExplainError):
    """The customer was not found in the time that there was."""


class StoredCustomer(NamedTuple):
    """A customer as the table has them."""

    partition: int
    customer: Customer
    marker: Marker
    """How far the table goes, and under which policy."""

    def story(
        self, settings: Settings, policy: Policy, customer_id: str, at_ms: int | None, announced: list[dict[str, Any]]
    ) -> Story:
        """The customer advanced to an instant; now, without one. `policy` is the table's own. Raises ExplainError."""
        customer, marker = self.customer, self.marker
        editions = Editions.from_wire(policy, marker.editions)
        if marker.policy not in ("", policy.ref) and editions.needs_own:
            raise ExplainError(
                f"the table was made under policy {marker.policy}, not {policy.ref}: give --policy {marker.policy}, or a log"
            )
        if at_ms is None:
            at_ms = marker.clock_ms if settings.clock == "event" else max(time.time_ns() // 1_000_000, marker.clock_ms)
        if at_ms < customer.clock_ms:
            raise ExplainError(
                f"something happened to {customer_id!r} at {units.format_time(customer.clock_ms)}, and the table knows "
                "nothing older: give a log, or a later --at"
            )
        told: list[StoryEntry] = []
        for before, edition in list(editions.steps_from(customer.edition)):
            moments = story.by_edition(customer, before, edition.policy, edition.effective_ms, customer_id)
            found, customer = story.collected(moments)
            told += map(StoryEntry, found)
        found, customer = story.collected(story.by_time(customer, at_ms, editions.current, customer_id))
        told += map(StoryEntry, found)
        return Story(customer_id, editions.current, at_ms, customer, told, announced)


def story_from_table(settings: Settings, policy: Policy, customer_id: str, at_ms: int | None) -> Story:
    """A customer out of the table's changelog, advanced to an instant; now, without one. Raises ExplainError."""
    with _consumer(settings) as consumer:
        kept = _find(consumer, settings, customer_id, float("inf"))
        announced = _announced(consumer, settings, kept.partition, customer_id, kept.customer.seq)
    return kept.story(settings, policy, customer_id, at_ms, announced)


def find_in_table(settings: Settings, customer_id: str, seconds: float) -> StoredCustomer:
    """A customer out of the table's changelog, if that takes no longer than this. Raises ExplainError."""
    with _consumer(settings) as consumer:
        return _find(consumer, settings, customer_id, time.monotonic() + seconds)


@contextmanager
def _consumer(settings: Settings) -> Iterator[Consumer]:
    """Raises ExplainError where the broker does not answer."""
    options = reading(settings, "tierstream-explain") | {"fetch.wait.max.ms": 50}
    with closing(Consumer(options, logger=quiet)) as consumer:
        try:
            yield consumer
        except KafkaException as error:
            raise ExplainError(
                f"the broker at {settings.broker} does not answer: {error.args[0].str()}; check TIERSTREAM_BROKER"
            ) from None


def _find(consumer: Consumer, settings: Settings, customer_id: str, deadline: float) -> StoredCustomer:
    """The customer's partition, their state and how far the table goes, by the time that a monotonic clock shows `deadline`."""
    topic, key = changelog_topic(settings), CUSTOMER + customer_id.encode()
    customers = 0
    for number in likely_first(customer_id, _partitions(consumer, topic, deadline)):
        marker, state, staged = NO_MARKER, None, None
        for message in _messages(consumer, topic, number, deadline):
            if message.key() == key:
                staged = message.value()
            elif message.key() == MARKER and message.value():
                of_batch = msgspec.json.decode(message.value(), type=Marker)
                if of_batch.batch > marker.batch:  # as streams.engine.table restores it
                    marker, state = of_batch, state if staged is None else staged
                staged = None
        if state is not None:
            return StoredCustomer(number, models.decode(state), marker)
        customers += max(marker.customers, 0)
    raise NotInTable(f"the table has no customer {customer_id!r}; it has {customers:,} others")


def likely_first(customer_id: str, numbers: Sequence[int]) -> list[int]:
    """Partitions, that which a producer of Kafka's own chooses for a customer first; another may have chosen any."""
    likely = partition_of(customer_id.encode(), len(numbers))
    return sorted(numbers, key=lambda one: one != likely)


def _announced(consumer: Consumer, settings: Settings, number: int, customer_id: str, seq: int) -> list[dict[str, Any]]:
    """What was announced of a customer, in the order of its numbers."""
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
    """How long to wait for an answer."""
    return max(min(PATIENCE_SECONDS, deadline - time.monotonic()), POLL_SECONDS)


def _messages(consumer: Consumer, topic: str, number: int, deadline: float = float("inf")) -> Iterator[Any]:
    """The records of a partition, up to where it ends now. Raises TableTooLarge at the deadline."""
    first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_left(deadline))
    try:
        yield from records_in(consumer, topic, {number: (first, end)}, ExplainError, deadline=deadline)
    except TimeoutError:
        raise TableTooLarge(
            f"{topic}, partition {number} was not read to its end in time; it has {end - first:,} records"
        ) from None
