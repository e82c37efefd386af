"""Going on from a point in time: a new app version whose table is that of the old one as of then.

A table is a fold. It can't be rewound by its offsets: customers would count the same events twice, or, within the event ids
that they remember, take them for repeats. Nor is what it was still in the changelog, which keeps the latest of each customer.
But the journal has every batch that led there. So the inputs are folded again from their beginning, as the journal says, up
to the last batch before that time; what comes of it becomes the table of a version of its own, with the offsets that belong to it
and the journal so far, all in one transaction. Nothing of it is announced. Workers of that version go on from there, as those
of the old one did, and what they announce is what the old one has announced since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, NamedTuple

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

import models
from streams.broker.librdkafka import quiet, reading, writing
from streams.broker.topic_creation import create_topics
from streams.engine.journal import Entry
from streams.engine.table import Marker, changelog_records
from streams.settings import Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import INPUTS, JOURNAL, changelog_topic, topics_of
from streams.versions.app_versions import PATIENCE_SECONDS, VersionError, Versions
from streams.versions.offline_partition import read_table
from streams.versions.two_tables import Version
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import replay_partition

TRANSACTION_SECONDS: Final = 900
"""How long writing may take: the longest that brokers allow unless told otherwise."""


ENDS_LOOKS: Final = 50
ENDS_SECONDS: Final = 0.1
"""How often, and after how long, it is looked again whether an aborted transaction has its end."""


class Past(NamedTuple):
    """A partition as it was."""

    entries: list[Entry]
    """What led there."""
    replay: Replay

    @property
    def offsets(self) -> dict[str, int]:
        """Per input topic, the last offset folded."""
        return {topic: last for entry in self.entries for topic, _, last in entry.runs}

    def marker(self, version: Version, journal: int) -> Marker:
        """What the table's marker was, but that no profiles have been published of this one."""
        partition, last = self.replay.partition, self.entries[-1]
        return Marker(
            last.batch,
            self.offsets,
            partition.clock_ms if version.settings.clock == "event" else last.until_ms,
            version.policy.ref,
            False,
            journal,
            len(partition.customers),
            partition.checksum,
            partition.editions.as_wire(),
        )


@dataclass
class Sought:
    """What a version begins with."""

    records: int = 0
    """Of the inputs, folded before it."""
    left: int = 0
    """And those that its workers will fold, as of now."""
    customers: int = 0
    announced_again: int = 0
    """What the old version has announced since, and the new one will announce on topics of its own."""
    customers_told_again: int = 0


def check(versions: Versions, old: Version, new: Version) -> None:
    """Raises VersionError if the new version can't be made of the old one."""
    if new.number <= old.number:
        raise VersionError(
            f"version {new.number} is no next one: TIERSTREAM_APP_VERSION is {old.number}; give a larger --to-version"
        )
    if not versions.own_topics(old.settings):
        raise VersionError(
            f"there is no version {old.number} at {old.settings.broker}: nothing to go back in. Look at "
            "TIERSTREAM_TOPIC_PREFIX, TIERSTREAM_APP_ID and TIERSTREAM_APP_VERSION"
        )
    versions.refuse_workers(
        new.settings, "A table is not changed under them: stop them, and give a version that is not begun"
    )


def no_past(old: Version) -> list[Past]:
    """The beginning."""
    return [Past([], Replay(old.policy)) for _ in range(old.settings.partitions)]


def past_of(versions: Versions, old: Version, to_ms: int) -> list[Past]:
    """Every partition as it was before the first record, or turn of the clock, of that time. Raises LogError, JournalError."""
    topics = {name: old.settings.topic(name) for name in INPUTS}
    first_left = versions.since(topics.values(), to_ms)
    log = KafkaLog(old.settings)
    log.begin((*INPUTS, JOURNAL))

    def past(number: int) -> Past:
        limits = {name: first_left[topic, number] for name, topic in topics.items()}
        entries = list(takewhile(lambda entry: _is_before(entry, to_ms, limits), log.entries(number)))
        replay = replay_partition(log, number, old.policy, lambda _: None, lambda _: None, entries)
        return Past(entries, replay)

    return [past(number) for number in log.partitions(JOURNAL)]


def _is_before(entry: Entry, to_ms: int, limits: Mapping[str, int]) -> bool:
    """Whether a batch was over by then: in time, and with nothing in it that came later."""
    return entry.until_ms <= to_ms and all(last < limits[topic] for topic, _, last in entry.runs)


