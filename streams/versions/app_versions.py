"""App versions on the broker: their topics, their workers, their progress, and the cut at which their readers begin.

The cut is kept as one record in the version's topic `census`, which is compacted: so either all of its offsets are
known or none, and it can be read at any time later. (Offsets of a group without members would expire after a week.)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import confluent_kafka
import orjson
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.broker.librdkafka import connection_options, producer_options, reader_options, silent_logger
from streams.settings import CARRIED, Settings
from streams.sources.kafka_log import KafkaLog
from streams.topics import CENSUS, INPUTS, OUTPUTS, topics_of

PATIENCE_SECONDS: Final = 15.0
LOADING_SECONDS: Final = 0.1
CUT: Final = b"cut"
"""Key, in the topic `census`, of the cut: the offsets at which readers begin."""
FEW_OFFSETS: Final = 100
"""So few offsets may all be ends of transactions, without any record."""

AWAY: Final = (
    confluent_kafka.KafkaError._TRANSPORT,
    confluent_kafka.KafkaError._TIMED_OUT,
    confluent_kafka.KafkaError._ALL_BROKERS_DOWN,
    confluent_kafka.KafkaError._RESOLVE,
)

Positions = dict[tuple[str, int], int]
"""Offsets by topic, with its name on the broker, and partition."""
T = TypeVar("T")


class VersionError(RuntimeError):
    """Something can't be done with an app version; the message says why, and what to do."""


