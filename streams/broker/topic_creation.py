"""Creates Tierstream's topics on the broker, and checks the existing ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic, OffsetSpec

from streams.broker.librdkafka import connection_options, reader_options, silent_logger
from streams.settings import Settings

PATIENCE_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 2.0
"""How long a broker may take to answer before a message says that it is waited for."""
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


def create_topics(
    settings: Settings,
    wanted: Sequence[WantedTopic],
    patience_seconds: float = PATIENCE_SECONDS,
    on_wait: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Create the wanted topics that are missing, and check the partition counts of all. Returns the names of the
    created ones.

    Each step waits for a broker that has not come up yet for `patience_seconds` at the most; `on_wait` is called with a sentence then. Raises
    TopicsError.
    """
    try:
        # Closed explicitly: an exception that is kept would keep its threads running.
        with AdminClient(connection_options(settings), logger=silent_logger) as admin:
            return _create(admin, settings, wanted, patience_seconds, on_wait)
    except KafkaException as error:
        raise TopicsError(f"the broker at {settings.broker} refused: {error.args[0].str()}") from None


def check_topics(settings: Settings, wanted: Sequence[WantedTopic]) -> None:
    """Raises TopicsError if no broker answers, or a wanted topic is missing or has a wrong partition count."""
    try:
        with AdminClient(connection_options(settings), logger=silent_logger) as admin:
            found = _shown(admin, settings)
    except KafkaException as error:
        raise TopicsError(f"the broker at {settings.broker} refused: {error.args[0].str()}") from None
    missing = [topic.name for topic in wanted if topic.name not in found]
    if missing:
        raise TopicsError(
            f"there is no topic {missing[0]} at {settings.broker}: run tierstream topics create, or start a worker; if the "
            "topics have other names there, set TIERSTREAM_TOPIC_PREFIX"
        )
    _check_counts(found, settings, wanted)


def refuse_hidden_topics(settings: Settings, names: Iterable[str]) -> None:
    """Raise TopicsError if this user may not see one of the topics: a reader of such a topic would wait for ever."""
    try:
        hidden = hidden_topics(settings, names)
    except KafkaException as error:
        raise _no_answer(settings, error) from None
    if hidden:
        raise TopicsError(
            f"the broker at {settings.broker} does not let this user see {', '.join(hidden)}: give it the rights that "
            "docs/running.md lists"
        )


def hidden_topics(settings: Settings, names: Iterable[str]) -> list[str]:
    """Those of some topics that this user may not see; the broker does not say whether they exist. Raises KafkaException.

    A consumer asks, and by name: a broker leaves them out of a list of all topics, and creates none that a consumer names.
    """
    with closing(Consumer(reader_options(settings, "nobody"), logger=silent_logger)) as consumer:
        found = {name: consumer.list_topics(name, timeout=PATIENCE_SECONDS).topics[name].error for name in names}
    return sorted(
        name for name, error in found.items() if error and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    )


def _existing_topics(
    admin: AdminClient, settings: Settings, names: set[str], patience_seconds: float, on_wait: Callable[[str], None]
) -> set[str]:
    """The topics on the broker, once it answers, and once there are as many brokers as missing topics need. Raises
    TopicsError if none answers in time.
    """
    started = time.monotonic()
    deadline, has_said = started + patience_seconds, False
    while True:
        try:
            # Briefly, time and again: while the client waits, nobody can interrupt it.
            found = admin.list_topics(timeout=max(min(deadline - time.monotonic(), QUIET_SECONDS), POLL_SECONDS))
            existing = _partition_counts(found).keys()
            brokers = 1 if names <= existing else settings.replication
            # Too few in the end: it is for the broker to refuse.
            if len(found.brokers) >= brokers or time.monotonic() >= deadline:
                return set(existing)
            time.sleep(POLL_SECONDS)
        except KafkaException as error:
            if time.monotonic() >= deadline:
                raise _no_answer(settings, error) from None
            brokers = 1
        if not has_said and time.monotonic() - started >= QUIET_SECONDS:
            what = "Kafka" if brokers == 1 else f"{brokers} brokers (TIERSTREAM_REPLICATION)"
            on_wait(f"waiting for {what} at {settings.broker}, {patience_seconds:.0f} s at the most")
            has_said = True


def _create(
    admin: AdminClient,
    settings: Settings,
    wanted: Sequence[WantedTopic],
    patience_seconds: float,
    on_wait: Callable[[str], None],
) -> list[str]:
    existing = _existing_topics(admin, settings, {topic.name for topic in wanted}, patience_seconds, on_wait)
    missing = [
        NewTopic(topic.name, settings.partitions, settings.replication, config=topic.configs)
        for topic in wanted
        if topic.name not in existing
    ]
    created = []
    if missing:
        for name, done in admin.create_topics(missing, operation_timeout=patience_seconds).items():
            try:
                done.result()
                created.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker has created it
                    raise
    _check_counts(_wait_for_all(admin, settings, wanted, patience_seconds), settings, wanted)
    if created:
        _wait_for_leaders(admin, settings, created, patience_seconds)
    return created


def _partition_counts(found: ClusterMetadata) -> dict[str, int]:
    """How many partitions each topic has."""
    return {
        name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None and topic.partitions
    }


def _shown(admin: AdminClient, settings: Settings) -> dict[str, int]:
    try:
        return _partition_counts(admin.list_topics(timeout=PATIENCE_SECONDS))
    except KafkaException as error:
        raise _no_answer(settings, error) from None


def _no_answer(settings: Settings, error: KafkaException) -> TopicsError:
    return TopicsError(
        f"no Kafka answers at {settings.broker} ({error.args[0].str()}). Start one with ./scripts/kafka up, or set "
        "TIERSTREAM_BROKER"
    )


def _wait_for_all(
    admin: AdminClient, settings: Settings, wanted: Sequence[WantedTopic], patience_seconds: float
) -> dict[str, int]:
    """The partition counts, once the broker shows all wanted topics. Raises TopicsError if it does not in time."""
    names, deadline = {topic.name for topic in wanted}, time.monotonic() + patience_seconds
    while not names <= (found := _shown(admin, settings)).keys():
        if time.monotonic() > deadline:
            raise TopicsError(
                f"the broker at {settings.broker} does not show {', '.join(sorted(names - found.keys()))} after "
                f"{patience_seconds:.0f} s. Try again, or run tierstream doctor"
            )
        time.sleep(POLL_SECONDS)
    return found


def _wait_for_leaders(admin: AdminClient, settings: Settings, created: Sequence[str], patience_seconds: float) -> None:
    """Wait until every partition of new topics has a leader that answers. Raises TopicsError if one has none in time.

    The metadata name a leader before that broker knows that it leads, and until then it refuses requests.
    """
    waiting = {TopicPartition(name, number) for name in created for number in range(settings.partitions)}
    deadline = time.monotonic() + patience_seconds
    while waiting:
        asked = admin.list_offsets({tp: OffsetSpec.latest() for tp in waiting}, request_timeout=PATIENCE_SECONDS)
        waiting = {tp for tp, answer in asked.items() if not _is_answered(answer)}
        if waiting and time.monotonic() > deadline:
            one = min(waiting, key=lambda tp: (tp.topic, tp.partition))
            raise TopicsError(
                f"{one.topic}, partition {one.partition} has no leader that answers after {patience_seconds:.0f} s; is the "
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
