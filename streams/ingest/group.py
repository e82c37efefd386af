"""What an ingest asks the broker before it begins: whether the topics exist, and at which offsets its group begins."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from models import units
from streams.broker.librdkafka import reader_options, silent_logger
from streams.ingest.record_rows import SourceRecord
from streams.ingest.writer import IngestError
from streams.settings import Settings

PATIENCE_SECONDS: Final = 10.0
COORDINATOR_SECONDS: Final = 30.0
"""How long a broker that has just started may take until it serves consumer groups."""
NO_COORDINATOR_YET: Final = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
GROUP_HAS_MEMBERS: Final = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION)


@contextmanager
def _consumer(settings: Settings, group: str, options: dict[str, Any] | None = None) -> Iterator[Any]:
    with closing(Consumer(reader_options(settings, group) | (options or {}), logger=silent_logger)) as consumer:
        try:
            yield consumer
        except KafkaException as error:
            raise IngestError(
                f"no Kafka answers at {settings.broker} ({error.args[0].str()}). "
                "Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
            ) from None


def commit_start_offsets(settings: Settings, group: str, topics: Collection[str], since: str) -> None:
    """Commit the offsets at which a group begins in topics for which it has committed none. Raises IngestError.

    This is done before joining the group. Once the group has a member, the broker accepts commits only from members; in
    that case the member has done the same, so the refusal is ignored. A partition that is added to a topic later is
    read from its beginning. Transactions that a dead process left open do not matter for a beginning, so they are not
    waited for.
    """
    with _consumer(settings, group, {"isolation.level": "read_uncommitted"}) as consumer:
        for topic in topics:
            _commit_start_offsets(consumer, _places(consumer, settings, topic), since)


def _has_no_coordinator(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in NO_COORDINATOR_YET


@retry(
    retry=retry_if_exception(_has_no_coordinator),
    stop=stop_after_delay(COORDINATOR_SECONDS),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _commit_start_offsets(consumer: Any, places: Sequence[Any], since: str) -> None:
    known = consumer.committed(list(places), timeout=PATIENCE_SECONDS)
    if any(one.offset != OFFSET_INVALID for one in known):
        return
    try:
        consumer.commit(offsets=_beginnings(consumer, places, since), asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in GROUP_HAS_MEMBERS:
            raise


def sample(settings: Settings, topic: str, count: int, since: str) -> list[SourceRecord]:
    """Some records of a topic: the first from a time or the beginning on; with `now` the latest. Raises IngestError."""
    with _consumer(settings, f"tierstream-check-{uuid.uuid4()}") as consumer:
        places = _places(consumer, settings, topic)
        if since == "now":
            for one in places:
                first, end = consumer.get_watermark_offsets(one, timeout=PATIENCE_SECONDS)
                one.offset = max(first, end - count)
        else:
            places = _beginnings(consumer, places, since)
        consumer.assign(places)
        found: list[SourceRecord] = []
        left = {one.partition: count for one in places}
        while left:
            message = consumer.poll(PATIENCE_SECONDS)
            if message is None:
                raise IngestError(f"{topic} does not answer; is the broker at {settings.broker} well?")
            number, error = message.partition(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise IngestError(f"{topic} can't be read: {error.str()}")
            if number not in left:
                continue
            if error is None:
                found.append(SourceRecord.of(message))
                left[number] -= 1
            if error is not None or not left[number]:
                del left[number]
                consumer.pause([TopicPartition(topic, number)])
        found.sort(key=lambda record: (record.timestamp_ms or 0, record.partition, record.offset))
        return found[-count:] if since == "now" else found[:count]


def _places(consumer: Any, settings: Settings, topic: str) -> list[Any]:
    found = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic]
    if found.error is not None:
        raise IngestError(
            f"there is no topic {topic} at {settings.broker}, or this user may not read it ({found.error.str()})"
        )
    return [TopicPartition(topic, number) for number in sorted(found.partitions)]


def _beginnings(consumer: Any, places: Sequence[Any], since: str) -> list[Any]:
    """For each partition the offset to begin at, which can be committed."""
    found = []
    at = {} if since in ("beginning", "now") else _offsets_at(consumer, places, units.parse_time(since))
    for one in places:
        first, end = consumer.get_watermark_offsets(one, timeout=PATIENCE_SECONDS)
        offset = {"beginning": first, "now": end}.get(since, at.get(one.partition, end))
        found.append(TopicPartition(one.topic, one.partition, max(first, offset)))
    return found


def _offsets_at(consumer: Any, places: Sequence[Any], at_ms: int) -> dict[int, int]:
    """For each partition the offset of the first record at `at_ms` or later, if there is one."""
    times = [TopicPartition(one.topic, one.partition, at_ms) for one in places]
    found = consumer.offsets_for_times(times, timeout=PATIENCE_SECONDS)
    return {
        one.partition: one.offset
        for one in found
        if one.offset not in (OFFSET_BEGINNING, OFFSET_END) and one.offset >= 0
    }
