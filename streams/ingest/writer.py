"""Writes what a batch brings, and how far the sources are dealt with, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from models.bodies import EVERYBODY
from models.events import Rejected
from models.outputs import DEAD_LETTERS
from streams.broker.librdkafka import LARGEST_BYTES, quiet, writing
from streams.engine.batch import DeadLetter
from streams.engine.envelope import dead_letter_record
from streams.engine.merge import Record
from streams.ingest.partition_merge import Place
from streams.ingest.record_mapping import MappedRecord
from streams.settings import Settings
from streams.topics import COMMANDS, INPUTS

TRY_SECONDS: Final = 5.0
BEGIN_SECONDS: Final = 30.0
EVERYBODY_KEY: Final = EVERYBODY.encode()
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
"""What does not pass by itself."""


class IngestError(Exception):
    """Something that does not pass by itself; the message says what to do."""


class Interrupted(Exception):
    """A batch that was not written, or of which that is not known; what is not committed is read again."""


def give_up_if_fatal(error: KafkaError, what: str) -> None:
    """Raises IngestError for what does not pass by itself."""
    if error.code() in FATAL:
        raise IngestError(f"{what}: {error.str()}; does it exist, and may this user do that? `tierstream doctor` looks")


class Writer:
    """Transactions of whoever owns certain partitions.

    A transactional id belongs to the first of its owner's partitions: whoever has these next ends what was left open, at once,
    and fences whoever thinks that they are still theirs. What is left open under an id that nobody takes over times out.
    """

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._id: str | None = None
        self._producer: Any = None
        self._everybody: list[int] = []

    def own(self, places: list[Place]) -> None:
        """Write for these partitions from now on."""
        topic, partition = min(places)
        wanted = f"{self._group}-{topic}-{partition}"
        if wanted != self._id:
            self.drop()
            self._id = wanted

    def drop(self) -> None:
        """Forget the producer; the next one ends what it left open."""
        if self._producer is not None:
            self._producer.purge()
        self._producer = None

    def begin(self, until: Callable[[], bool]) -> None:
        """Be ready to write, with nothing of before left open. Raises Interrupted or IngestError."""
        if self._producer is not None:
            return
        options = {
            "transactional.id": self._id,
            "transaction.timeout.ms": self._settings.request_timeout_ms,
            "linger.ms": 1,
            # A transaction that begins right after another waits for the markers of that one: looked at soon again.
            "retry.backoff.ms": 5,
            "message.max.bytes": LARGEST_BYTES,
            "queue.buffering.max.messages": 2_000_000,
        }
        producer = Producer(writing(self._settings) | options, logger=quiet)
        self._tried(lambda: producer.init_transactions(TRY_SECONDS), until, "a transaction can't be begun")
        self._producer = producer
        found = producer.list_topics(self._settings.topic(COMMANDS), timeout=TRY_SECONDS).topics
        self._everybody = list(found[self._settings.topic(COMMANDS)].partitions)

    def write(self, items: list[MappedRecord], group_metadata: Any, until: Callable[[], bool]) -> None:
        """Write a batch. Raises Interrupted or IngestError; `until` says when it is no longer tried."""
        self.begin(until)
        offsets = {(item.record.topic, item.record.partition): item.record.offset + 1 for item in items}
        positions = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        try:
            self._producer.begin_transaction()
            self._produce(items)
            self._tried(
                lambda: self._producer.send_offsets_to_transaction(positions, group_metadata, TRY_SECONDS),
                until,
                "offsets can't be written",
            )
            self._tried(
                lambda: self._producer.commit_transaction(TRY_SECONDS), until, "a transaction can't be committed"
            )
        except KafkaException as error:
            self._abandon(error.args[0])
            give_up_if_fatal(error.args[0], "events can't be written")
            raise Interrupted(error.args[0].str()) from None
        except Interrupted:
            self.drop()
            raise

    def _produce(self, items: list[MappedRecord]) -> None:
        produce, topics = self._producer.produce, {name: self._settings.topic(name) for name in INPUTS}
        for item in items:
            # Without any, the producer's own. One that is as old as the event is no event of the future to the worker.
            timestamp_ms = item.record.timestamp_ms or 0
            for topic, key, value in item.made:
                if topic == COMMANDS and key == EVERYBODY_KEY:
                    for partition in self._everybody:
                        produce(topics[topic], value, key, partition, timestamp=timestamp_ms)
                else:
                    produce(topics[topic], value, key, timestamp=timestamp_ms)
            for rejected in item.refused:
                self._produce_letter(item, rejected)

    def _produce_letter(self, item: MappedRecord, rejected: Rejected) -> None:
        one = item.record
        record = Record(one.topic, one.partition, one.offset, one.key, one.value, one.timestamp_ms, rejected)
        key, value, headers = dead_letter_record(DeadLetter(rejected.code, rejected.detail, record))
        self._producer.produce(self._settings.topic(DEAD_LETTERS), value, key, headers=headers)

    def _tried(self, act: Callable[[], None], until: Callable[[], bool], what: str) -> None:
        """Do it again as long as that may help."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while True:
            try:
                return act()
            except KafkaException as error:
                found = error.args[0]
                if not found.retriable() or found.txn_requires_abort():
                    give_up_if_fatal(found, what)
                    raise
                if until() or time.monotonic() > deadline:
                    raise Interrupted(f"{what}: {found.str()}") from None

    def _abandon(self, error: KafkaError) -> None:
        """Leave nothing open; where that can't be done now, the next producer of this id does it."""
        if not error.txn_requires_abort():
            self.drop()
            return
        try:
            self._producer.abort_transaction(TRY_SECONDS)
        except KafkaException:
            self.drop()
