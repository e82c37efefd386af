"""Seeks to a point in time: makes a new app version whose table is that of the old one at that time.

A table can't be rewound by its offsets: customers would count the same events twice, or, as long as they have the event
ids, ignore them as repeats. The changelog does not help either: it keeps only the latest state of each customer. But
the journal has every batch. So the inputs are folded again from the first record, as the journal says, up to the last
batch before that time; the result becomes the table of a new version, written with its offsets and the journal so far
in one transaction. Nothing of it is announced. Workers of that version continue from there, as those of the old version
did, and announce again what the old version has announced since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, NamedTuple

import confluent_kafka
import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

import models
from streams.broker.librdkafka import producer_options, reader_options, silent_logger
from streams.broker.topic_creation import create_topics
from streams.engine.batch import Batch
from streams.engine.envelope import Headers, carried_record
from streams.engine.journal import Entry
from streams.engine.merge import Origin, Record
from streams.engine.table import Marker, changelog_records
from streams.settings import CARRIED, Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import FOLDED, JOURNAL, changelog_topic, topics_of
from streams.versions.app_versions import PATIENCE_SECONDS, AppVersions, VersionError
from streams.versions.offline_partition import read_table
from streams.versions.table_comparison import Version
from streams.workshop.replay.fold import Replay
from streams.workshop.replay.run import replay_partition

TRANSACTION_SECONDS: Final = 900
"""How long writing may take: the longest that brokers allow by default."""


ENDS_LOOKS: Final = 50
ENDS_SECONDS: Final = 0.1
"""How often, and at which interval, to check whether an aborted transaction has ended in every partition."""


class PastPartition(NamedTuple):
    """A partition as it was at the time in question."""

    entries: list[Entry]
    """The journal entries of the batches up to that time."""
    replay: Replay
    carried: list[Record]
    """The strays that were carried to the partition and folded by these batches, in order."""
    strays: list[Record]
    """The strays that these batches found, for other partitions."""

    @property
    def offsets(self) -> dict[str, int]:
        """Per input topic, the last offset folded."""
        return {topic: last for entry in self.entries for topic, _, last in entry.runs}

    def marker(self, version: Version, offsets: dict[str, int], journal: int) -> Marker:
        """The table's marker at that time, except that this table has published no profiles."""
        partition, last = self.replay.partition, self.entries[-1]
        return Marker(
            last.batch,
            offsets,
            partition.clock_ms if version.settings.clock == "event" else last.until_ms,
            version.policy.ref,
            False,
            journal,
            len(partition.customers),
            partition.checksum,
            partition.editions.as_wire(),
            version.settings.partitioner,
        )


@dataclass
class SeekSummary:
    """What a version that was sought begins with. The field names are those of the command's JSON output."""

    records: int = 0
    """How many records of the inputs are folded in its table."""
    left: int = 0
    """About how many records its workers will have to fold, as of now."""
    customers: int = 0
    announced_again: int = 0
    """How many announcements the old version has made since, which the new version will make again on its own
    topics.
    """
    customers_told_again: int = 0


def check(versions: AppVersions, old: Version, new: Version) -> None:
    """Raises VersionError if the new version can't be made from the old one."""
    if new.number <= old.number:
        raise VersionError(
            f"version {new.number} is not a later one: TIERSTREAM_APP_VERSION is {old.number}; give a larger --to-version"
        )
    if not versions.own_topics(old.settings):
        raise VersionError(
            f"there is no version {old.number} at {old.settings.broker}: nothing to seek in. Look at "
            "TIERSTREAM_TOPIC_PREFIX, TIERSTREAM_APP_ID and TIERSTREAM_APP_VERSION"
        )
    versions.refuse_workers(
        new.settings,
        "Their table can't be replaced while they run: stop them, and give a version that does not exist yet",
    )


def empty_partitions(old: Version) -> list[PastPartition]:
    """Every partition without customers, as it was at the beginning."""
    return [PastPartition([], Replay(old.policy), [], []) for _ in range(old.settings.partitions)]


