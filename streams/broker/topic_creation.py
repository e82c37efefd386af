"""Creates Tierstream's topics on the broker, and checks the existing ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from streams.broker.librdkafka import connection_options, silent_logger
from streams.settings import Settings

PATIENCE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.05
NOT_LED_YET: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
"""The errors of a broker that does not know yet that it leads a partition."""


class TopicsError(RuntimeError):
    """Topics can't be created, or existing ones have a wrong partition count; the message says what to do."""


class WantedTopic(Protocol):
    """A topic as it has to be on the broker; `streams.topics.topics_of` lists those of an installation."""

    @property
    def name(self) -> str:
        """Its name on the broker."""

    @property
    def configs(self) -> dict[str, str]:
        """Its configuration, as Kafka names it."""


def create_topics(settings: Settings, wanted: Sequence[WantedTopic]) -> list[str]:
    """Create the wanted topics that are missing, and check the partition counts of all. Returns the names of the
    created ones.

    Raises TopicsError.
    """
    try:
        # Closed explicitly: an exception that is kept would keep its threads running.
        with AdminClient(connection_options(settings), logger=silent_logger) as admin:
            return _create(admin, settings, wanted)
    except KafkaException as error:
        raise TopicsError(f"the broker at {settings.broker} refused: {error.args[0].str()}") from None


def _create(admin: AdminClient, settings: Settings, wanted: Sequence[WantedTopic]) -> list[str]:
    existing = _partition_counts(admin, settings)
    missing = [
        NewTopic(topic.name, settings.partitions, settings.replication, config=topic.configs)
        for topic in wanted
        if topic.name not in existing
    ]
    created = []
    if missing:
        for name, done in admin.create_topics(missing, operation_timeout=PATIENCE_SECONDS).items():
            try:
                done.result()
                created.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker has created it
                    raise
    _check_counts(_wait_for_all(admin, settings, wanted), settings, wanted)
    if created:
        _wait_for_leaders(admin, settings, created)
    return created


def _partition_counts(admin: AdminClient, settings: Settings) -> dict[str, int]:
    """How many partitions each topic on the broker has. Raises TopicsError if no broker answers."""
    try:
        found = admin.list_topics(timeout=PATIENCE_SECONDS).topics
    except KafkaException as error:
        raise TopicsError(
            f"no Kafka answers at {settings.broker} ({error.args[0].str()}). Start one with ./scripts/kafka up, or set "
            "TIERSTREAM_BROKER"
        ) from None
    return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None and topic.partitions}


def _wait_for_all(admin: AdminClient, settings: Settings, wanted: Sequence[WantedTopic]) -> dict[str, int]:
    """The partition counts, once the broker shows all wanted topics. Raises TopicsError if it does not in time."""
    names, deadline = {topic.name for topic in wanted}, time.monotonic() + PATIENCE_SECONDS
    while not names <= (found := _partition_counts(admin, settings)).keys():
        if time.monotonic() > deadline:
            raise TopicsError(
                f"the broker at {settings.broker} does not show {', '.join(sorted(names - found.keys()))} after "
                f"{PATIENCE_SECONDS:.0f} s. Try again, or run tierstream doctor"
            )
        time.sleep(POLL_SECONDS)
    return found


def _wait_for_leaders(admin: AdminClient, settings: Settings, created: Sequence[str]) -> None:
    """Wait until every partition of new topics has a leader that answers. Raises TopicsError if one has none in time.

    The metadata name a leader before that broker knows that it leads, and until then it refuses requests.
    """
    waiting = {TopicPartition(name, number) for name in created for number in range(settings.partitions)}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting:
        asked = admin.list_offsets({tp: OffsetSpec.latest() for tp in waiting}, request_timeout=PATIENCE_SECONDS)
        waiting = {tp for tp, answer in asked.items() if not _is_answered(answer)}
        if waiting and time.monotonic() > deadline:
            one = min(waiting, key=lambda tp: (tp.topic, tp.partition))
            raise TopicsError(
                f"{one.topic}, partition {one.partition} has no leader that answers after {PATIENCE_SECONDS:.0f} s; is the "
                f"broker at {settings.broker} well? Try again, or run tierstream doctor"
            )
        time.sleep(POLL_SECONDS if waiting else 0)


def _is_answered(answer: Future[Any]) -> bool:
    """Whether a partition's leader answered. Raises KafkaException for what waiting does not cure."""
    try:
        answer.result()
    except KafkaException as error:
        if not error.args[0].retriable() and error.args[0].code() not in NOT_LED_YET:
            raise
        return False
    return True


def _check_counts(found: dict[str, int], settings: Settings, wanted: Sequence[WantedTopic]) -> None:
    for topic in wanted:
        if found[topic.name] != settings.partitions:
            raise TopicsError(
                f"topic {topic.name} has {found[topic.name]} partitions, but TIERSTREAM_PARTITIONS is "
                f"{settings.partitions}. Every topic needs the same number: set TIERSTREAM_PARTITIONS={found[topic.name]}, "
                "or start over under another TIERSTREAM_TOPIC_PREFIX and TIERSTREAM_APP_VERSION"
            )