class AppVersions:
    """Questions about app versions to the broker, and changes of them. All methods raise VersionError."""

    def __init__(self, settings: Settings) -> None:
        self._broker = settings.broker
        self._settings = settings
        self._admin = AdminClient(connection_options(settings), logger=silent_logger)

    # ------------------------------------------------------------ topics
    def topics(self) -> set[str]:
        """All topics on the broker."""
        try:
            return set(self._admin.list_topics(timeout=PATIENCE_SECONDS).topics)
        except KafkaException as error:
            raise self._away(error.args[0].str()) from None

    def own_topics(self, version: Settings) -> list[str]:
        """The existing topics of an app version that it shares with no other version."""
        inputs, existing = {version.topic(name) for name in INPUTS}, self.topics()
        return [one.name for one in topics_of(version) if one.name in existing and one.name not in inputs]

    def delete(self, version: Settings) -> list[str]:
        """Delete the topics and the workers' group of an app version; returns the names of the topics."""
        names = self.own_topics(version)
        if names:
            for future in self._admin.delete_topics(names, operation_timeout=PATIENCE_SECONDS).values():
                self._answer(future)
        if version.table_app_id in self.groups():
            for future in self._admin.delete_consumer_groups([version.table_app_id]).values():
                self._answer(future)
        return names

    def ends(self, topics: Iterable[str]) -> Positions:
        """The ends of topics now, for readers of committed records."""
        return self._offsets(topics, OffsetSpec.latest(), confluent_kafka.IsolationLevel.READ_COMMITTED)

    def beginnings(self, topics: Iterable[str]) -> Positions:
        """The first offsets of topics now."""
        return self._offsets(topics, OffsetSpec.earliest(), confluent_kafka.IsolationLevel.READ_COMMITTED)

    def since(self, topics: Iterable[str], at_ms: int) -> Positions:
        """Per partition, the first record with this timestamp or a later one; the end if there is none."""
        found = self._offsets(topics, OffsetSpec.for_timestamp(at_ms), confluent_kafka.IsolationLevel.READ_COMMITTED)
        ends = self.ends(topics)
        return {tp: offset if offset >= 0 else ends[tp] for tp, offset in found.items()}

    def undecided(self, topics: Iterable[str]) -> list[str]:
        """Topics with records of a transaction that is still open."""
        topics = list(topics)
        all_ends = self._offsets(topics, OffsetSpec.latest(), confluent_kafka.IsolationLevel.READ_UNCOMMITTED)
        return sorted({tp[0] for tp, end in self.ends(topics).items() if end < all_ends[tp]})

    def _offsets(self, topics: Iterable[str], spec: OffsetSpec, isolation: Any) -> Positions:
        tps = [(name, number) for name in dict.fromkeys(topics) for number in range(self._settings.partitions)]
        if not tps:
            return {}
        futures = self._admin.list_offsets(
            {TopicPartition(*tp): spec for tp in tps}, isolation_level=isolation, request_timeout=PATIENCE_SECONDS
        )
        return {(tp.topic, tp.partition): self._answer(future).offset for tp, future in futures.items()}

    # ------------------------------------------------------------ groups
    def groups(self) -> set[str]:
        """All consumer groups."""
        found = self._answer(self._admin.list_consumer_groups(request_timeout=PATIENCE_SECONDS))
        return {one.group_id for one in found.valid}

    def members(self, group: str) -> list[str]:
        """The members of a group, each by its client's name and address."""
        if group not in self.groups():
            return []
        futures = self._admin.describe_consumer_groups([group], request_timeout=PATIENCE_SECONDS)
        return sorted(f"{one.client_id} at {one.host}" for one in self._answer(futures[group]).members)

    def committed(self, group: str, topics: Iterable[str]) -> Positions:
        """The offsets that a group has committed on topics."""
        wanted, deadline = set(topics), time.monotonic() + PATIENCE_SECONDS
        while True:
            futures = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=PATIENCE_SECONDS
            )
            future = futures[group]
            try:
                error = future.exception(2 * PATIENCE_SECONDS)
            except TimeoutError:
                break
            # A broker that has just started answers its first request about groups with this error.
            is_loading = isinstance(error, KafkaException) and "load in progress" in error.args[0].str()
            if not is_loading or time.monotonic() > deadline:
                break
            time.sleep(LOADING_SECONDS)
        found = self._answer(future).topic_partitions or []
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.topic in wanted and tp.offset >= 0}

    def set_committed(self, group: str, positions: Mapping[tuple[str, int], int]) -> None:
        """Set a group's offsets, in one request; the group may have no members."""
        tps = [TopicPartition(topic, number, offset) for (topic, number), offset in sorted(positions.items())]
        futures = self._admin.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, tps)], request_timeout=PATIENCE_SECONDS
        )
        for tp in self._answer(futures[group]).topic_partitions or []:
            if tp.error is not None:
                raise VersionError(f"the offsets of {group} were not taken: {tp.error.str()}; try again")

    def refuse_workers(self, version: Settings, why: str) -> None:
        """Raises VersionError, which names the workers, if workers of a version are running."""
        members = self.members(version.table_app_id)
        if members:
            raise VersionError(
                f"workers of version {version.app_version} run in the group {version.table_app_id}, {len(members)} of them: "
                f"{', '.join(members)}. {why}"
            )

    # ------------------------------------------------------------ progress
    def input_ends(self) -> Positions:
        """The ends of the inputs now."""
        return self.ends(self._settings.topic(name) for name in INPUTS)

    def carried_left(self, version: Settings, number: int, folded: int) -> int:
        """About how many strays were carried to a partition that has folded those up to an offset."""
        topic = version.topic(CARRIED)
        if topic not in self.topics():
            return 0
        tp = (topic, number)
        return self.count_between({tp: folded + 1}, {tp: self.ends([topic])[tp]})

    def has_strays(self, *versions: Settings) -> bool:
        """Whether one of these versions has ever carried a stray."""
        topics = {one.topic(CARRIED) for one in versions} & self.topics()
        return any(self.ends(topics).values())

    def count_left(self, version: Settings, ends: Positions) -> int:
        """About how many records of the inputs, up to `ends`, a version's workers have not committed yet."""
        inputs = [version.topic(name) for name in INPUTS]
        firsts = self.beginnings(inputs)
        committed = self.committed(version.table_app_id, inputs)
        return self.count_between({tp: max(committed.get(tp, 0), firsts[tp]) for tp in ends}, ends)

    def count_between(self, begin: Mapping[tuple[str, int], int], end: Mapping[tuple[str, int], int]) -> int:
        """About how many records are between two positions; 0 where there are only ends of transactions."""
        counts = {tp: max(0, end[tp] - offset) for tp, offset in begin.items()}
        doubtful = {tp for tp, count in counts.items() if 0 < count <= FEW_OFFSETS}
        if not doubtful:
            return sum(counts.values())
        with_records = self._have_records({tp: begin[tp] for tp in doubtful})
        return sum(count for tp, count in counts.items() if tp not in doubtful or tp in with_records)

    def have_records(self, topics: Iterable[str]) -> bool:
        """Whether topics have any record that was not aborted."""
        first, ends = self.beginnings(topics), self.ends(topics)
        return bool(self._have_records({tp: offset for tp, offset in first.items() if ends[tp] > offset}))

    def _have_records(self, begin: Mapping[tuple[str, int], int]) -> set[tuple[str, int]]:
        """The partitions that have a record at or after their offset in `begin`."""
        consumer = Consumer(reader_options(self._settings, "tierstream-rebuild"), logger=silent_logger)
        found: set[tuple[str, int]] = set()
        seen: set[tuple[str, int]] = set()
        try:
            consumer.assign([TopicPartition(*tp, offset) for tp, offset in begin.items()])
            while seen < set(begin):
                message = consumer.poll(PATIENCE_SECONDS)
                if message is None:
                    raise VersionError(f"the broker at {self._broker} does not answer; try again")
                tp = (message.topic(), message.partition())
                error = message.error()
                if error is None:
                    found.add(tp)
                elif error.code() != confluent_kafka.KafkaError._PARTITION_EOF:
                    raise VersionError(f"{tp[0]} can't be read: {error.str()}")
                seen.add(tp)
        finally:
            consumer.close()
        return found

    # ------------------------------------------------------------ the cut
    def read_cut(self, version: Settings) -> Positions:
        """The offsets in a version's outputs at which readers begin; empty if it was not switched to."""
        topic = version.topic(CENSUS)
        if topic not in self.topics():
            return {}
        log = KafkaLog(version)
        log.begin([CENSUS])
        kept = [message.value() for message in log.messages(CENSUS, 0) if message.key() == CUT]
        if not kept:
            return {}
        by_topic: dict[str, dict[str, int]] = orjson.loads(kept[-1])
        return {(name, int(number)): offset for name, found in by_topic.items() for number, offset in found.items()}

    def record_cut(self, version: Settings) -> Positions:
        """Record the present ends of a version's outputs as the offsets at which readers begin; returns them."""
        positions, failed = self.ends(output_topics(version)), []
        producer = Producer(producer_options(version), logger=silent_logger)
        producer.produce(
            version.topic(CENSUS),
            orjson.dumps(by_topic(positions)),
            CUT,
            partition=0,
            on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
        )
        if producer.flush(PATIENCE_SECONDS) or failed:
            raise VersionError(
                f"the broker at {self._broker} did not take the cut: {failed or 'no answer'}; run this again"
            )
        return positions

    def readers(self, version: Settings) -> list[str]:
        """The groups, except that of its workers, with committed offsets in the outputs of a version."""
        topics = output_topics(version)
        return [group for group in sorted(self.groups() - {version.table_app_id}) if self.committed(group, topics)]

    def _away(self, why: str) -> VersionError:
        return VersionError(
            f"no Kafka answers at {self._broker} ({why}). Start one with ./scripts/kafka up, or set TIERSTREAM_BROKER"
        )

    def _answer(self, future: Future[T]) -> T:
        try:
            return future.result(2 * PATIENCE_SECONDS)
        except TimeoutError:
            raise self._away("timed out") from None
        except KafkaException as error:
            if error.args[0].code() in AWAY:
                raise self._away(error.args[0].str()) from None
            raise VersionError(
                f"the broker at {self._broker} refused: {error.args[0].str()}; see its log, and the rights of this user"
            ) from None


def output_topics(version: Settings) -> list[str]:
    """The topics of a version that others read, with their names on the broker."""
    return [version.topic(name) for name in OUTPUTS]


def by_topic(positions: Positions) -> dict[str, dict[str, int]]:
    """Positions in the form that JSON output has: by topic, then by partition."""
    found: dict[str, dict[str, int]] = {}
    for (topic, number), offset in sorted(positions.items()):
        found.setdefault(topic, {})[str(number)] = offset
    return found