def partitions_as_of(versions: AppVersions, old: Version, to_ms: int) -> list[PastPartition]:
    """Every partition as it was before the first batch with a record or an advance of that time. Raises LogError,
    JournalError.
    """
    topics = {name: old.settings.topic(name) for name in FOLDED}
    create_topics(old.settings, topics_of(old.settings))  # version 0.1 had no topic of strays
    first_left = versions.since(topics.values(), to_ms)
    log = KafkaLog(old.settings)
    log.begin((*FOLDED, JOURNAL))

    def past(number: int) -> PastPartition:
        limits = {name: first_left[topic, number] for name, topic in topics.items()}
        entries = list(takewhile(lambda entry: _is_before(entry, to_ms, limits), log.entries(number)))
        carried: list[Record] = []
        strays: list[Record] = []

        def on_batch(batch: Batch) -> None:
            carried.extend(batch.carried)
            strays.extend(batch.strays)

        replay = replay_partition(log, number, old.policy, lambda _: None, on_batch, entries)
        return PastPartition(entries, replay, carried, strays)

    return [past(number) for number in log.partitions(JOURNAL)]


def _is_before(entry: Entry, to_ms: int, limits: Mapping[str, int]) -> bool:
    """Whether a batch was before that time: it advanced customers no further, and has no record that arrived later."""
    return entry.until_ms <= to_ms and all(last < limits[topic] for topic, _, last in entry.runs)


async def summarize(versions: AppVersions, old: Version, pasts: Iterable[PastPartition]) -> SeekSummary:
    """What a version that begins with these partitions has, and what it will announce again."""
    found = SeekSummary()
    ends = versions.input_ends()
    begin = dict(versions.beginnings({topic for topic, _ in ends}))
    for number, past in enumerate(pasts):
        now = await read_table(old.settings, number)
        found.customers += len(past.replay.partition.customers)
        for name, last in past.offsets.items():
            if name == CARRIED:
                continue
            tp = (old.settings.topic(name), number)
            found.records += last + 1 - begin[tp]
            begin[tp] = last + 1
        for key, state in now.customers.items():
            then = past.replay.partition.customers.get(key)
            more = models.decode(state).seq - (0 if then is None else models.decode(then).seq)
            found.announced_again += more
            found.customers_told_again += more > 0
    found.left = versions.count_between(begin, ends)
    return found


# ---------------------------------------------------------------- write
def write(versions: AppVersions, new: Version, pasts: list[PastPartition]) -> None:
    """Write the tables, journal and group offsets of the new version in one transaction.

    Raises VersionError if the version has a table already, or if the broker refuses.
    """
    settings = new.settings
    create_topics(settings, topics_of(settings))
    options = {
        "transactional.id": f"{settings.table_app_id}-seek",
        "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
        "linger.ms": 20,
    }
    producer = Producer(producer_options(settings) | options, logger=silent_logger)
    try:
        # Ends an open transaction of an earlier run.
        producer.init_transactions(PATIENCE_SECONDS)
        refuse_existing_table(versions, new)
        producer.begin_transaction()
        on_their_way = strays_on_their_way(pasts)
        offsets = [
            _write_partition(producer, new, number, past, on_their_way.get(number, []))
            for number, past in enumerate(pasts)
        ]
        _add_offsets(producer, settings, offsets)
        versions.refuse_workers(settings, "Stop them; nothing was written")
        commit(producer)
    except KafkaException as error:
        raise VersionError(
            f"the broker at {settings.broker} did not take version {new.number}: {error.args[0].str()}. "
            "Nothing was written; the broker has to allow transactions of up to 15 minutes (transaction.max.timeout.ms)"
        ) from None


def commit(producer: Producer) -> None:
    """Commit the transaction."""
    producer.commit_transaction(TRANSACTION_SECONDS)


def refuse_existing_table(versions: AppVersions, new: Version) -> None:
    """Raises VersionError if a version has a table, or if one is being written."""
    topics = [changelog_topic(new.settings), new.settings.topic(JOURNAL)]
    for _ in range(ENDS_LOOKS):
        undecided = versions.undecided(topics)
        if not undecided:
            break
        time.sleep(ENDS_SECONDS)  # the broker is still writing the end of the transaction that was just aborted
    else:
        raise VersionError(
            f"a transaction on {', '.join(undecided)} is still open: is a worker of version {new.number} "
            "running? Stop it, or give another --to-version"
        )
    if versions.have_records(topics):
        raise VersionError(
            f"version {new.number} has a table already: give another --to-version, or delete this one by "
            f"`tierstream rebuild --to-version {new.number} --abort`"
        )