async def sought(versions: Versions, old: Version, pasts: Iterable[Past]) -> Sought:
    """What a version that begins there has, and what it will tell again."""
    found = Sought()
    ends = versions.input_ends()
    begin = dict(versions.beginnings({topic for topic, _ in ends}))
    for number, past in enumerate(pasts):
        now = await read_table(old.settings, number)
        found.customers += len(past.replay.partition.customers)
        for name, last in past.offsets.items():
            tp = (old.settings.topic(name), number)
            found.records += last + 1 - begin[tp]
            begin[tp] = last + 1
        for key, state in now.customers.items():
            then = past.replay.partition.customers.get(key)
            more = models.decode(state).seq - (0 if then is None else models.decode(then).seq)
            found.announced_again += more
            found.customers_told_again += more > 0
    found.left = versions.between(begin, ends)
    return found


# ---------------------------------------------------------------- writing
def write(versions: Versions, new: Version, pasts: list[Past]) -> None:
    """Give the new version its tables, the journal that led there, and the group's offsets: all of it, or nothing.

    Raises VersionError if it has a table already, or the broker refuses.
    """
    settings = new.settings
    create_topics(settings, topics_of(settings))
    options = {
        "transactional.id": f"{settings.table_app_id}-seek",
        "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
        "linger.ms": 20,
    }
    producer = Producer(writing(settings) | options, logger=quiet)
    try:
        # Ends what a run before this one left open.
        producer.init_transactions(PATIENCE_SECONDS)
        refuse_what_is_begun(versions, new)
        producer.begin_transaction()
        for number, past in enumerate(pasts):
            if past.entries:
                _write_partition(producer, new, number, past)
        _add_offsets(producer, settings, pasts)
        versions.refuse_workers(settings, "Stop them; nothing was written")
        commit(producer)
    except KafkaException as error:
        raise VersionError(
            f"the broker at {settings.broker} did not take version {new.number}: {error.args[0].str()}. Nothing of it was written; "
            "it needs transactions of up to 15 minutes (transaction.max.timeout.ms)"
        ) from None


def commit(producer: Producer) -> None:
    """Make it so."""
    producer.commit_transaction(TRANSACTION_SECONDS)


def refuse_what_is_begun(versions: Versions, new: Version) -> None:
    """Raises VersionError if a version has a table, or somebody is writing one."""
    topics = [changelog_topic(new.settings), new.settings.topic(JOURNAL)]
    for _ in range(ENDS_LOOKS):
        undecided = versions.undecided(topics)
        if not undecided:
            break
        time.sleep(ENDS_SECONDS)  # the end of what was just aborted is being written
    else:
        raise VersionError(
            f"somebody is writing to {', '.join(undecided)} in a transaction that is still open: a worker of version "
            f"{new.number}? Stop it, or give another --to-version"
        )
    if versions.have_records(topics):
        raise VersionError(
            f"version {new.number} has a table already: give a --to-version that is not begun, or delete it by `tierstream rebuild "
            f"--to-version {new.number} --abort`"
        )


def _write_partition(producer: Producer, new: Version, number: int, past: Past) -> None:
    settings, failed = new.settings, _Failures()
    journal: list[int] = []

    def noted(error: confluent_kafka.KafkaError | None, message: Any) -> None:
        failed.note(error, message)
        journal.append(-1 if error is not None else message.offset())

    key = settings.table_app_id.encode()
    for entry in past.entries:
        _produce(producer, settings.topic(JOURNAL), number, key, entry.encode(), noted)
    failed.flush(producer)
    # Where entries of later batches are found is known only now.
    marker = past.marker(new, journal[-1] + 1)
    for changed, value in changelog_records(past.replay.partition.customers, marker):
        _produce(producer, changelog_topic(settings), number, changed, value, failed.note)
    failed.flush(producer)


class _Failures:
    """What the broker did not take."""

    def __init__(self) -> None:
        self._first: confluent_kafka.KafkaError | None = None

    def note(self, error: confluent_kafka.KafkaError | None, message: Any) -> None:
        """Whether a record was taken."""
        self._first = self._first or error

    def flush(self, producer: Producer) -> None:
        """Wait for all. Raises KafkaException for the first that was not taken."""
        if producer.flush(TRANSACTION_SECONDS) and self._first is None:
            raise KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))
        if self._first is not None:
            raise KafkaException(self._first)


def _produce(producer: Producer, topic: str, number: int, key: bytes, value: bytes, noted: Callable[..., None]) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition=number, on_delivery=noted)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)


def _add_offsets(producer: Producer, settings: Settings, pasts: list[Past]) -> None:
    """The group's offsets, for lag monitors; workers go by the marker, which says the same."""
    offsets = [
        TopicPartition(settings.topic(name), number, last + 1)
        for number, past in enumerate(pasts)
        for name, last in past.offsets.items()
    ]
    if not offsets:
        return
    consumer = Consumer(reading(settings, settings.table_app_id), logger=quiet)
    try:
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), PATIENCE_SECONDS)
    finally:
        consumer.close()
