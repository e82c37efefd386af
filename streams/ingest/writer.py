"""Writes the events of a batch and the committed offsets of its sources in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from models.events import Rejected
from models.outputs import DEAD_LETTERS
from streams.broker.librdkafka import LARGEST_BYTES, producer_options, silent_logger
from streams.engine.batch import DeadLetter
from streams.engine.envelope import dead_letter_record
from streams.engine.merge import Record
from streams.ingest.destinations import destinations
from streams.ingest.partition_merge import Place
from streams.ingest.record_mapping import MappedRecord
from streams.settings import Settings
from streams.topics import COMMANDS, INPUTS

TRY_SECONDS: Final = 5.0
BEGIN_SECONDS: Final = 30.0
FATAL: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
)
"""Errors that do not pass by themselves."""


class IngestError(Exception):
    """A failure that does not pass by itself; the message says what to do."""


class Interrupted(Exception):
    """A batch was not written, or it is not known whether it was; what is not committed is read again."""


def give_up_if_fatal(error: KafkaError, what: str) -> None:
    """Raises IngestError for an error that does not pass by itself."""
    if error.code() in FATAL:
        raise IngestError(
            f"{what}: {error.str()}; does it exist, and may this user do that? `tierstream doctor` checks it"
        )


class Writer:
    """The transactions of the owner of some partitions.

    The transactional id is made from the first of these partitions. The next owner of that partition uses the same id,
    so it ends an open transaction at once and fences an earlier owner that still writes. An open transaction whose id
    is not used again times out.
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._id: str | None = None
        self._producer: Any = None
        self._all_partitions: list[int] = []

    def take_over(self, places: list[Place]) -> None:
        """Write for these partitions from now on."""
        topic, partition = min(places)
        wanted = f"{self._group}-{topic}-{partition}"
        if wanted != self._id:
            self.discard_producer()
            self._id = wanted

    def discard_producer(self) -> None:
        """Discard the producer; the next one with its id ends the transaction that it left open."""
        if self._producer is not None:
            self._producer.purge()
        self._producer = None

    def begin(self, until: Callable[[], bool]) -> None:
        """Create the producer, which ends a transaction that was left open. Raises Interrupted or IngestError."""
        if self._producer is not None:
            return
        options = {
            "transactional.id": self._id,
            "transaction.timeout.ms": self._settings.request_timeout_ms,
            "linger.ms": 1,
            # A transaction that begins right after another waits for the markers of the first, so it is retried soon.
            "retry.backoff.ms": 5,
            "message.max.bytes": LARGEST_BYTES,
            "queue.buffering.max.messages": 2_000_000,
        }
        producer = Producer(producer_options(self._settings) | options, logger=silent_logger)
        self._retry(lambda: producer.init_transactions(TRY_SECONDS), until, "a transaction can't be begun")
        self._producer = producer
        found = producer.list_topics(self._settings.topic(COMMANDS), timeout=TRY_SECONDS).topics
        self._all_partitions = list(found[self._settings.topic(COMMANDS)].partitions)

    def write(self, items: list[MappedRecord], group_metadata: Any, until: Callable[[], bool]) -> None:
        """Write a batch. Retries end when `until` returns true. Raises Interrupted or IngestError."""
        self.begin(until)
        offsets = {(item.record.topic, item.record.partition): item.record.offset + 1 for item in items}
        positions = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        try:
            self._producer.begin_transaction()
            self._produce(items)
            self._retry(
                lambda: self._producer.send_offsets_to_transaction(positions, group_metadata, TRY_SECONDS),
                until,
                "offsets can't be written",
            )
            self._retry(
                lambda: self._producer.commit_transaction(TRY_SECONDS), until, "a transaction can't be committed"
            )
        except KafkaException as error:
            self._abandon(error.args[0])
            give_up_if_fatal(error.args[0], "events can't be written")
            raise Interrupted(error.args[0].str()) from None
        except Interrupted:
            self.discard_producer()
            raise

    def _produce(self, items: list[MappedRecord]) -> None:
        produce, topics = self._producer.produce, {name: self._settings.topic(name) for name in INPUTS}
        for item in items:
            # 0 lets the producer set it. The timestamp of the record is kept, because the worker compares it with the
            # event's time to refuse events of the future.
            timestamp_ms = item.record.timestamp_ms or 0
            for topic, key, value in item.events:
                for partition in destinations(topic, key, self._all_partitions):
                    produce(topics[topic], value, key, partition, timestamp=timestamp_ms)
            for rejected in item.refused:
                self._produce_dead_letter(item, rejected)

    def _produce_dead_letter(self, item: MappedRecord, rejected: Rejected) -> None:
        one = item.record
        record = Record(one.topic, one.partition, one.offset, one.key, one.value, one.timestamp_ms, rejected)
        key, value, headers = dead_letter_record(DeadLetter(rejected.code, rejected.detail, record))
        self._producer.produce(self._settings.topic(DEAD_LETTERS), value, key, headers=headers)

    def _retry(self, action: Callable[[], None], until: Callable[[], bool], what: str) -> None:
        """Repeat an action as long as that may help. Raises Interrupted, IngestError or KafkaException."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while True:
            try:
                return action()
            except KafkaException as error:
                found = error.args[0]
                if not found.retriable() or found.txn_requires_abort():
                    give_up_if_fatal(found, what)
                    raise
                if until() or time.monotonic() > deadline:
                    raise Interrupted(f"{what}: {found.str()}") from None

    def _abandon(self, error: KafkaError) -> None:
        """Abort the transaction; if that can't be done now, the next producer with this id does it."""
        if not error.txn_requires_abort():
            self.discard_producer()
            return
        try:
            self._producer.abort_transaction(TRY_SECONDS)
        except KafkaException:
            self.discard_producer()