def strays_on_their_way(pasts: Iterable[PastPartition]) -> dict[int, list[Record]]:
    """By partition, the strays that were found for it at that time, and that it had not folded."""
    pasts = list(pasts)
    arrived = {one.origin for past in pasts for one in past.carried}
    found: dict[int, list[Record]] = {}
    for past in pasts:
        for stray in past.strays:
            if Origin(stray.topic, stray.partition, stray.offset) not in arrived:
                found.setdefault(stray.home, []).append(stray)
    return found


def _write_partition(
    producer: Producer, new: Version, number: int, past: PastPartition, on_their_way: list[Record]
) -> dict[str, int]:
    """Write a partition's strays, journal and table; returns the last offset folded of each of its topics."""
    settings, failed = new.settings, _Failures()
    offsets: list[int] = []

    def on_delivery(error: confluent_kafka.KafkaError | None, message: Any) -> None:
        failed.record(error, message)
        offsets.append(-1 if error is not None else message.offset())

    for record in (*past.carried, *on_their_way):
        _produce(producer, settings.topic(CARRIED), number, *carried_record(record), on_delivery)
    failed.flush(producer)
    if not past.entries:
        return {}
    # In the new version's topic the strays have other offsets.
    renumbered = {record.offset: offset for record, offset in zip(past.carried, offsets, strict=False)}
    folded, key = past.offsets, settings.table_app_id.encode()
    if CARRIED in folded:
        folded[CARRIED] = renumbered[folded[CARRIED]]
    offsets.clear()
    for entry in past.entries:
        value = _with_offsets(entry, renumbered).encode()
        _produce(producer, settings.topic(JOURNAL), number, key, value, [], on_delivery)
    failed.flush(producer)
    # The journal's offset for later batches is only known now.
    marker = past.marker(new, folded, offsets[-1] + 1)
    for changed, value in changelog_records(past.replay.partition.customers, marker):
        _produce(producer, changelog_topic(settings), number, changed, value, [], failed.record)
    failed.flush(producer)
    return folded


def _with_offsets(entry: Entry, carried: Mapping[int, int]) -> Entry:
    """A journal entry in which the strays have these offsets, by those that they had."""
    runs = [
        (name, carried[first], carried[last]) if name == CARRIED else (name, first, last)
        for name, first, last in entry.runs
    ]
    return msgspec.structs.replace(entry, runs=runs)


class _Failures:
    """Collects the failures of produced records."""

    def __init__(self) -> None:
        self._first: confluent_kafka.KafkaError | None = None

    def record(self, error: confluent_kafka.KafkaError | None, message: Any) -> None:
        """To be called when a record was delivered, or not."""
        self._first = self._first or error

    def flush(self, producer: Producer) -> None:
        """Wait until all records are delivered. Raises KafkaException for the first that was not."""
        if producer.flush(TRANSACTION_SECONDS) and self._first is None:
            raise KafkaException(confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT))
        if self._first is not None:
            raise KafkaException(self._first)


def _produce(
    producer: Producer,
    topic: str,
    number: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    on_delivery: Callable[..., None],
) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition=number, headers=headers, on_delivery=on_delivery)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)


def _add_offsets(producer: Producer, settings: Settings, folded: list[dict[str, int]]) -> None:
    """Add the group's offsets, for lag monitors; workers use the marker, which has the same offsets."""
    offsets = [
        TopicPartition(settings.topic(name), number, last + 1)
        for number, of_partition in enumerate(folded)
        for name, last in of_partition.items()
    ]
    if not offsets:
        return
    consumer = Consumer(reader_options(settings, settings.table_app_id), logger=silent_logger)
    try:
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), PATIENCE_SECONDS)
    finally:
        consumer.close()
