"""The check of `tierstream doctor` on how the inputs' records are placed: which partitioner their producers have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from models.placement import EVERYBODY_KEY
from streams.broker.librdkafka import PARTITIONERS as BY_LIBRDKAFKA
from streams.broker.librdkafka import read_records, reader_options, silent_logger
from streams.doctor.finding import Finding, ok, warning
from streams.settings import Settings
from streams.topics import INPUTS

LATEST_RECORDS: Final = 50
"""How many of the latest records of each partition are looked at."""
PATIENCE_SECONDS: Final = 5.0
FEWEST_KEYS: Final = 20
"""With fewer keys chance may speak for a partitioner."""


def check_partitioners(settings: Settings) -> Iterator[Finding]:
    """Compare where the latest records of each input are with where their customers live. What can't be read is left out:
    other checks report it.
    """
    if settings.partitions == 1:
        return
    examined, strange = 0, False
    for name in INPUTS:
        try:
            keys = _latest_keys(settings, settings.topic(name))
        except (KafkaException, TimeoutError, OSError):
            continue
        examined += len(keys)
        for finding in _judge(settings, settings.topic(name), keys):
            strange = True
            yield finding
    if examined and not strange:
        yield ok("partitioner", f"the latest records are where their customers live by {settings.partitioner}")


def _judge(settings: Settings, topic: str, keys: Iterable[tuple[bytes, int]]) -> Iterator[Finding]:
    """A warning if keys of a topic, each with its partition, are elsewhere than their customers."""
    keys = set(keys)
    strangers = settings.placement.strangers(keys)
    strays = strangers[settings.partitioner]
    if not strays:
        return
    best = min(strangers, key=strangers.__getitem__)
    what = f"of the {len(keys)} latest keys of {topic}, {strays} are in another partition than {settings.partitioner} gives"
    if not strangers[best] and len(keys) >= FEWEST_KEYS:
        what += f"; all are where {best} puts them"
    outcome = "carries them to their customers" if settings.strays == "carry" else "refuses them"
    yield warning(
        "partitioner",
        f"{what}. The worker {outcome}",
        f"Give their producers the partitioner {settings.partitioner} (librdkafka: "
        f"partitioner={BY_LIBRDKAFKA[settings.partitioner]}; docs/clients.md); or, for a new table, set "
        f"TIERSTREAM_PARTITIONER={best} if all producers have it",
    )


def _latest_keys(settings: Settings, topic: str) -> list[tuple[bytes, int]]:
    """The keys of the latest records of each partition of a topic, with the partition's number."""

    def failed(message: str) -> Exception:
        return OSError(message)

    consumer = Consumer(reader_options(settings, "tierstream-doctor"), logger=silent_logger)
    try:
        ranges = {}
        for number in range(settings.partitions):
            first, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE_SECONDS)
            ranges[number] = (max(first, end - LATEST_RECORDS), end)
        found = read_records(consumer, topic, ranges, failed)
        return [(key, one.partition()) for one in found if (key := one.key()) not in (None, b"", EVERYBODY_KEY)]
    finally:
        consumer.close()
